//! Changes of the paths, as the owner reports them.

use core::time::Duration;

use super::{
    super::{Lane, Path, Timestamp},
    Connection, State,
};
use crate::protocol::PathPolicy;

impl Connection {
    /// Sets which paths this side allows. The default is [`PathPolicy::Automatic`]. Call it before the first packet is
    /// sent.
    #[must_use]
    pub fn with_paths(mut self, paths: PathPolicy) -> Self {
        self.paths.allow(paths);
        if let State::Joining(handshake) = &mut self.state {
            handshake.allow(paths);
        }
        self
    }

    /// Returns whether to look for a direct path: the connection is open, and both sides allow one. A connection that
    /// allows only direct paths reports [`Connected`](super::ConnectionEvent::Connected) once one is
    /// [up](Self::path_up).
    pub fn wants_direct(&self) -> bool {
        self.is_open() && self.paths.policy() != PathPolicy::RelayOnly
    }

    /// Returns whether the peer is silent or unreachable now.
    pub fn is_interrupted(&self) -> bool {
        self.is_open() && self.paths.is_interrupted()
    }

    /// Returns how long the peer may stay interrupted before the connection ends, or zero if it is not interrupted.
    pub fn time_left(&self, now: Timestamp) -> Duration {
        self.paths.interruption_deadline().unwrap_or(now).saturating_sub(now)
    }

    /// Reports that a path leads to the peer, for the first time or again. When the relay path of an open client comes
    /// back, the client sends a resumption, which the host passes to [`resume`](Self::resume).
    pub fn path_up(&mut self, path: Path, now: Timestamp) {
        let mut unproven = false;
        match &mut self.state {
            // The confirmation of the peer's close may still have to be sent.
            State::Closed(_) => return self.paths.up_unopened(path, now),
            State::Refused { .. } => return,
            State::Joining(handshake) => handshake.restart(now),
            State::Admitting(_) => {}
            State::Open { .. } | State::Closing(_) => {
                if self.resumption.is_client() && path == Path::Relay {
                    self.resumption.start();
                    unproven = true;
                }
            }
        }
        self.outgoing.lose(path);
        self.paths.up(path, unproven, now);
        self.paths_changed(now);
    }

    /// Reports that a path is gone. Unacknowledged data that it carried is sent again on the other path, or on the next
    /// one.
    pub fn path_down(&mut self, path: Path, now: Timestamp) {
        if path == Path::Relay && self.resumption.is_client() {
            // The next relay path starts a new resumption. A host keeps its answer: it sends by POST, which does not
            // depend on its stream.
            self.resumption.stop();
            self.answer.clear();
        }
        self.paths.down(path, now);
        self.outgoing.lose(path);
        self.paths_changed(now);
    }

    /// Reports that a path is probably dead. It carries only heartbeats until a packet arrives over it.
    pub fn suspect(&mut self, path: Path, now: Timestamp) {
        if self.paths.suspect(path, now) {
            self.outgoing.lose(path);
            self.paths_changed(now);
        }
    }

    /// Applies a change of the paths.
    pub(super) fn paths_changed(&mut self, now: Timestamp) {
        if self.is_open() {
            self.paths.report_changes(now, &mut self.events);
            self.drop_late_messages();
        } else {
            self.drain_advanced(now);
        }
    }

    /// Drops queued unreliable messages while the peer is interrupted: they would arrive late.
    pub(super) fn drop_late_messages(&mut self) {
        if self.paths.is_interrupted() {
            self.outgoing.clear_unreliable();
        }
    }

    /// Records progress of the drain.
    pub(super) fn drain_advanced(&mut self, now: Timestamp) {
        if let State::Closing(closing) = &mut self.state {
            closing.drained(self.outgoing.queued(), self.paths.active(), now);
        }
    }

    /// Reports that a packet on this lane was lost, for example because its POST failed. Unless the lane is unreliable,
    /// everything in flight on its path is sent again.
    pub fn lost_in_flight(&mut self, lane: Lane) {
        if lane != Lane::DirectUnreliable {
            self.outgoing.lose(lane.path());
            self.acks.repeat();
        }
        if lane == Lane::Relay {
            self.answer.repeat();
            self.resumption.repeat();
        }
    }

    /// Reports that the relay failed to deliver a packet. A client that is still joining sends it again and gives the
    /// host the full [`timeout`](super::ConnectionConfig::timeout) once more, up to
    /// [`resume_timeout`](super::ConnectionConfig::resume_timeout) after the host's last answer.
    pub fn undelivered(&mut self, now: Timestamp) {
        if let State::Joining(handshake) = &mut self.state {
            handshake.undelivered(now);
        }
    }
}
