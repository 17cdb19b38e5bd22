//! Who listens: a bounded queue that senders fill and a stream drains.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError},
    time::timeout,
};

use super::{frame::Frame, turns::Turns};

/// Frames that wait together are written as one up to this size; a larger frame is not copied.
const COALESCE: usize = 16 * 1024;

/// How many senders may wait for room in one queue, each with one message.
const MAX_WAITING: usize = 64;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The stream has ended.
    Gone,
    /// The queue is full, and it stayed full for as long as the sender may wait.
    Full,
    /// Too many senders wait already.
    Crowded,
}

/// The receiving side of a host or a client, shared by its seat in the room and by its stream.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) host: Arc<str>,
    /// `None` for the host.
    pub(super) client: Option<Arc<str>>,
    /// Whether its stream is chunked, as HTTP/1.1 has it.
    pub(super) chunked: bool,
    turns: Arc<Turns>,
    /// The bytes that fit into the queue now. Being fair, it also keeps senders that wait in their order.
    room: Semaphore,
    capacity: u32,
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    /// Ends the connection, which does not ask for more while its peer does not read.
    kill: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(Bytes, u32)>,
    end: bool,
    /// Of the stream, when it has nothing to write.
    reader: Option<Waker>,
    /// Whether it stands in line already.
    in_line: bool,
}

