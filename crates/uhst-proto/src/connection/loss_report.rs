//! Losses on the unreliable channels, counted by the receiver and reported to the sender.
//!
//! Only a receiver knows what was lost. It counts the gaps in the numbers of fragments, and reports the sum with its
//! pings.

use core::time::Duration;

use super::{Timestamp, unreliable::UnreliableReceiver};
use crate::protocol::frame::ping_token;

/// How late a fragment may arrive before it counts as lost, at least. Also the shortest time between two reports.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct LossReport {
    /// The fragments that have been missing for at least a period.
    missed: u64,
    /// Per channel: gaps above this number may still be filled.
    settled: [u64; 2],
    /// When to count again.
    due: Timestamp,
    /// The count that was last reported to the peer.
    reported: u64,
    /// The count that the peer reported.
    peer: u64,
}

impl LossReport {
    /// Counts again when it is due. Returns whether to report a new count to the peer.
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

    /// Returns the token of the ping with this number, which is about to be written. The token reports the losses once
    /// there are any.
    pub(super) fn token(&mut self, number: u64) -> u64 {
        if self.missed == 0 && self.reported == 0 {
            return number;
        }
        self.reported = self.missed;
        ping_token::with_losses(number, self.missed as u32)
    }

    /// Applies a ping of the peer. Late fragments may lower its count.
    pub(super) fn ping(&mut self, ping: u64) {
        let Some(count) = ping_token::losses(ping) else { return };
        let change = count.wrapping_sub(self.peer as u32).cast_signed();
        self.peer = self.peer.saturating_add_signed(change.into());
    }

    /// The fragments that the peer missed, as far as it has reported.
    pub(super) fn reported_by_peer(&self) -> u64 {
        self.peer
    }
}
