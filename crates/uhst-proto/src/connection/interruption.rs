//! Interruptions: a peer that is silent or unreachable, until it is back or the connection ends.

use core::time::Duration;

use super::{Connection, ConnectionEvent, Interruption, Path, Timestamp, connection::State, path::PerPath};
use crate::protocol::{
    EndReason, PathPolicy,
    frame::{Close, PacketWriter},
};

/// An interruption in progress.
#[derive(Debug)]
pub(super) struct Interrupted {
    since: Timestamp,
    /// When its deadline was last checked. The checks are frequent, so that a late one shows that this side was
    /// suspended.
    checked: Timestamp,
    /// Whether a packet has arrived from the peer since then.
    received: bool,
}

/// The close of a connection that has ended, sent once on each path that is up.
#[derive(Debug)]
pub(super) struct FinalClose {
    reason: EndReason,
    sent: PerPath<bool>,
}

impl Connection {
    /// Returns whether the connection is open: the peer is admitted, and neither side has closed.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns whether the peer is silent or unreachable now.
    pub fn is_interrupted(&self) -> bool {
        self.is_open() && self.interrupted.is_some()
    }

    /// Returns how long the peer may stay interrupted before the connection ends, or zero if it is not interrupted.
    pub fn time_left(&self, now: Timestamp) -> Duration {
        self.interruption_deadline().unwrap_or(now).saturating_sub(now)
    }

    /// When the connection ends, unless a packet arrives from the peer.
    pub(super) fn interruption_deadline(&self) -> Option<Timestamp> {
        self.interrupted.as_ref().map(|interrupted| interrupted.since + self.config.resume_timeout)
    }

    /// When to check the deadline of an interruption.
    pub(super) fn interruption_check(&self) -> Option<Timestamp> {
        let checked = self.interrupted.as_ref()?.checked + self.live.interval();
        self.interruption_deadline().map(|deadline| deadline.min(checked))
    }

    /// When the peer becomes interrupted, unless a packet arrives.
    pub(super) fn silence_deadline(&self) -> Option<Timestamp> {
        (self.interrupted.is_none() && self.is_announced()).then(|| self.live.silent_at())
    }

    /// Whether the owner has been told that the peer is connected, and not that it ended.
    fn is_announced(&self) -> bool {
        self.is_open() && self.direct_wait.is_none()
    }

    /// Records a packet from the peer itself over this path.
    pub(super) fn on_peer_packet(&mut self, path: Path, now: Timestamp) {
        self.live.alive(path, now);
        if let Some(interrupted) = &mut self.interrupted {
            interrupted.received = true;
        }
    }

    /// Why the peer is to be interrupted now.
    fn interruption(&self, now: Timestamp) -> Option<Interruption> {
        if self.candidate().is_none() {
            Some(if self.live.has_suspect() { Interruption::Silent } else { Interruption::NoPath })
        } else {
            (now >= self.live.silent_at()).then_some(Interruption::Silent)
        }
    }

    /// Starts or ends an interruption. A path that comes up does not end one: a packet must arrive from the peer.
    pub(super) fn check_interruption(&mut self, now: Timestamp) {
        if !self.is_announced() {
            return;
        }
        match (self.interruption(now), &self.interrupted) {
            (Some(reason), None) => {
                self.interrupted = Some(Interrupted { since: now, checked: now, received: false });
                // Queued unreliable messages would arrive late.
                self.out.unreliable.clear();
                self.events.push_back(ConnectionEvent::Interrupted(reason));
            }
            (None, Some(Interrupted { received: true, .. })) => {
                self.interrupted = None;
                self.events.push_back(ConnectionEvent::Resumed);
            }
            _ => {}
        }
    }

    /// Ends a connection whose peer was interrupted for too long.
    pub(super) fn check_interruption_deadline(&mut self, now: Timestamp) {
        if let Some(interrupted) = &mut self.interrupted {
            interrupted.checked = now;
        }
        if self.interruption_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.paths == PathPolicy::DirectOnly && self.live.usable(Path::Relay) && now < self.live.silent_at() {
            let text = format!("none was found within {:?}", self.config.resume_timeout);
            return self.abandon(EndReason::NoDirectPath(text), now);
        }
        self.close_now(EndReason::TimedOut);
    }

    /// Ends the connection at once, without draining. The reason is sent once on each path, for a peer that may still
    /// receive it.
    pub fn close_now(&mut self, reason: EndReason) {
        if self.is_closed() {
            return;
        }
        self.final_close = Some(FinalClose { reason: reason.clone(), sent: PerPath::default() });
        self.finish(reason);
    }

    pub(super) fn write_final_close(&mut self, writer: &mut PacketWriter, path: Path) {
        if let Some(final_close) = self.final_close.as_mut().filter(|final_close| !final_close.sent[path]) {
            final_close.sent[path] = writer.close(&Close { ends: [0; 3], reason: final_close.reason.clone() });
        }
    }

    /// Excludes a time in which this side was suspended from all deadlines.
    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        self.live.slept(time, now);
        if let Some(interrupted) = &mut self.interrupted {
            interrupted.since += time;
            interrupted.checked += time;
        }
        if let Some(close) = &mut self.peer_close {
            close.until += time;
        }
        if let Some(wait) = &mut self.direct_wait {
            wait.slept(time);
        }
        match &mut self.state {
            State::Joining(handshake) => handshake.slept(time),
            State::Authenticating(handshake) | State::Deciding(handshake) => handshake.last_received += time,
            State::Refused { until, .. } => *until += time,
            State::Closing(closing) => {
                closing.started += time;
                closing.progress += time;
            }
            State::Open { .. } | State::Closed => {}
        }
    }
}
