//! The faults that a hostile proxy applies to requests, and their choice from a seed.

#![allow(dead_code, reason = "the soak and the tests use a part of it each")]

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;

/// The side that sends requests. Each side of a session uses an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Host,
    Client,
}

/// An answer of the proxy in place of the relay's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// The seconds of a `Retry-After` header.
    pub retry_after: Option<u16>,
    /// Whether the body is a web page, as captive portals and load balancers send.
    pub html: bool,
}

impl Refusal {
    /// A refusal that asks to come again.
    pub const BUSY: Self = Refusal { status: 503, retry_after: Some(1), html: false };
    pub const UNAVAILABLE: Self = Refusal { status: 503, retry_after: None, html: false };

    fn any(random: &mut Rng) -> Self {
        let status = [200, 429, 500, 502, 503][random.usize(..5)];
        Refusal { status, retry_after: random.bool().then_some(1), html: status == 200 || random.bool() }
    }
}

/// The answer to the sender of a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The relay's answer, delayed by this time.
    Relayed(Duration),
    /// No answer until the client gives up.
    Never,
    /// The connection is closed.
    Closed,
    Refused(Refusal),
}

/// The fault of one POST of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostFault {
    /// The delay before it is passed on.
    pub delay: Duration,
    /// The number of copies that are passed on: 0, 1 or 2.
    pub copies: u8,
    /// The delay before the second copy.
    pub again_after: Duration,
    pub answer: Answer,
    /// Whether the answer does not wait for the delivery.
    pub answer_first: bool,
}

impl PostFault {
    pub const NONE: Self = PostFault {
        delay: Duration::ZERO,
        copies: 1,
        again_after: Duration::ZERO,
        answer: Answer::Relayed(Duration::ZERO),
        answer_first: false,
    };
}

/// A cut of an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The time of the cut after the stream was opened.
    pub after: Duration,
    /// Whether the body is completed, instead of a closed connection.
    pub clean: bool,
    /// How long the relay still counts the stream as open.
    pub linger: Duration,
}

/// The fault of one event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFault {
    /// The delay before it is requested from the relay.
    pub delay: Duration,
    /// Whether the answer is a 307 to the same relay.
    pub redirected: bool,
    pub refused: Option<Refusal>,
    pub cut: Option<Cut>,
    /// Whether it arrives in chunks of few bytes, which split lines and characters.
    pub split: bool,
}

impl StreamFault {
    pub const NONE: Self =
        StreamFault { delay: Duration::ZERO, redirected: false, refused: None, cut: None, split: false };
}

/// Chooses the faults. Requests of each kind are counted from 0 for each side.
pub trait Faults: Send + Sync + 'static {
    fn post(&self, _side: Side, _number: u64) -> PostFault {
        PostFault::NONE
    }

    fn stream(&self, _side: Side, _number: u64) -> StreamFault {
        StreamFault::NONE
    }

    /// The refusal of a request for a token, if it is refused.
    fn token(&self, _side: Side, _number: u64) -> Option<Refusal> {
        None
    }

    /// The POSTs that the relay gets in place of this one, each with its query and its body; `None`: it gets this one.
    fn instead(&self, _query: &str, _body: &Bytes) -> Option<Vec<(String, Bytes)>> {
        None
    }
}

/// Applies no faults.
pub struct Honest;

impl Faults for Honest {}

/// Chooses faults of all kinds from a seed. The same request gets the same fault.
pub struct Seeded {
    seed: u64,
    /// The percentage of POSTs with a fault.
    posts: u8,
    may_drop: bool,
    may_double: bool,
    may_delay: bool,
    may_swallow: bool,
    may_refuse: bool,
    /// The percentages of streams that are refused, redirected and cut.
    streams: [u8; 3],
    split: bool,
}

impl Seeded {
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut often = |choices: [u8; 4]| choices[random.usize(..4)];
        let (posts, streams) =
            (often([0, 10, 25, 50]), [often([0, 0, 20, 50]), often([0, 0, 20, 50]), often([0, 50, 80, 100])]);
        let mut may = || random.u8(..10) < 6;
        Seeded {
            seed,
            posts,
            may_drop: may(),
            may_double: may(),
            may_delay: may(),
            may_swallow: may(),
            may_refuse: may(),
            streams,
            split: may(),
        }
    }

    fn random(&self, kind: u64, side: Side, number: u64) -> Rng {
        let place =
            (kind * 2 + side as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        Rng::with_seed(self.seed.rotate_left(17) ^ place)
    }

    fn answer(&self, random: &mut Rng) -> Answer {
        match random.u8(..10) {
            0 if self.may_swallow => Answer::Never,
            1..3 if self.may_swallow => Answer::Closed,
            3..6 if self.may_refuse => Answer::Refused(Refusal::any(random)),
            6..8 if self.may_delay => Answer::Relayed(millis(random, 2500)),
            _ => Answer::Relayed(Duration::ZERO),
        }
    }
}

impl Faults for Seeded {
    fn post(&self, side: Side, number: u64) -> PostFault {
        let mut random = self.random(0, side, number);
        if random.u8(..100) >= self.posts {
            return PostFault::NONE;
        }
        let delay = if self.may_delay && random.bool() { millis(&mut random, 800) } else { Duration::ZERO };
        let copies = match random.u8(..10) {
            0..2 if self.may_drop => 0,
            2..4 if self.may_double => 2,
            _ => 1,
        };
        let again_after = millis(&mut random, 500);
        let answer = match self.answer(&mut random) {
            // An answer of the relay means that the message was delivered.
            Answer::Relayed(_) if copies == 0 => Answer::Refused(Refusal::any(&mut random)),
            answer => answer,
        };
        let answer_first = !matches!(answer, Answer::Relayed(_)) && random.bool();
        PostFault { delay, copies, again_after, answer, answer_first }
    }

    fn stream(&self, side: Side, number: u64) -> StreamFault {
        let mut random = self.random(1, side, number);
        let [refused, redirected, cut] = self.streams.map(|percent| random.u8(..100) < percent);
        let refusal = Refusal::any(&mut random);
        let cut = cut.then(|| Cut {
            after: millis(&mut random, 4000),
            clean: random.bool(),
            linger: if random.bool() { millis(&mut random, 1000) } else { Duration::ZERO },
        });
        let delay = if self.may_delay && random.bool() { millis(&mut random, 2000) } else { Duration::ZERO };
        StreamFault {
            delay,
            redirected: redirected && number.is_multiple_of(2),
            refused: refused.then_some(refusal),
            cut,
            split: self.split && random.bool(),
        }
    }

    fn token(&self, side: Side, number: u64) -> Option<Refusal> {
        let mut random = self.random(2, side, number);
        let refused = random.u8(..100) < self.streams[0];
        let refusal = Refusal::any(&mut random);
        // A start may give up if the relay gives no token for seconds, or a web page instead.
        (refused && number % 3 < 2 && refusal.status != 200).then_some(refusal)
    }
}

pub fn millis(random: &mut Rng, most: u64) -> Duration {
    Duration::from_millis(random.u64(..most))
}
