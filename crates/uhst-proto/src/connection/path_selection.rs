//! Path selection: which path carries messages and signals.

use bytes::Bytes;
use core::time::Duration;

use super::{Connection, ConnectionEvent, Path, Timestamp, connection::State, path::PathContents};
use crate::protocol::{EndReason, PathPolicy};

/// How long to wait for the first direct path of a connection that allows only direct paths.
const FIRST_DIRECT: Duration = Duration::from_secs(15);

/// A connection that allows only direct paths and waits for the first one. It reports `Connected` once that path is up.
#[derive(Debug)]
pub(super) struct DirectWait {
    since: Timestamp,
    /// The metadata of the peer.
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
    /// Sets which paths this side allows. The default is [`PathPolicy::Automatic`]. Call it before the first packet is
    /// sent.
    #[must_use]
    pub fn with_paths(mut self, paths: PathPolicy) -> Self {
        self.paths = paths;
        if let State::Joining(handshake) = &mut self.state {
            handshake.allow(paths);
        }
        self
    }

    /// Returns whether to look for a direct path: the connection is open, and both sides allow one. A connection that
    /// allows only direct paths reports [`Connected`](ConnectionEvent::Connected) once one is [up](Self::path_up).
    pub fn wants_direct(&self) -> bool {
        matches!(self.state, State::Open { .. }) && self.paths != PathPolicy::RelayOnly
    }

    /// The path for messages; `None` while the peer is interrupted.
    pub(super) fn message_path(&self) -> Option<Path> {
        self.candidate().filter(|_| self.interrupted.is_none())
    }

    /// The path that messages would take if the peer were not interrupted.
    pub(super) fn candidate(&self) -> Option<Path> {
        self.live.active().filter(|path| *path == Path::Direct || self.paths != PathPolicy::DirectOnly)
    }

    /// What a path carries now. Signals prefer the relay, because they serve to replace the direct path.
    pub(super) fn contents(&self, path: Path) -> PathContents {
        let signals = if self.live.usable(Path::Relay) { Some(Path::Relay) } else { self.live.active() };
        PathContents { signals: signals == Some(path), messages: self.message_path() == Some(path) }
    }

    /// Reports a change of the path for messages, and the start and end of an interruption.
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

    /// When the wait for the first direct path ends.
    pub(super) fn direct_deadline(&self) -> Option<Timestamp> {
        self.direct_wait.as_ref().map(|wait| wait.since + self.first_direct())
    }

    fn first_direct(&self) -> Duration {
        self.config.resume_timeout.min(FIRST_DIRECT)
    }

    /// Closes a connection whose first direct path did not come up in time, over the relay.
    pub(super) fn check_direct_deadline(&mut self, now: Timestamp) {
        if self.direct_deadline().is_some_and(|deadline| now >= deadline) {
            self.direct_wait = None;
            let timeout = self.first_direct();
            self.abandon(EndReason::NoDirectPath(format!("none was found within {timeout:?}")), now);
        }
    }
}
