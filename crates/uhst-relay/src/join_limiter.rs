//! A limit on how often an address may attempt to join with an unknown id.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The maximum number of counted addresses. Every one of them has sent a wrong id, so more at once can only come from
/// an attack.
const MAX_ADDRESSES: usize = 100_000;

/// The failed joins of each address. The burst size is the limit per minute, and the count decreases at that rate.
#[derive(Debug)]
pub(super) struct JoinLimiter {
    per_minute: f64,
    failures: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl JoinLimiter {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        JoinLimiter { per_minute: per_minute.get().into(), failures: Mutex::default() }
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<IpAddr, (f64, Instant)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the part of a count that has not expired.
    fn remaining(&self, (count, at): (f64, Instant), now: Instant) -> f64 {
        count - now.duration_since(at).as_secs_f64() * self.per_minute / 60.0
    }

    /// Returns whether this address may try again. The id it tries does not influence the result.
    pub(super) fn is_allowed(&self, network: IpAddr, now: Instant) -> bool {
        let failures = self.failures();
        match failures.get(&network) {
            Some(count) => self.remaining(*count, now) <= self.per_minute - 1.0,
            None => failures.len() < MAX_ADDRESSES,
        }
    }

    /// Counts a failed join.
    pub(super) fn record_failure(&self, network: IpAddr, now: Instant) {
        let mut failures = self.failures();
        let count = failures.get(&network).map_or(0.0, |count| self.remaining(*count, now).max(0.0));
        failures.insert(network, (count + 1.0, now));
    }

    /// Removes the addresses whose failed joins have all expired.
    pub(super) fn prune(&self, now: Instant) {
        let mut failures = self.failures();
        failures.retain(|_, count| self.remaining(*count, now) > 0.0);
        failures.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failures_expire_at_the_rate_of_the_limit() {
        let limiter = JoinLimiter::new(NonZeroU32::new(30).expect("not zero"));
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        for _ in 0..30 {
            assert!(limiter.is_allowed(one, start));
            limiter.record_failure(one, start);
        }
        assert!(!limiter.is_allowed(one, start));
        assert!(limiter.is_allowed(other, start));
        assert!(!limiter.is_allowed(one, start + Duration::from_secs(1)));
        assert!(limiter.is_allowed(one, start + Duration::from_secs(2)));
        limiter.prune(start + Duration::from_secs(59));
        assert_eq!(limiter.failures().len(), 1);
        limiter.prune(start + Duration::from_secs(61));
        assert!(limiter.failures().is_empty());
    }
}
