//! A token bucket: limits a rate, and allows bursts.

use crate::connection::Timestamp;

/// A token bucket. It starts full.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    refilled: Timestamp,
}

impl TokenBucket {
    /// Creates a bucket that holds `capacity` tokens and gains `per_second`.
    pub fn new(capacity: f64, per_second: f64, now: Timestamp) -> Self {
        TokenBucket { capacity, per_second, tokens: capacity, refilled: now }
    }

    /// Whether a token is left.
    pub fn has_token(&mut self, now: Timestamp) -> bool {
        let gained = now.saturating_sub(self.refilled).as_secs_f64() * self.per_second;
        self.tokens = self.capacity.min(self.tokens + gained);
        self.refilled = now;
        self.tokens >= 1.0
    }

    /// Takes a token; without a whole one the bucket is empty afterwards.
    pub fn take(&mut self, now: Timestamp) {
        self.has_token(now);
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    /// Takes a token if one is left.
    pub fn try_take(&mut self, now: Timestamp) -> bool {
        let may = self.has_token(now);
        if may {
            self.take(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut bucket = TokenBucket::new(3.0, 2.0, Timestamp::ZERO);
        let mut taken = |now| (0..10).filter(|_| bucket.try_take(now)).count();
        assert_eq!(taken(Timestamp::ZERO), 3);
        assert_eq!(taken(Duration::from_millis(400)), 0);
        assert_eq!(taken(Duration::from_millis(500)), 1);
        assert_eq!(taken(Duration::from_secs(60)), 3, "no more than the capacity");
    }
}
