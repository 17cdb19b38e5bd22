//! Decides for how long the start of a session retries a request that the relay refused.

use std::time::Duration;

use n0_future::time::{Instant, sleep};

use super::{
    backoff::Backoff,
    relay_error::{MAX_WAIT, RelayError},
};

/// How long a start retries while the server fails, as while a relay behind a proxy restarts.
const SERVER_FAILURE: Duration = Duration::from_secs(5);
/// How long a start retries after an answer that is not of the protocol: the server may be no relay at all.
const FOREIGN_ANSWER: Duration = Duration::from_secs(2);
/// How long a start retries when the server is known to be a relay: after a restart of the relay its hosts return within
/// seconds.
const RELAY_RESTART: Duration = Duration::from_secs(10);
/// How long a client retries when the relay knows no host of the code that somebody typed. A host whose stream broke is back
/// after a moment.
const HOST_MISSING: Duration = Duration::from_secs(2);
/// How long a client waits for a host that the relay knew when the client joined, or whose whole link it has. It is likely to
/// come back, and its own network may be slow. Below the default timeout of a connection.
pub(super) const HOST_LOST: Duration = Duration::from_secs(4);

/// The retries of one start.
pub(super) struct StartRetry {
    since: Instant,
    backoff: Backoff,
    /// Whether the server has answered as only a relay does. It has then known the host that a client joins.
    is_relay: bool,
    /// Whether the id cannot be mistyped.
    by_link: bool,
    /// Whether a request has failed. Later errors may have the same cause.
    has_failed: bool,
    /// When the relay first did not know the host. Who answers so is most likely a relay, and one that has restarted knows
    /// no host yet.
    missing_since: Option<Instant>,
}

impl StartRetry {
    pub fn new() -> Self {
        StartRetry {
            since: Instant::now(),
            backoff: Backoff::relay(),
            is_relay: false,
            by_link: false,
            has_failed: false,
            missing_since: None,
        }
    }

    /// Records that the id is from a whole link: no player has mistyped it.
    pub fn by_link(&mut self) {
        self.by_link = true;
    }

    /// Records that the server is a relay: failures from here on are a disturbance, not a wrong URL.
    pub fn relay_found(&mut self) {
        self.is_relay = true;
    }

    /// Waits until the request may be repeated.
    ///
    /// # Errors
    ///
    /// Returns the error if it is final, or if the time to retry is over.
    pub async fn after(&mut self, error: RelayError) -> Result<(), RelayError> {
        let Some(limit) = self.limit(&error) else { return Err(error) };
        let mut since = self.since;
        match error {
            // The time of slow requests before this answer does not count.
            RelayError::Rejected => since = *self.missing_since.get_or_insert_with(Instant::now),
            _ => self.has_failed = true,
        }
        let requested = match &error {
            RelayError::Busy { wait, .. } => *wait,
            _ => Duration::ZERO,
        };
        let left = limit.saturating_sub(since.elapsed());
        if left.is_zero() || requested > left {
            return Err(error);
        }
        // The last request comes at the limit.
        sleep(self.backoff.next().max(requested).min(left)).await;
        Ok(())
    }

    /// How long to retry after this error; `None`: it is final.
    fn limit(&self, error: &RelayError) -> Option<Duration> {
        Some(match error {
            RelayError::Busy { .. } => MAX_WAIT,
            // A relay that restarts refuses even a token that it has just issued.
            RelayError::Status(429 | 500..=599)
            | RelayError::BadToken
            | RelayError::Unreachable(_)
            | RelayError::Moved(_)
            | RelayError::NotARelay(_)
            | RelayError::NoConnection(_)
                if self.is_relay || self.missing_since.is_some() =>
            {
                RELAY_RESTART
            }
            RelayError::Status(429 | 500..=599)
            | RelayError::BadToken
            | RelayError::Unreachable(_)
            | RelayError::Moved(_) => SERVER_FAILURE,
            RelayError::NotARelay(_) => FOREIGN_ANSWER,
            RelayError::Rejected if self.has_failed => RELAY_RESTART,
            RelayError::Rejected if self.is_relay || self.by_link => HOST_LOST,
            RelayError::Rejected => HOST_MISSING,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_known_to_exist_is_waited_for_longer() {
        let mut retry = StartRetry::new();
        assert_eq!(retry.limit(&RelayError::Rejected), Some(HOST_MISSING));
        retry.by_link();
        assert_eq!(retry.limit(&RelayError::Rejected), Some(HOST_LOST));
        let mut retry = StartRetry::new();
        retry.relay_found();
        assert_eq!(retry.limit(&RelayError::Rejected), Some(HOST_LOST));
        retry.has_failed = true;
        assert_eq!(retry.limit(&RelayError::Rejected), Some(RELAY_RESTART));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_request_comes_at_the_limit() {
        let (begun, mut retry) = (Instant::now(), StartRetry::new());
        let mut last = Duration::ZERO;
        while retry.after(RelayError::Rejected).await.is_ok() {
            assert!(last < HOST_MISSING, "it comes again after {last:?}");
            last = begun.elapsed();
        }
        assert!(last >= HOST_MISSING && last < HOST_MISSING + Duration::from_millis(50), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_restarts_is_waited_for_whatever_it_answers_first() {
        for (first, limit) in [(RelayError::Status(502), SERVER_FAILURE), (RelayError::Rejected, RELAY_RESTART)] {
            let mut retry = StartRetry::new();
            assert_eq!(retry.after(first).await, Ok(()));
            assert_eq!(retry.limit(&RelayError::Status(502)), Some(limit));
        }
    }
}
