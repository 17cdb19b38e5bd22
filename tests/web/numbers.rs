//! Numbered messages, which show what is lost.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{prelude::*, test_app::TestLog};

use crate::support::the_peer;

/// How many numbered messages go each way.
pub const NUMBERS: u32 = 1000;

/// Sends numbered messages, a few in each update.
pub struct Numbers {
    pub next: u32,
    at: Instant,
}

impl Numbers {
    pub fn new() -> Self {
        Numbers { next: 0, at: Instant::now() }
    }

    pub fn send(&mut self, app: &mut App) {
        if self.next < NUMBERS && self.at.elapsed() > Duration::from_millis(20) {
            let peer = the_peer(app);
            let peer = app.world().get::<UhstPeer>(peer).unwrap();
            if peer.send(format!("number {} of {NUMBERS}", self.next)).is_ok() {
                self.next += 1;
                self.at += Duration::from_millis(15);
            }
        }
    }
}

/// Whether an app has received all numbers, in order.
pub fn has_numbers(app: &App) -> bool {
    let texts = TestLog::of(app).texts();
    let numbers: Vec<_> = texts.iter().filter(|text| text.starts_with("number ")).collect();
    for (at, text) in numbers.iter().enumerate() {
        assert_eq!(**text, format!("number {at} of {NUMBERS}"));
    }
    numbers.len() == NUMBERS as usize
}
