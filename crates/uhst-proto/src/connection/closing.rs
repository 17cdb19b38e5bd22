//! Closing: this side drains its queues and closes, and each side confirms the close of the other.

use core::time::Duration;

use super::{Path, Timestamp, incoming::Incoming, outgoing::Outgoing, path::PerPath};
use crate::protocol::{
    EndReason,
    frame::{Close, PacketWriter},
};

/// How long a refusal is repeated, and a close whose drain has expired.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How long the close is repeated to a peer that violated the protocol.
const VIOLATION_LINGER: Duration = Duration::from_secs(1);
/// How often the close is repeated until the peer confirms it.
const CLOSE_RETRY: Duration = Duration::from_millis(250);

/// The time limits of a drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainLimits {
    /// How long the whole close may take.
    pub(super) total: Duration,
    /// How long it may take without progress, while a path is up.
    pub(super) stalled: Duration,
    /// How long it may take without progress, while no path is up.
    pub(super) unreachable: Duration,
}

/// A close by this side.
#[derive(Debug)]
pub(super) struct Closing {
    reason: EndReason,
    started: Timestamp,
    /// When an acknowledgement last advanced.
    progress: Timestamp,
    /// The bytes that are queued.
    waiting: usize,
    /// The path in use.
    path: Option<Path>,
    /// When the path in use last changed.
    path_since: Timestamp,
    /// When to repeat the close on each path; `None`: it is due now.
    retry: PerPath<Option<Timestamp>>,
    /// Closes without draining, and repeats the close until this time.
    immediate: Option<Timestamp>,
}

impl Closing {
    /// Starts a close that first drains the `waiting` bytes that are queued. `path` is the path in use.
    pub(super) fn draining(reason: EndReason, waiting: usize, path: Option<Path>, now: Timestamp) -> Self {
        let retry = PerPath::default();
        Self { reason, started: now, progress: now, waiting, path, path_since: now, retry, immediate: None }
    }

    /// Starts a close without draining.
    pub(super) fn immediate(reason: EndReason, path: Option<Path>, now: Timestamp) -> Self {
        let immediate = Some(now + VIOLATION_LINGER);
        Self { immediate, ..Self::draining(reason, 0, path, now) }
    }

    pub(super) fn reason(&self) -> &EndReason {
        &self.reason
    }

    /// When to stop waiting for the peer. A path that turns out to be dead does not use up the time of the next one, but
    /// paths that come and go do not prolong the wait for a peer that is gone.
    pub(super) fn deadline(&self, limits: DrainLimits) -> Timestamp {
        let unreachable = self.progress + limits.unreachable;
        let patience = match self.path {
            Some(_) => self.progress.max(self.path_since.min(unreachable)) + limits.stalled,
            None => unreachable,
        };
        self.immediate.unwrap_or((self.started + limits.total).min(patience))
    }

    /// When to repeat the close.
    pub(super) fn next_retry(&self) -> Option<Timestamp> {
        self.retry.0.into_iter().flatten().min()
    }

    /// Applies the passing of time.
    pub(super) fn advance(&mut self, now: Timestamp) {
        for retry in &mut self.retry.0 {
            *retry = retry.filter(|retry| now < *retry);
        }
    }

    /// Records progress of the drain: an acknowledgement, or a change of the path in use.
    pub(super) fn drained(&mut self, waiting: usize, path: Option<Path>, now: Timestamp) {
        if waiting < self.waiting {
            self.progress = now;
        }
        if path != self.path {
            self.path_since = now;
        }
        (self.waiting, self.path) = (waiting, path);
    }

    /// Whether the close does not wait for queued data.
    pub(super) fn is_immediate(&self) -> bool {
        self.immediate.is_some()
    }

    /// Stops draining, and repeats the close for a while.
    pub(super) fn stop_draining(&mut self, now: Timestamp) {
        (self.immediate, self.retry) = (Some(now + LINGER), PerPath::default());
    }

