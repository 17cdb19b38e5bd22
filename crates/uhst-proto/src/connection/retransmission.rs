//! Repetition of handshake and resumption packets, until they have arrived.

use bytes::Bytes;
use core::time::Duration;

use super::Timestamp;

/// Retransmits until an answer arrives: after 250 ms, after 500 ms, and then every second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// When to send again; `None`: it is due now.
    at: Option<Timestamp>,
    delay: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(1);

    pub(super) fn new() -> Self {
        Self { at: None, delay: Self::FIRST }
    }

    pub(super) fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// Returns whether to send now, and schedules the next repetition.
    #[must_use]
    pub(super) fn poll(&mut self, now: Timestamp) -> bool {
        let is_due = self.at.is_none();
        if is_due {
            self.at = Some(now + self.delay);
            self.delay = (self.delay * 2).min(Self::LAST);
        }
        is_due
    }

    /// Applies the passing of time.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if self.at.is_some_and(|at| now >= at) {
            self.at = None;
        }
    }

    /// Repeats the packet once per interval from now on. The other side has received it and has not decided yet, so the
    /// packet serves as a heartbeat.
    pub(super) fn slow_down(&mut self, now: Timestamp, interval: Duration) {
        self.delay = interval;
        self.at = Some(now + interval);
    }
}

/// The next answer of this side: a handshake or resumption packet. The client repeats its requests, so an answer is
/// repeated only if the relay failed to deliver it.
#[derive(Debug, Default)]
pub(super) struct NextAnswer {
    next: Option<Bytes>,
    /// The answer that was sent last.
    last: Option<Bytes>,
}

impl NextAnswer {
    /// Replaces the next answer.
    pub(super) fn set(&mut self, answer: Option<Bytes>) {
        self.next = answer;
    }

    /// Returns the answer to send now.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.last = self.next.take();
        self.last.clone()
    }

    /// Returns the answer that has not been sent yet.
    pub(super) fn next(&self) -> Option<Bytes> {
        self.next.clone()
    }

    /// Returns whether an answer has not been sent yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.next.is_some()
    }

    /// Queues the last answer again, because it was not delivered, unless there is a newer one.
    pub(super) fn repeat(&mut self) {
        self.next = self.next.take().or(self.last.take());
    }

    /// Drops both answers.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
