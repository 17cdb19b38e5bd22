//! What each path carries: messages, signals, or only heartbeats.

use bytes::Bytes;
use core::time::Duration;

use super::{Connection, ConnectionEvent, Path, Timestamp, connection::State};
use crate::protocol::{EndReason, PathPolicy};

/// How long the first direct path of a connection that allows nothing else may take.
const FIRST_DIRECT: Duration = Duration::from_secs(15);

/// What may be written into a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathContents {
    pub(super) signals: bool,
    pub(super) messages: bool,
}

/// A connection that allows direct paths only, until it has its first and the game is told that it is connected.
#[derive(Debug)]
pub(super) struct DirectWait {
    since: Timestamp,
    /// The peer's.
    metadata: Bytes,
}

impl DirectWait {
    pub(super) fn new(metadata: Bytes, now: Timestamp) -> Self {
        Self { since: now, metadata }
    }

    pub(super) fn slept(&mut self, time: Duration) {
        self.since += time;
    }
}

impl Connection {
    /// Which paths this side allows; to be said before the first packet. Without it, all.
    pub fn with_paths(mut self, paths: PathPolicy) -> Self {
        self.paths = paths;
        if let State::Joining(handshake) = &mut self.state {
            handshake.allow(paths);
        }
        self
    }

    /// Whether to look for a direct path: both sides are who they should be, and allow one. Until it is
    /// [up](Self::path_up), a connection that allows nothing else is not connected.
    pub fn wants_direct(&self) -> bool {
        matches!(self.state, State::Open { .. }) && self.paths != PathPolicy::RelayOnly
    }

    /// The path for messages. While the peer is interrupted they wait.
    pub(super) fn message_path(&self) -> Option<Path> {
        self.candidate().filter(|_| self.interrupted.is_none())
    }

    /// The path for messages, if the peer is there.
    pub(super) fn candidate(&self) -> Option<Path> {
        self.live.active().filter(|path| *path == Path::Direct || self.paths != PathPolicy::DirectOnly)
    }

    /// What a path carries now. Signals prefer the relay: what they look for is a better way than the direct one.
    pub(super) fn contents(&self, path: Path) -> PathContents {
        let signals = if self.live.usable(Path::Relay) { Some(Path::Relay) } else { self.live.active() };
        PathContents { signals: signals == Some(path), messages: self.message_path() == Some(path) }
    }

    /// Tells of another path for messages, and of an interruption or its end.
    pub(super) fn paths_changed(&mut self, now: Timestamp) {
        if !matches!(self.state, State::Open { .. }) {
            return self.drain_advanced(now);
        }
        if self.candidate().is_some()
            && let Some(wait) = self.direct_wait.take()
        {
            self.events.push_back(ConnectionEvent::Connected { metadata: wait.metadata });
        }
        self.check_interruption(now);
        let Some(path) = self.message_path() else { return };
        if self.announced != Some(path) {
            self.announced = Some(path);
            self.events.push_back(ConnectionEvent::PathChanged(path));
        }
    }

    /// When the wait for a direct path is over.
    pub(super) fn direct_deadline(&self) -> Option<Timestamp> {
        self.direct_wait.as_ref().map(|wait| wait.since + self.first_direct())
    }

    fn first_direct(&self) -> Duration {
        self.config.resume_timeout.min(FIRST_DIRECT)
    }

    /// Ends a connection that has waited for too long, and tells the peer over the relay.
    pub(super) fn check_direct_deadline(&mut self, now: Timestamp) {
        if self.direct_deadline().is_some_and(|deadline| now >= deadline) {
            self.direct_wait = None;
            let patience = self.first_direct();
            self.abandon(EndReason::NoDirectPath(format!("none was found within {patience:?}")), now);
        }
    }
}
