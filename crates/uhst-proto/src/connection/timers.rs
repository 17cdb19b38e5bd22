//! What the passing of time does.

use core::time::Duration;

use super::{Connection, ConnectionEvent, Path, Timestamp, connection::State, path::PerPath};
use crate::protocol::EndReason;

impl Connection {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; after such a call always later than its
    /// `now`. `None`: not before something else happens.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let timeout = self.config.timeout;
        match &self.state {
            State::Joining(handshake) => {
                let deadline = handshake.deadline(self.joining_patience(), self.config.resume_timeout);
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

    /// How long a host may stay silent before it has let us in.
    fn joining_patience(&self) -> Duration {
        if self.live.is_up(Path::Relay) { self.config.timeout } else { self.config.resume_timeout }
    }

    /// Whether frames wait for an acknowledgement, or for a grant, for each path.
    fn in_flight(&self) -> PerPath<bool> {
        let mut in_flight = PerPath(Path::ALL.map(|path| self.out.in_flight(path)));
        if let Some(path) = self.message_path()
            && self.out.is_blocked()
        {
            in_flight[path] = true;
        }
        in_flight
    }

    /// Lets time pass. A call that comes much later than [`next_timeout`](Self::next_timeout) shows that this side was
    /// asleep: it then ends nothing for that.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let late = self.next_timeout().map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late > self.live.interval() {
            self.slept(late, now);
        }
        let timeout = self.config.timeout;
        let patience = self.joining_patience();
        match &mut self.state {
            State::Joining(handshake) => {
                handshake.retry.advance(now);
                if now >= handshake.deadline(patience, self.config.resume_timeout) {
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

    /// Takes down the paths that are silent.
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
