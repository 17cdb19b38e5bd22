//! How fast messages of 64 bytes are.

use std::time::Duration;

use bevy::{platform::time::Instant, prelude::*};
use bevy_uhst::prelude::*;
use serde::Deserialize;
use serde_json::json;

use crate::report;

/// What to measure.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measurement {
    /// The time until a message is back, so often. One is under way at a time.
    Echo(usize),
    /// The time to send so many messages, as fast as the queue takes them.
    Send(usize),
    /// The time from the first to the last of so many messages.
    Receive(usize),
}

/// The measurement in progress.
#[derive(Resource, Default)]
pub struct Speed {
    measurement: Option<Measurement>,
    /// When the first message was received, or the last one was sent.
    since: Option<Instant>,
    done: usize,
    times: Vec<Duration>,
}

impl Speed {
    pub fn of(measurement: Measurement) -> Self {
        Speed { measurement: Some(measurement), ..default() }
    }

    /// Counts a received message. Returns `false` if nothing is measured.
    pub fn receive(&mut self) -> bool {
        match self.measurement {
            None => return false,
            Some(Measurement::Echo(count)) => {
                if let Some(since) = self.since.take() {
                    self.times.push(since.elapsed());
                }
                if self.times.len() == count {
                    self.times.sort();
                    let milliseconds = |part: usize| self.times[count * part / 100].as_secs_f64() * 1000.0;
                    report("echo", json!({ "p50": milliseconds(50), "p95": milliseconds(95) }));
                    *self = default();
                }
            }
            Some(Measurement::Receive(count)) => {
                let since = *self.since.get_or_insert_with(Instant::now);
                self.done += 1;
                if self.done == count {
                    report("received", json!(since.elapsed().as_secs_f64()));
                    *self = default();
                }
            }
            Some(Measurement::Send(_)) => {}
        }
        true
    }
}

/// Sends what the measurement needs.
pub fn send(peers: Query<&UhstPeer>, mut speed: ResMut<Speed>) {
    let Some(peer) = peers.iter().next() else { return };
    let payload = || Payload::from(vec![7; 64]);
    match speed.measurement {
        Some(Measurement::Echo(_)) if speed.since.is_none() && peer.send(payload()).is_ok() => {
            speed.since = Some(Instant::now());
        }
        Some(Measurement::Send(count)) => {
            while speed.done < count && peer.send(payload()).is_ok() {
                speed.done += 1;
            }
            if speed.done == count {
                *speed = default();
                report("sent", json!(count));
            }
        }
        _ => {}
    }
}
