//! When the task of a peer repeats a POST that failed.

use std::time::Duration;

use n0_future::time::Instant;

use super::{backoff::Backoff, relay_error::RelayError};

/// The pause before the next POST of one peer.
#[derive(Debug)]
pub(super) struct PostRetry {
    backoff: Backoff,
    /// The end of the pause.
    at: Option<Instant>,
}

impl PostRetry {
    pub fn new() -> Self {
        PostRetry { backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(500)), at: None }
    }

    /// Begins a pause after this error.
    pub fn failed(&mut self, error: &RelayError) {
        self.at = Some(Instant::now() + self.backoff.after(error));
    }

    /// Starts over with the shortest pause.
    pub fn succeeded(&mut self) {
        *self = Self::new();
    }

    /// Ends the pause, since the next POST takes another route or another relay.
    pub fn end_pause(&mut self) {
        self.at = None;
    }

    /// Whether the next POST has to wait.
    pub fn is_pausing(&mut self) -> bool {
        self.at = self.at.filter(|at| *at > Instant::now());
        self.at.is_some()
    }

    /// The end of the pause, if there is one.
    pub fn pause_ends(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_by_time_by_another_route_and_by_a_success() {
        let mut retry = PostRetry::new();
        assert!(!retry.is_pausing());
        retry.failed(&RelayError::Busy { status: 503, wait: Duration::from_secs(3) });
        assert_eq!(retry.pause_ends(), Some(Instant::now() + Duration::from_secs(3)), "as long as the relay asks");
        tokio::time::sleep(Duration::from_millis(2999)).await;
        assert!(retry.is_pausing());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!retry.is_pausing());

        retry.failed(&RelayError::Rejected);
        assert!(retry.is_pausing());
        retry.end_pause();
        assert!(!retry.is_pausing());
        retry.failed(&RelayError::Rejected);
        assert!(retry.pause_ends() >= Some(Instant::now() + Duration::from_millis(200)), "the pauses grow");
        retry.succeeded();
        assert!(!retry.is_pausing());
        retry.failed(&RelayError::Rejected);
        assert!(retry.pause_ends() <= Some(Instant::now() + Duration::from_millis(100)), "and start over");
    }
}
