//! Limits what unknown peers cost a host: handshakes, shared out by origin, and password guesses, ever slower.
//!
//! An *origin* is the name that our relay gives to an address, or the client id where the relay names no address. One
//! origin cannot use up what the others need.

use std::{collections::HashMap, time::Duration};

use n0_future::time::Instant;

use crate::net::token_bucket::TokenBucket;

/// Handshakes of all origins, at once and per second. A handshake costs a host some hundred microseconds of elliptic
/// curves.
const ALL: f64 = 64.0;
/// Handshakes of one origin, at once and per second.
const PER_ORIGIN: f64 = 16.0;
/// How many origins are remembered.
const ORIGINS: usize = 1024;
/// Wrong passwords of all origins at once; then one per second. This limits those who have a new address for each guess.
const WRONG: f64 = 32.0;
/// Wrong passwords of an origin without a wait: players mistype.
const FREE: u32 = 3;
/// The wait of an origin after the next wrong password. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of an origin.
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How long an idle origin is remembered, with its wrong passwords.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Origin {
    handshakes: TokenBucket,
    wrong_passwords: u32,
    /// Guesses before this time are refused.
    closed_until: Instant,
    last_seen: Instant,
}

impl Origin {
    fn wait(&self) -> Duration {
        match self.wrong_passwords.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => (FIRST_WAIT * 2u32.pow(doublings.min(16))).min(LAST_WAIT),
        }
    }
}

/// The verdict on the hello of an unknown peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handshake may begin.
    Begin,
    /// Too many at once. The peer repeats its hello by itself.
    Later,
    /// Too many wrong passwords. The next guess is allowed after this time.
    Wait(Duration),
}

/// The limits of one host.
#[derive(Debug)]
pub(super) struct HandshakeLimits {
    all: TokenBucket,
    wrong: TokenBucket,
    wrong_total: u64,
    origins: HashMap<Box<str>, Origin>,
    /// The origin of the buckets' time.
    created: Instant,
}

impl HandshakeLimits {
    pub fn new(now: Instant) -> Self {
        HandshakeLimits {
            all: TokenBucket::new(ALL, ALL, Duration::ZERO),
            wrong: TokenBucket::new(WRONG, 1.0, Duration::ZERO),
            wrong_total: 0,
            origins: HashMap::new(),
            created: now,
        }
    }

    /// Decides whether a handshake may begin. `guess`: the session has a password, so the handshake tests one.
    pub fn begin(&mut self, origin: &str, guess: bool, now: Instant) -> Verdict {
        let at = now.saturating_duration_since(self.created);
        if guess && !self.wrong.has_token(at) || !self.all.has_token(at) {
            return Verdict::Later;
        }
        let origin = self.origin(origin, now);
        if guess && now < origin.closed_until {
            return Verdict::Wait(origin.closed_until - now);
        }
        if !origin.handshakes.try_take(at) {
            return Verdict::Later;
        }
        if guess {
            // Otherwise parallel guesses all begin before the first turns out to be wrong.
            origin.closed_until = now + origin.wait();
        }
        self.all.take(at);
        Verdict::Begin
    }

    /// Records a wrong password. Returns the number so far when it is to be reported: at each power of two, so that guesses
    /// cannot flood the log.
    pub fn wrong_password(&mut self, origin: &str, now: Instant) -> Option<u64> {
        self.wrong.take(now.saturating_duration_since(self.created));
        self.wrong_total += 1;
        let origin = self.origin(origin, now);
        origin.wrong_passwords = origin.wrong_passwords.saturating_add(1);
        origin.closed_until = now + origin.wait();
        self.wrong_total.is_power_of_two().then_some(self.wrong_total)
    }

    fn origin(&mut self, name: &str, now: Instant) -> &mut Origin {
        if !self.origins.contains_key(name) {
            self.make_room(now);
        }
        let at = now.saturating_duration_since(self.created);
        let origin = self.origins.entry(name.into()).or_insert_with(|| Origin {
            handshakes: TokenBucket::new(PER_ORIGIN, PER_ORIGIN, at),
            wrong_passwords: 0,
            closed_until: now,
            last_seen: now,
        });
        origin.last_seen = now;
        origin
    }

    /// Forgets idle origins, or else the one that is idle for longest.
    fn make_room(&mut self, now: Instant) {
        if self.origins.len() < ORIGINS {
            return;
        }
        self.origins.retain(|_, origin| now.saturating_duration_since(origin.last_seen) < MEMORY);
        if self.origins.len() >= ORIGINS
            && let Some(oldest) = self.origins.iter().min_by_key(|(_, origin)| origin.last_seen).map(|(name, _)| name)
        {
            let oldest = oldest.clone();
            self.origins.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_flood_from_one_origin_leaves_room_for_others() {
        let mut now = Instant::now();
        let mut limits = HandshakeLimits::new(now);
        let mut flooded = 0;
        for number in 0..2400 {
            now += SECOND / 2400;
            flooded += usize::from(limits.begin("flood", false, now) == Verdict::Begin);
            if number % 240 == 0 {
                assert_eq!(limits.begin(&format!("honest {number}"), false, now), Verdict::Begin);
            }
        }
        assert!((1..=33).contains(&flooded), "{flooded}");
    }

    #[test]
    fn each_wrong_password_lengthens_the_wait_of_its_origin() {
        let mut now = Instant::now();
        let mut limits = HandshakeLimits::new(now);
        let mut waits = Vec::new();
        for number in 0..FREE + 8 {
            assert_eq!(limits.begin("guesser", true, now), Verdict::Begin);
            limits.wrong_password("guesser", now);
            if number < FREE {
                continue;
            }
            let Verdict::Wait(wait) = limits.begin("guesser", true, now) else { panic!("a guess without a wait") };
            assert_eq!(limits.begin("honest", true, now), Verdict::Begin);
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        // Without a password to guess, nobody waits.
        limits.wrong_password("guesser", now);
        assert_eq!(limits.begin("guesser", false, now), Verdict::Begin);
    }

    #[test]
    fn parallel_guesses_wait_as_well() {
        let now = Instant::now();
        let mut limits = HandshakeLimits::new(now);
        for _ in 0..=FREE {
            assert_eq!(limits.begin("guesser", true, now), Verdict::Begin);
            limits.wrong_password("guesser", now);
        }
        let now = now + SECOND;
        assert_eq!(limits.begin("guesser", true, now), Verdict::Begin);
        assert_eq!(limits.begin("guesser", true, now), Verdict::Wait(SECOND));
    }

    #[test]
    fn guesses_from_new_origins_are_limited_to_one_per_second() {
        let mut now = Instant::now();
        let mut limits = HandshakeLimits::new(now);
        let mut allowed = 0;
        for number in 0..6000 {
            now += SECOND / 100;
            if limits.begin(&format!("{number}"), true, now) == Verdict::Begin {
                limits.wrong_password(&format!("{number}"), now);
                allowed += 1;
            }
        }
        assert!((90..=93).contains(&allowed), "{allowed} in a minute");
        assert!(limits.origins.len() <= ORIGINS);
    }

    #[test]
    fn wrong_passwords_are_reported_at_powers_of_two() {
        let now = Instant::now();
        let mut limits = HandshakeLimits::new(now);
        let reported: Vec<u64> = (0..100).filter_map(|_| limits.wrong_password("guesser", now)).collect();
        assert_eq!(reported, [1, 2, 4, 8, 16, 32, 64]);
    }
}
