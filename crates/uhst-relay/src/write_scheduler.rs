//! The order in which streams are written: pending requests go first, then a few streams at a time.
//!
//! A write costs as much as everything else that a message causes. While requests keep coming, their messages gather in
//! the queues, and each listener gets them in one write. When no request is pending, streams are written at once. The
//! scheduler uses no timer.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::{sync::Notify, task::yield_now};

/// The number of streams to write before handling requests again.
const BATCH: usize = 4;

/// The wakers of streams with queued events, in the order in which the streams became ready.
#[derive(Debug, Default)]
pub(super) struct WriteScheduler {
    queue: Mutex<VecDeque<Waker>>,
    arrived: Notify,
}

impl WriteScheduler {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Waker>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules a stream. It is woken when its turn comes.
    pub(super) fn enqueue(&self, stream: Waker) {
        let mut queue = self.queue();
        let first = queue.is_empty();
        queue.push_back(stream);
        drop(queue);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Wakes the scheduled streams in turn, forever.
    pub(super) async fn run(&self) {
        loop {
            // Yielding lets all ready requests run, and lets the runtime poll for new ones.
            yield_now().await;
            for _ in 0..BATCH {
                let next = self.queue().pop_front();
                match next {
                    Some(stream) => stream.wake(),
                    None => {
                        self.arrived.notified().await;
                        break;
                    }
                }
            }
        }
    }
}
