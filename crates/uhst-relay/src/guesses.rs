//! How often an address may try to join under ids that are none.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// How many addresses are counted. More at once can only be an attack, of which each has had a wrong guess.
const MOST: usize = 100_000;

/// The wrong joins of each address: as many at once as in a minute, and then one each time that one is forgotten.
#[derive(Debug)]
pub(super) struct Guesses {
    per_minute: f64,
    wrong: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Guesses {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Guesses { per_minute: per_minute.get().into(), wrong: Mutex::default() }
    }

    fn wrong(&self) -> MutexGuard<'_, HashMap<IpAddr, (f64, Instant)>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wrong joins are not forgotten yet.
    fn left(&self, (count, at): (f64, Instant), now: Instant) -> f64 {
        count - now.duration_since(at).as_secs_f64() * self.per_minute / 60.0
    }

    /// Whether this address may try again. What it tries is not looked at before.
    pub(super) fn may_try(&self, network: IpAddr, now: Instant) -> bool {
        let wrong = self.wrong();
        match wrong.get(&network) {
            Some(count) => self.left(*count, now) <= self.per_minute - 1.0,
            None => wrong.len() < MOST,
        }
    }

    /// Counts a wrong join.
    pub(super) fn was_wrong(&self, network: IpAddr, now: Instant) {
        let mut wrong = self.wrong();
        let count = wrong.get(&network).map_or(0.0, |count| self.left(*count, now).max(0.0));
        wrong.insert(network, (count + 1.0, now));
    }

    /// Forgets the addresses whose wrong joins are all forgotten.
    pub(super) fn tidy(&self, now: Instant) {
        let mut wrong = self.wrong();
        wrong.retain(|_, count| self.left(*count, now) > 0.0);
        wrong.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wrong_join_is_forgotten_after_its_part_of_a_minute() {
        let guesses = Guesses::new(NonZeroU32::new(30).expect("not zero"));
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        for _ in 0..30 {
            assert!(guesses.may_try(one, start));
            guesses.was_wrong(one, start);
        }
        assert!(!guesses.may_try(one, start));
        assert!(guesses.may_try(other, start));
        assert!(!guesses.may_try(one, start + Duration::from_secs(1)));
        assert!(guesses.may_try(one, start + Duration::from_secs(2)));
        guesses.tidy(start + Duration::from_secs(59));
        assert_eq!(guesses.wrong().len(), 1);
        guesses.tidy(start + Duration::from_secs(61));
        assert!(guesses.wrong().is_empty());
    }
}
