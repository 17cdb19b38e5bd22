//! Exponential backoff with jitter.

use std::time::Duration;

use super::relay_error::RelayError;

/// Delays that double from `first` to `most`. Each is shortened by up to half at random, so that the clients of a relay that
/// comes back do not all reconnect at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Creates the delays for a relay, from 50 ms to 1 s: most breaks are short, and a player should not notice that the
    /// relay is back before this code does.
    pub fn relay() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// Creates delays from `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, next: first }
    }

    /// The next delay.
    pub fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.most);
        let random = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        full.mul_f64(0.5 + random / 2.0)
    }

    /// The next delay after this error: at least as long as the relay asks for.
    pub fn after(&mut self, error: &RelayError) -> Duration {
        self.next().max(error.wait())
    }

    /// Starts over with the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_start_over() {
        let mut backoff = Backoff::relay();
        for full in [50, 100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            let delay = backoff.next();
            assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(50));
    }
}