    /// Writes the close, once everything before it was sent. It goes out on every path, because the path in use may be
    /// dead.
    pub(super) fn write(&mut self, writer: &mut PacketWriter, path: Path, outgoing: &Outgoing, now: Timestamp) {
        if self.retry[path].is_some() || !(self.is_immediate() || outgoing.drained()) {
            return;
        }
        let ends = if self.is_immediate() { [0; 3] } else { outgoing.ends() };
        if writer.close(&Close { ends, reason: self.reason.clone() }) {
            self.retry[path] = Some(now + CLOSE_RETRY);
        }
    }

    /// Excludes a time in which this side was suspended. What has happened since counts from then.
    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        for at in [&mut self.started, &mut self.progress, &mut self.path_since] {
            *at = now.min(*at + time);
        }
    }
}

/// The peer's close, our confirmation, and the last close of a connection that ended without draining.
#[derive(Debug, Default)]
pub(super) struct CloseFrames {
    from_peer: Option<PeerClose>,
    /// Whether to confirm the peer's close, on each path.
    confirm: PerPath<bool>,
    last: Option<LastClose>,
}

/// A close by the peer that cannot be applied yet, because earlier fragments are missing.
#[derive(Debug)]
struct PeerClose {
    ends: [u64; 3],
    reason: EndReason,
    /// The path on which it arrived.
    path: Path,
}

/// The close of a connection that has ended, sent once on each path that is up.
#[derive(Debug)]
struct LastClose {
    reason: EndReason,
    sent: PerPath<bool>,
}

impl CloseFrames {
    /// Records the peer's close. When the peer gives up on the data before it, it sends another one, which waits for none.
    pub(super) fn receive(&mut self, close: Close, path: Path) {
        self.from_peer = Some(PeerClose { ends: close.ends, reason: close.reason, path });
    }

    /// Returns the reason of the peer's close once everything sent before it has arrived, the last of it on this path, and
    /// confirms it. The path of the close may be gone by then.
    pub(super) fn arrived(&mut self, incoming: &Incoming, path: Path) -> Option<EndReason> {
        let close = self.from_peer.take_if(|close| incoming.reached(&close.ends))?;
        self.confirm(close.path);
        self.confirm(path);
        Some(close.reason)
    }

    /// Whether the peer has closed, and something that it sent before is missing.
    pub(super) fn has_close(&self) -> bool {
        self.from_peer.is_some()
    }

    /// Returns the reason of the peer's close, or this one without a close. The connection ends before the data arrives
    /// that was sent before the close.
    pub(super) fn reason_or(&mut self, reason: EndReason) -> EndReason {
        self.from_peer.take().map_or(reason, |close| close.reason)
    }

    /// Forgets the peer's close, because the connection has ended.
    pub(super) fn forget(&mut self) {
        self.from_peer = None;
    }

    /// Confirms the peer's close on a path.
    pub(super) fn confirm(&mut self, path: Path) {
        self.confirm[path] = true;
    }

    /// Sends this reason once on each path.
    pub(super) fn send_last(&mut self, reason: EndReason) {
        self.last = Some(LastClose { reason, sent: PerPath::default() });
    }

    /// Whether a connection that is not open may still have something to send on a path.
    pub(super) fn is_pending(&self, path: Path, is_usable: bool) -> bool {
        self.last.is_some() || is_usable && self.confirm[path]
    }

    pub(super) fn write_confirmation(&mut self, writer: &mut PacketWriter, path: Path) {
        if self.confirm[path] && writer.close_ack() {
            self.confirm[path] = false;
        }
    }

    pub(super) fn write_last(&mut self, writer: &mut PacketWriter, path: Path) {
        if let Some(last) = self.last.as_mut().filter(|last| !last.sent[path]) {
            last.sent[path] = writer.close(&Close { ends: [0; 3], reason: last.reason.clone() });
        }
    }
}
