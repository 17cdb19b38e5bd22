//! Rates per second, from counts.

use std::time::Duration;

use bevy::prelude::*;

use crate::net::Traffic;

/// The traffic of one connection per second, as a mean over about the last second.
///
/// Counted as in [`Traffic`]. Zero until the first second of a connection is over.
#[derive(Reflect, Clone, Copy, Debug, Default, PartialEq)]
#[reflect(Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages sent per second.
    pub sent_messages: f32,
    /// Bytes sent per second.
    pub sent_bytes: f32,
    /// Messages received per second.
    pub received_messages: f32,
    /// Bytes received per second.
    pub received_bytes: f32,
    /// Losses per second, among what was sent.
    pub lost: f32,
}

impl Rates {
    /// Divides counts by the time in which they were made.
    pub(super) fn over(counted: Traffic, elapsed: Duration) -> Self {
        // Two moments may be the same to a coarse clock.
        let seconds = elapsed.as_secs_f64().max(0.001);
        let per_second = |count: u64| (count as f64 / seconds) as f32;
        Rates {
            sent_messages: per_second(counted.sent_messages),
            sent_bytes: per_second(counted.sent_bytes),
            received_messages: per_second(counted.received_messages),
            received_bytes: per_second(counted.received_bytes),
            lost: per_second(counted.lost),
        }
    }
}

/// Returns the difference of two counts of one connection.
pub(super) fn difference(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        sent_messages: now.sent_messages.saturating_sub(before.sent_messages),
        sent_bytes: now.sent_bytes.saturating_sub(before.sent_bytes),
        received_messages: now.received_messages.saturating_sub(before.received_messages),
        received_bytes: now.received_bytes.saturating_sub(before.received_bytes),
        lost: now.lost.saturating_sub(before.lost),
    }
}

/// Adds the counts of one connection to those of others.
pub(super) fn add(sum: &mut Traffic, counted: Traffic) {
    sum.sent_messages += counted.sent_messages;
    sum.sent_bytes += counted.sent_bytes;
    sum.received_messages += counted.received_messages;
    sum.received_bytes += counted.received_bytes;
    sum.lost += counted.lost;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_counts_per_second() {
        let before = Traffic { sent_messages: 5, sent_bytes: 500, lost: 1, ..default() };
        let now = Traffic { sent_messages: 25, sent_bytes: 4500, received_messages: 3, received_bytes: 30, lost: 2 };
        let rates = Rates::over(difference(now, before), Duration::from_secs(2));
        let expected =
            Rates { sent_messages: 10.0, sent_bytes: 2000.0, received_messages: 1.5, received_bytes: 15.0, lost: 0.5 };
        assert_eq!(rates, expected);
        assert!(Rates::over(now, Duration::ZERO).sent_bytes.is_finite());
    }
}
