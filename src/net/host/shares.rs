//! What strangers may cost a host: handshakes in shares for each place they come from, and password guesses ever slower.
//!
//! A stranger comes from an *origin*: the name that our relay gives to its address, or its client id where the relay names
//! no address. One origin cannot use up what the others need.

use std::{collections::HashMap, time::Duration};

use n0_future::time::Instant;

/// Handshakes begun for all origins, at once and each second. One costs a host some hundred microseconds of elliptic
/// curves.
const ALL: f64 = 64.0;
/// Handshakes begun for one origin, at once and each second.
const EACH: f64 = 16.0;
/// Origins that are remembered.
const ORIGINS: usize = 1024;
/// Wrong passwords of all origins: so many at once, and then one a second. Who has a new address for each guess meets
/// this limit.
const WRONG: f64 = 32.0;
/// Wrong passwords of an origin without a wait: players mistype.
const FREE: u32 = 3;
/// The wait of an origin after the next wrong password. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of an origin.
const LAST_WAIT: Duration = Duration::from_secs(60);
/// An origin that stays quiet for so long is forgotten, with its wrong passwords.
const MEMORY: Duration = Duration::from_secs(600);

/// Allows a number at once, and a rate over time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    since: Instant,
}

impl Bucket {
    fn full(size: f64, now: Instant) -> Self {
        Bucket { left: size, since: now }
    }

    /// What is left in a bucket of this size that gains so many a second.
    fn refill(&mut self, size: f64, rate: f64, now: Instant) -> f64 {
        self.left = size.min(self.left + now.saturating_duration_since(self.since).as_secs_f64() * rate);
        self.since = now;
        self.left
    }
}

#[derive(Debug)]
struct Origin {
    handshakes: Bucket,
    /// Wrong passwords.
    wrong: u32,
    /// No guess is heard before.
    closed_until: Instant,
    last_seen: Instant,
}

impl Origin {
    fn wait(&self) -> Duration {
        match self.wrong.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => (FIRST_WAIT * 2u32.pow(doublings.min(16))).min(LAST_WAIT),
        }
    }
}

/// What becomes of a stranger's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handshake begins.
    Begin,
    /// Too many at once: the stranger asks again by itself.
    Later,
    /// Too many wrong passwords: the next guess is heard after this time.
    Wait(Duration),
}

/// The shares of all origins.
#[derive(Debug)]
pub(super) struct Shares {
    all: Bucket,
    wrong: Bucket,
    wrong_total: u64,
    origins: HashMap<Box<str>, Origin>,
}

impl Shares {
    pub(super) fn new(now: Instant) -> Self {
        Shares { all: Bucket::full(ALL, now), wrong: Bucket::full(WRONG, now), wrong_total: 0, origins: HashMap::new() }
    }

    /// Whether a handshake may begin. `guess`: the session has a password, so the handshake tests one.
    pub(super) fn begin(&mut self, origin: &str, guess: bool, now: Instant) -> Verdict {
        if guess && self.wrong.refill(WRONG, 1.0, now) < 1.0 {
            return Verdict::Later;
        }
        if self.all.refill(ALL, ALL, now) < 1.0 {
            return Verdict::Later;
        }
        let origin = self.origin(origin, now);
        if guess && now < origin.closed_until {
            return Verdict::Wait(origin.closed_until - now);
        }
        if origin.handshakes.refill(EACH, EACH, now) < 1.0 {
            return Verdict::Later;
        }
        origin.handshakes.left -= 1.0;
        if guess {
            // Guesses side by side would all be heard before the first turns out to be wrong.
            origin.closed_until = now + origin.wait();
        }
        self.all.left -= 1.0;
        Verdict::Begin
    }

    /// A password was wrong. Returns how many were so far, when the game should hear of it: at each power of two, so that
    /// guesses cannot flood the log.
    pub(super) fn wrong_password(&mut self, origin: &str, now: Instant) -> Option<u64> {
        self.wrong.refill(WRONG, 1.0, now);
        self.wrong.left = (self.wrong.left - 1.0).max(0.0);
        self.wrong_total += 1;
        let origin = self.origin(origin, now);
        origin.wrong = origin.wrong.saturating_add(1);
        origin.closed_until = now + origin.wait();
        self.wrong_total.is_power_of_two().then_some(self.wrong_total)
    }

    fn origin(&mut self, name: &str, now: Instant) -> &mut Origin {
        if !self.origins.contains_key(name) {
            self.make_room(now);
        }
        let origin = self.origins.entry(name.into()).or_insert_with(|| Origin {
            handshakes: Bucket::full(EACH, now),
            wrong: 0,
            closed_until: now,
            last_seen: now,
        });
        origin.last_seen = now;
        origin
    }

    /// Forgets origins that were quiet for long, or else the one that was quiet for longest.
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
    fn a_flood_from_one_origin_leaves_room_for_the_others() {
        let mut now = Instant::now();
        let mut shares = Shares::new(now);
        let mut flooded = 0;
        for number in 0..2400 {
            now += SECOND / 2400;
            flooded += usize::from(shares.begin("flood", false, now) == Verdict::Begin);
            if number % 240 == 0 {
                assert_eq!(shares.begin(&format!("honest {number}"), false, now), Verdict::Begin);
            }
        }
        assert!((1..=33).contains(&flooded), "{flooded}");
    }

    #[test]
    fn every_wrong_password_makes_its_origin_wait_for_longer() {
        let mut now = Instant::now();
        let mut shares = Shares::new(now);
        let mut waits = Vec::new();
        for number in 0..FREE + 8 {
            assert_eq!(shares.begin("guesser", true, now), Verdict::Begin);
            shares.wrong_password("guesser", now);
            if number < FREE {
                continue;
            }
            let Verdict::Wait(wait) = shares.begin("guesser", true, now) else { panic!("a guess without a wait") };
            assert_eq!(shares.begin("honest", true, now), Verdict::Begin);
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        // Where there is nothing to guess, nobody waits.
        shares.wrong_password("guesser", now);
        assert_eq!(shares.begin("guesser", false, now), Verdict::Begin);
    }

    #[test]
    fn guesses_side_by_side_wait_as_well() {
        let now = Instant::now();
        let mut shares = Shares::new(now);
        for _ in 0..=FREE {
            assert_eq!(shares.begin("guesser", true, now), Verdict::Begin);
            shares.wrong_password("guesser", now);
        }
        let now = now + SECOND;
        assert_eq!(shares.begin("guesser", true, now), Verdict::Begin);
        assert_eq!(shares.begin("guesser", true, now), Verdict::Wait(SECOND));
    }

    #[test]
    fn guesses_from_ever_new_origins_come_down_to_one_a_second() {
        let mut now = Instant::now();
        let mut shares = Shares::new(now);
        let mut heard = 0;
        for number in 0..6000 {
            now += SECOND / 100;
            if shares.begin(&format!("{number}"), true, now) == Verdict::Begin {
                shares.wrong_password(&format!("{number}"), now);
                heard += 1;
            }
        }
        assert!((90..=93).contains(&heard), "{heard} in a minute");
        assert!(shares.origins.len() <= ORIGINS);
    }

    #[test]
    fn the_game_hears_of_wrong_passwords_ever_more_rarely() {
        let now = Instant::now();
        let mut shares = Shares::new(now);
        let told: Vec<u64> = (0..100).filter_map(|_| shares.wrong_password("guesser", now)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
    }
}
