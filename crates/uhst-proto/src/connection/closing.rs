//! Closing by this side: draining, then the close handshake.

use super::{
    Connection, ConnectionEvent, Timestamp,
    connection::{Closing, LINGER, State},
    path::PerPath,
};
use crate::protocol::EndReason;

impl Connection {
    /// When to stop waiting for the peer.
    pub(super) fn closing_deadline(&self, closing: &Closing) -> Timestamp {
        if let Some(until) = closing.immediate {
            return until;
        }
        let expires = closing.started + self.config.drain_timeout;
        match self.live.active() {
            Some(_) => expires.min(closing.progress + 2 * self.config.timeout),
            None => expires.min(closing.progress + self.config.resume_timeout),
        }
    }

    pub(super) fn closing_timeout(&mut self, now: Timestamp) {
        self.paths_timeout(now);
        let State::Closing(closing) = &mut self.state else { return };
        for retry in &mut closing.retry.0 {
            *retry = retry.filter(|retry| now < *retry);
        }
        let reason = closing.reason.clone();
        let State::Closing(closing) = &self.state else { return };
        if now < self.closing_deadline(closing) {
            return;
        }
        // Without queued data, the close itself was repeated all along.
        if closing.immediate.is_some() || self.out.queued() == 0 || self.live.active().is_none() {
            return self.finish_closing(reason);
        }
        self.cut();
        if let State::Closing(closing) = &mut self.state {
            (closing.immediate, closing.retry) = (Some(now + LINGER), PerPath::default());
        }
    }

    /// Records progress of the drain: an acknowledgement, or a change of path. A path that turns out to be dead does
    /// not use up the time of the next one.
    pub(super) fn drain_advanced(&mut self, now: Timestamp) {
        let (waiting, path) = (self.out.queued(), self.live.active());
        let State::Closing(closing) = &mut self.state else { return };
        if waiting < closing.waiting || path.is_some() && path != closing.path {
            closing.progress = now;
        }
        (closing.waiting, closing.path) = (waiting, path);
    }

    fn finish_closing(&mut self, reason: EndReason) {
        self.cut();
        self.finish(reason);
    }

    /// Drops what was not acknowledged, and reports it.
    fn cut(&mut self) {
        let bytes = self.out.queued();
        if bytes > 0 {
            self.out.clear();
            self.events.push_back(ConnectionEvent::Cut { bytes });
        }
    }
}
