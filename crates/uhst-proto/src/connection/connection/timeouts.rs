//! The passing of time.

use core::time::Duration;

use super::{
    super::{ConnectionEvent, Timestamp, closing::DrainLimits, path::PerPath, path_set::Expired},
    Connection, State,
};
use crate::protocol::EndReason;

impl Connection {
    /// Returns when to call [`handle_timeout`](Self::handle_timeout) next; `None` if no time is due until another call.
    /// After a call of `handle_timeout` it is always later than that call's `now`.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Timestamp> {
        match &self.state {
            State::Joining(handshake) => {
                let deadline = handshake.deadline(self.paths.joining_timeout(), self.paths.resume_timeout());
                let retry = handshake.next_retry().filter(|_| self.paths.is_up(super::Path::Relay));
                Some(retry.map_or(deadline, |retry| retry.min(deadline)))
            }
            State::Admitting(handshake) => Some(handshake.deadline(self.paths.timeout())),
            State::Refused { until, leaving, .. } => Some(refused_until(*until, *leaving && !self.answer.is_waiting())),
            State::Open { .. } => {
                let times = [
                    self.paths.next_timeout(self.is_waiting()),
                    self.acks.next_timeout(),
                    self.resumption.next_retry(),
                    self.paths.next_check(),
                ];
                times.into_iter().flatten().min()
            }
            State::Closing(closing) => {
                let times = [
                    self.paths.next_timeout(self.is_waiting()),
                    self.resumption.next_retry(),
                    Some(closing.deadline(self.drain_limits())),
                    closing.next_retry(),
                ];
                times.into_iter().flatten().min()
            }
            State::Closed(_) => None,
        }
    }

    /// Whether frames wait for an acknowledgement or a grant, on each path.
    fn is_waiting(&self) -> PerPath<bool> {
        self.outgoing.is_waiting(self.paths.message_path())
    }

    fn drain_limits(&self) -> DrainLimits {
        DrainLimits {
            total: self.config.drain_timeout,
            stalled: 2 * self.paths.timeout(),
            unreachable: self.paths.resume_timeout(),
        }
    }

    /// Applies the passing of time. A call that is much later than [`next_timeout`](Self::next_timeout) shows that this
    /// side was suspended. The delay then ends nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let late = self.next_timeout().map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late > self.paths.interval() {
            self.paths.slept(late, now);
            self.state.slept(late, now);
        }
        self.check_keys();
        match &mut self.state {
            State::Joining(handshake) => {
                handshake.advance(now);
                if now >= handshake.deadline(self.paths.joining_timeout(), self.paths.resume_timeout()) {
                    self.finish(EndReason::TimedOut);
                }
            }
            State::Admitting(handshake) if now >= handshake.deadline(self.paths.timeout()) => {
                self.finish(EndReason::TimedOut);
            }
            State::Refused { until, reason, leaving, .. }
                if now >= refused_until(*until, *leaving && !self.answer.is_waiting()) =>
            {
                let reason = reason.clone();
                self.finish(reason);
            }
            State::Open { .. } => self.open_timeout(now),
            State::Closing(_) => self.closing_timeout(now),
            _ => {}
        }
    }

    fn open_timeout(&mut self, now: Timestamp) {
        self.acks.advance(now);
        self.paths_timeout(now);
        self.check_interruption(now);
        match self.paths.expired(now) {
            Some(Expired::NoDirectPath(reason)) => {
                let reason = self.closes.reason_or(reason);
                self.abandon(reason, now);
            }
            Some(Expired::TimedOut) => {
                let reason = self.closes.reason_or(EndReason::TimedOut);
                self.close_now(reason);
            }
            None => {}
        }
    }

    /// Reports the start or end of an interruption.
    pub(super) fn check_interruption(&mut self, now: Timestamp) {
        self.paths.report_interruption(now, &mut self.events);
        self.drop_late_messages();
    }

    /// Marks silent paths as suspect.
    fn paths_timeout(&mut self, now: Timestamp) {
        self.resumption.advance(now);
        while let Some(silent) = self.paths.advance(self.is_waiting(), now) {
            self.outgoing.lose(silent);
            self.events.push_back(ConnectionEvent::PathSilent(silent));
            self.paths_changed(now);
        }
    }

    fn closing_timeout(&mut self, now: Timestamp) {
        self.paths_timeout(now);
        let (limits, path) = (self.drain_limits(), self.paths.active());
        let State::Closing(closing) = &mut self.state else { return };
        closing.advance(now);
        if now < closing.deadline(limits) {
            return;
        }
        // Without queued data, the close itself was repeated all along.
        if closing.is_immediate() || self.outgoing.queued() == 0 || path.is_none() {
            return self.give_up();
        }
        closing.stop_draining(now);
        self.cut();
    }

    /// Drops what was not acknowledged, and reports it.
    pub(super) fn cut(&mut self) {
        let bytes = self.outgoing.queued();
        if bytes > 0 {
            self.outgoing.clear();
            self.events.push_back(ConnectionEvent::Cut { bytes });
        }
    }
}

/// Returns how long a refusal is repeated. A side that leaves ends once it has sent it.
fn refused_until(until: Timestamp, may_end: bool) -> Timestamp {
    if may_end { Timestamp::ZERO } else { until }
}
