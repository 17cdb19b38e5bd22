//! Numbered messages, which show what is lost.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{prelude::*, test_app::TestLog};

use crate::support::the_peer;

/// How many numbered messages go each way, unless a test needs more.
pub const NUMBERS: u32 = 1000;

/// Sends numbered messages at an interval.
pub struct Numbers {
    pub next: u32,
    count: u32,
    every: Duration,
    at: Instant,
}

impl Numbers {
    pub fn new() -> Self {
        Numbers::every(Duration::from_millis(15), NUMBERS)
    }

    /// So many messages, at this interval.
    pub fn every(every: Duration, count: u32) -> Self {
        Numbers { next: 0, count, every, at: Instant::now() }
    }

    /// Sends the messages that are due, until the queue is full.
    pub fn send(&mut self, app: &mut App) {
        let peer = the_peer(app);
        let peer = app.world().get::<UhstPeer>(peer).unwrap();
        while self.next < self.count
            && self.at.elapsed() > self.every
            && peer.send(format!("number {} of {}", self.next, self.count)).is_ok()
        {
            self.next += 1;
            self.at += self.every;
        }
    }

    pub fn are_sent(&self) -> bool {
        self.next == self.count
    }
}

/// Whether an app has received so many numbers, in order.
pub fn has_numbers(app: &App, count: u32) -> bool {
    let texts = TestLog::of(app).texts();
    let numbers: Vec<_> = texts.iter().filter(|text| text.starts_with("number ")).collect();
    for (at, text) in numbers.iter().enumerate() {
        assert_eq!(**text, format!("number {at} of {count}"));
    }
    numbers.len() == count as usize
}
