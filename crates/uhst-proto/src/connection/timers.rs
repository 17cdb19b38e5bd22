//! Timeouts.

use core::time::Duration;

use super::{Connection, ConnectionEvent, Path, Timestamp, connection::State, path::PerPath};
use crate::protocol::EndReason;

impl Connection {
    /// Returns when to call [`handle_timeout`](Self::handle_timeout) next; `None` if no time is due until another call.
    /// After a call of `handle_timeout` it is always later than that call's `now`.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let timeout = self.config.timeout;
        match &self.state {
            State::Joining(handshake) => {
                let deadline = handshake.deadline(self.joining_timeout(), self.config.resume_timeout);
                let retry = handshake.retry.at().filter(|_| self.live.is_up(Path::Relay));
                Some(retry.map_or(deadline, |retry| retry.min(deadline)))
            }
            State::Authenticating(handshake) => Some(handshake.last_received + 2 * timeout),
            State::Deciding(handshake) => Some(handshake.last_received + timeout),
            State::Refused { until, .. } => Some(*until),
            State::Open { .. } => [
                self.live.next_timeout(self.in_flight()),
                self.ack.due,
                self.resuming.as_ref().and_then(|resuming| resuming.retry.at()),
                self.peer_close.as_ref().map(|close| close.until),
                self.direct_deadline(),
                self.silence_deadline(),
                self.interruption_check(),
            ]
            .into_iter()
            .flatten()
            .min(),
            State::Closing(closing) => [
                self.live.next_timeout(self.in_flight()),
                self.resuming.as_ref().and_then(|resuming| resuming.retry.at()),
                Some(self.closing_deadline(closing)),
                closing.retry[Path::Relay],
                closing.retry[Path::Direct],
            ]
            .into_iter()
            .flatten()
            .min(),
            State::Closed => None,
        }
    }

    /// How long a host may be silent while it has not admitted this client.
    fn joining_timeout(&self) -> Duration {
        if self.live.is_up(Path::Relay) { self.config.timeout } else { self.config.resume_timeout }
    }

    /// Whether frames wait for an acknowledgement or a grant, on each path.
    fn in_flight(&self) -> PerPath<bool> {
        let mut in_flight = PerPath(Path::ALL.map(|path| self.out.in_flight(path)));
        if let Some(path) = self.message_path()
            && self.out.is_blocked()
        {
            in_flight[path] = true;
        }
        in_flight
    }

    /// Applies the passing of time. A call that is much later than [`next_timeout`](Self::next_timeout) shows that this
    /// side was suspended. The delay then ends nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let late = self.next_timeout().map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late > self.live.interval() {
            self.slept(late, now);
        }
        let timeout = self.config.timeout;
        let joining_timeout = self.joining_timeout();
        match &mut self.state {
            State::Joining(handshake) => {
                handshake.retry.advance(now);
                if now >= handshake.deadline(joining_timeout, self.config.resume_timeout) {
                    self.finish(EndReason::TimedOut);
                }
            }
            State::Authenticating(handshake) if now >= handshake.last_received + 2 * timeout => {
                self.finish(EndReason::TimedOut)
            }
            State::Deciding(handshake) if now >= handshake.last_received + timeout => self.finish(EndReason::TimedOut),
            State::Refused { until, reason, .. } if now >= *until => {
                let reason = reason.clone();
                self.finish(reason);
            }
            State::Open { .. } => self.open_timeout(now),
            State::Closing(_) => self.closing_timeout(now),
            _ => {}
        }
    }

    fn open_timeout(&mut self, now: Timestamp) {
        if self.ack.due.is_some_and(|due| now >= due) {
            (self.ack.due, self.ack.now) = (None, true);
        }
        if self.peer_close.as_ref().is_some_and(|close| now >= close.until)
            && let Some(close) = self.peer_close.take()
        {
            return self.finish(close.reason);
        }
        self.paths_timeout(now);
        self.check_interruption(now);
        self.check_direct_deadline(now);
        self.check_interruption_deadline(now);
    }

    /// Marks silent paths as suspect.
    pub(super) fn paths_timeout(&mut self, now: Timestamp) {
        if let Some(resuming) = &mut self.resuming {
            resuming.retry.advance(now);
        }
        while let Some(silent) = self.live.advance(self.in_flight(), now) {
            self.lose(silent);
            self.events.push_back(ConnectionEvent::PathSilent(silent));
            self.paths_changed(now);
        }
    }
}
