//! Whose stream is written next: requests go first, then streams, a few at a time.
//!
//! Every write costs as much as all the rest of a message. While requests keep coming, what they bring gathers in
//! the queues and each listener gets it in one write; when none is waiting, streams are written at once. Nothing waits
//! for a timer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::yield_now};

use super::listener::Listener;

/// How many streams are written before requests are looked at again.
const BATCH: usize = 4;

/// Listeners with something to read, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct WriteScheduler {
    queue: Mutex<VecDeque<Arc<Listener>>>,
    arrived: Notify,
}

impl WriteScheduler {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Listener>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listener's stream is woken when its turn comes.
    pub(super) fn enqueue(&self, listener: Arc<Listener>) {
        let mut queue = self.queue();
        let first = queue.is_empty();
        queue.push_back(listener);
        drop(queue);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Gives everybody their turn, forever.
    pub(super) async fn run(&self) {
        loop {
            // Lets every request run that is ready, and the system name those that have arrived.
            yield_now().await;
            for _ in 0..BATCH {
                let next = self.queue().pop_front();
                match next {
                    Some(listener) => listener.wake(),
                    None => {
                        self.arrived.notified().await;
                        break;
                    }
                }
            }
        }
    }
}
