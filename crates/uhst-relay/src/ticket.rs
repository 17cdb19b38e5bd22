//! The position of each message among those of its sender.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::arrivals::{Arrival, SenderId};

/// The longest time a message waits for earlier ones, parts of which may still be missing.
const REORDER_TIMEOUT: Duration = Duration::from_secs(1);

/// The messages of one sender that are not yet in a queue.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    numbers: Mutex<BTreeSet<u64>>,
    fewer: Notify,
}

impl InFlight {
    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no message has a lower number.
    async fn wait_until_first(&self, number: u64) {
        loop {
            let fewer = self.fewer.notified();
            if self.numbers().first().is_none_or(|first| *first >= number) {
                return;
            }
            fewer.await;
        }
    }
}

/// The position of a message among those of its sender, held from the arrival of its head until it is queued.
pub(super) struct Ticket {
    sender: SenderId,
    in_flight: Arc<InFlight>,
    arrival: Arc<Arrival>,
    number: u64,
}

impl Ticket {
    /// Creates the ticket of a message of this sender whose head has arrived on this connection.
    pub(super) fn new(sender: SenderId, in_flight: Arc<InFlight>, arrival: Arc<Arrival>) -> Self {
        let number = arrival.message_of(sender);
        in_flight.numbers().insert(number);
        Ticket { sender, in_flight, arrival, number }
    }

    /// Waits for earlier messages, but no longer than [`REORDER_TIMEOUT`]: the sender may have lost one in transit.
    pub(super) async fn wait_turn(&self) {
        let before = self.arrival.wait_for_earlier(self.number, self.sender);
        if before.is_none() && self.in_flight.numbers().first() == Some(&self.number) {
            return;
        }
        let turn = async {
            if let Some(before) = before {
                let _ = before.await;
            }
            self.in_flight.wait_until_first(self.number).await;
        };
        let _ = timeout(REORDER_TIMEOUT, turn).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.in_flight.numbers().remove(&self.number);
        self.in_flight.fewer.notify_waiters();
    }
}
