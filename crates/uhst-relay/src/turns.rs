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
const AT_ONCE: usize = 4;

/// Listeners with something to read, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Turns {
    line: Mutex<VecDeque<Arc<Listener>>>,
    arrived: Notify,
}

impl Turns {
    fn line(&self) -> MutexGuard<'_, VecDeque<Arc<Listener>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listener's stream is woken when its turn comes.
    pub(super) fn stand_in_line(&self, listener: Arc<Listener>) {
        let mut line = self.line();
        let first = line.is_empty();
        line.push_back(listener);
        drop(line);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Gives everybody their turn, forever.
    pub(super) async fn run(&self) {
        loop {
            // Lets every request run that is ready, and the system name those that have arrived.
            yield_now().await;
            for _ in 0..AT_ONCE {
                let next = self.line().pop_front();
                match next {
                    Some(listener) => listener.take_turn(),
                    None => {
                        self.arrived.notified().await;
                        break;
                    }
                }
            }
        }
    }
}