impl Listener {
    pub(super) fn new(
        host: Arc<str>,
        client: Option<Arc<str>>,
        chunked: bool,
        capacity: u32,
        turns: Arc<Turns>,
        kill: Arc<Notify>,
    ) -> Arc<Self> {
        // With no room at all, frames would cost nothing.
        let capacity = capacity.max(1);
        let room = Semaphore::new(capacity as usize);
        let (waiting, queue) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Listener { host, client, chunked, turns, room, capacity, waiting, queue, kill })
    }

    /// Queues a frame if there is room now.
    pub(super) fn push(self: &Arc<Self>, frame: &Frame) -> Result<(), NotSent> {
        let cost = self.cost(frame);
        match self.room.try_acquire_many(cost) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::NoPermits) => return Err(NotSent::Full),
            Err(TryAcquireError::Closed) => return Err(NotSent::Gone),
        }
        self.enqueue(frame, cost)
    }

    /// Queues a frame, and waits for room while the listener still reads: at most `patience` for this frame.
    pub(super) async fn send(self: &Arc<Self>, frame: &Frame, patience: Duration) -> Result<(), NotSent> {
        match self.push(frame) {
            Err(NotSent::Full) => {}
            done => return done,
        }
        /// Counts down also when the sender hangs up.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= MAX_WAITING {
            return Err(NotSent::Crowded);
        }
        let cost = self.cost(frame);
        match timeout(patience, self.room.acquire_many(cost)).await {
            Ok(Ok(permit)) => permit.forget(),
            Ok(Err(_)) => return Err(NotSent::Gone),
            Err(_) => return Err(NotSent::Full),
        }
        self.enqueue(frame, cost)
    }

    /// A frame that is larger than the whole queue fits when it is alone.
    fn cost(&self, frame: &Frame) -> u32 {
        u32::try_from(frame.len()).unwrap_or(u32::MAX).min(self.capacity)
    }

    fn enqueue(self: &Arc<Self>, frame: &Frame, cost: u32) -> Result<(), NotSent> {
        let mut queue = self.queue();
        if queue.end {
            return Err(NotSent::Gone);
        }
        let bytes = if self.chunked { frame.chunk() } else { frame.bare() };
        queue.frames.push_back((bytes, cost));
        let stands = queue.reader.is_some() && !std::mem::replace(&mut queue.in_line, true);
        drop(queue);
        if stands {
            self.turns.stand_in_line(self.clone());
        }
        Ok(())
    }

    /// Wakes the stream.
    pub(super) fn take_turn(&self) {
        let mut queue = self.queue();
        queue.in_line = false;
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes no more frames, and ends the stream after those that are queued.
    pub(super) fn finish(&self) {
        self.room.close();
        let mut queue = self.queue();
        queue.end = true;
        if let Some(reader) = queue.reader.take() {
            drop(queue);
            reader.wake();
        }
    }

    /// Drops what is queued and the connection with it.
    pub(super) fn kill(&self) {
        self.room.close();
        let mut queue = self.queue();
        queue.end = true;
        queue.frames = VecDeque::new();
        drop(queue);
        self.kill.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes to write: everything small that waits in one piece.
    pub(super) fn poll_frames(&self, context: &Context) -> Poll<Option<Bytes>> {
        let mut queue = self.queue();
        let Some((first, mut cost)) = queue.frames.pop_front() else {
            if queue.end {
                return Poll::Ready(None);
            }
            match &mut queue.reader {
                Some(reader) => reader.clone_from(context.waker()),
                reader => *reader = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        queue.reader = None;
        let (mut length, mut more) = (first.len(), 0);
        for (frame, more_cost) in &queue.frames {
            if length + frame.len() > COALESCE {
                break;
            }
            (length, cost, more) = (length + frame.len(), cost + more_cost, more + 1);
        }
        let bytes = if more == 0 {
            first
        } else {
            let mut together = BytesMut::with_capacity(length);
            together.extend_from_slice(&first);
            queue.frames.drain(..more).for_each(|(frame, _)| together.extend_from_slice(&frame));
            together.freeze()
        };
        if queue.frames.is_empty() && queue.frames.capacity() > 64 {
            queue.frames = VecDeque::new(); // a burst is over
        }
        drop(queue);
        self.room.add_permits(cost as usize);
        Poll::Ready(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn listener(capacity: u32) -> Arc<Listener> {
        Listener::new("host".into(), None, false, capacity, Arc::default(), Arc::default())
    }

    fn frame(text: &str) -> Frame {
        Frame::text(text)
    }

    async fn next(listener: &Listener) -> Option<Bytes> {
        poll_fn(|context| listener.poll_frames(context)).await
    }

    #[tokio::test]
    async fn frames_that_wait_leave_together() {
        let listener = listener(1 << 20);
        for text in ["a", "b", "c"] {
            listener.push(&frame(text)).expect("room");
        }
        let large = frame(&"x".repeat(COALESCE + 1));
        listener.push(&large).expect("room");
        listener.push(&frame("d")).expect("room");
        assert_eq!(next(&listener).await.as_deref(), Some(&b"abc"[..]));
        let written = next(&listener).await.expect("a frame");
        assert_eq!(written.as_ptr(), large.bare().as_ptr(), "shared, not copied");
        assert_eq!(next(&listener).await.as_deref(), Some(&b"d"[..]));
        listener.finish();
        assert_eq!(next(&listener).await, None);
        assert_eq!(listener.push(&frame("e")), Err(NotSent::Gone));
    }

    #[tokio::test]
    async fn a_full_queue_makes_a_sender_wait_and_a_broadcast_fail() {
        let listener = listener(10);
        listener.push(&frame("0123456789")).expect("room");
        assert_eq!(listener.push(&frame("x")), Err(NotSent::Full));
        assert_eq!(listener.send(&frame("x"), Duration::from_millis(1)).await, Err(NotSent::Full));
        let large = frame("0123456789 larger than the queue");
        let sending = listener.send(&large, Duration::from_secs(5));
        let (sent, read) = tokio::join!(sending, next(&listener));
        assert_eq!((sent, read.as_deref()), (Ok(()), Some(&b"0123456789"[..])));
    }

    #[tokio::test]
    async fn senders_that_wait_keep_their_order_and_are_counted() {
        let listener = listener(4);
        listener.push(&frame("full")).expect("room");
        let sends: Vec<_> = (0..=MAX_WAITING)
            .map(|n| {
                let listener = listener.clone();
                tokio::spawn(async move { listener.send(&frame(&format!("{n};")), Duration::from_secs(5)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let mut text = String::new();
        let mut taken = Vec::new();
        for send in sends.into_iter().rev() {
            while !send.is_finished() {
                text.push_str(std::str::from_utf8(&next(&listener).await.expect("a frame")).expect("text"));
                tokio::task::yield_now().await;
            }
            taken.push(send.await.expect("no panic"));
        }
        assert_eq!(taken[0], Err(NotSent::Crowded));
        assert!(taken[1..].iter().all(Result::is_ok));
        listener.finish();
        while let Some(more) = next(&listener).await {
            text.push_str(std::str::from_utf8(&more).expect("text"));
        }
        let expected: String = (0..MAX_WAITING).map(|n| format!("{n};")).collect();
        assert_eq!(text, format!("full{expected}"));
    }
}
