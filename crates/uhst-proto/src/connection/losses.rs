//! Losses on the unreliable channels: what this side misses, and what the peer tells that it misses.
//!
//! Only a receiver knows what was lost. It counts the gaps in the numbers of fragments, and tells the sum with its pings.

use core::time::Duration;

use super::{Timestamp, unreliable::UnreliableReceiver};
use crate::protocol::frame::ping_token;

/// How long a fragment may be late until it counts as lost, at least; how often a new count is told, at most.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Losses {
    /// What is missing here for a period and longer.
    missed: u64,
    /// Gaps above may still be filled, per channel.
    settled: [u64; 2],
    /// When to count again.
    due: Timestamp,
    /// The count that the peer was told last.
    reported: u64,
    /// What the peer misses.
    peer: u64,
}

impl Losses {
    /// Counts again when it is time. `true`: the peer should be told.
    pub(super) fn count(&mut self, channels: &[UnreliableReceiver; 2], now: Timestamp) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + PERIOD;
        self.missed = 0;
        for (channel, settled) in channels.iter().zip(&mut self.settled) {
            self.missed = self.missed.saturating_add(channel.missed_below(*settled));
            *settled = channel.end();
        }
        self.missed != self.reported
    }

    /// The token of the ping with this number, which is written now. It tells the losses once there are any.
    pub(super) fn token(&mut self, number: u64) -> u64 {
        if self.missed == 0 && self.reported == 0 {
            return number;
        }
        self.reported = self.missed;
        ping_token::with_losses(number, self.missed as u32)
    }

    /// A ping came. What was late may lower the count.
    pub(super) fn ping(&mut self, ping: u64) {
        let Some(count) = ping_token::losses(ping) else { return };
        let change = count.wrapping_sub(self.peer as u32).cast_signed();
        self.peer = self.peer.saturating_add_signed(change.into());
    }

    /// What the peer misses of what this side sent, as far as it has told.
    pub(super) fn reported_by_peer(&self) -> u64 {
        self.peer
    }
}
