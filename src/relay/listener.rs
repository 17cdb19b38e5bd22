//! One open event stream: a bounded queue that senders fill and its connection drains.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError},
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};

use super::rooms::Rooms;

/// The first bytes of every stream.
const CONNECTED: Bytes = Bytes::from_static(b": Connected.\n");
/// What is written on every interval, so that proxies and peers see the stream alive.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": sse-keep-alive\n");

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
    reader: Option<Waker>,
}

impl Listener {
    pub(super) fn new(host: Arc<str>, client: Option<Arc<str>>, capacity: u32, kill: Arc<Notify>) -> Arc<Self> {
        // With no room at all, frames would cost nothing.
        let capacity = capacity.max(1);
        let room = Semaphore::new(capacity as usize);
        let queue = Mutex::default();
        Arc::new(Listener { host, client, room, capacity, waiting: AtomicUsize::new(0), queue, kill })
    }

    /// Queues a frame if there is room now.
    pub(super) fn push(&self, frame: Bytes) -> Result<(), NotSent> {
        let cost = self.cost(&frame);
        match self.room.try_acquire_many(cost) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::NoPermits) => return Err(NotSent::Full),
            Err(TryAcquireError::Closed) => return Err(NotSent::Gone),
        }
        self.enqueue(frame, cost)
    }

    /// Queues a frame, and waits for room while the listener still reads: at most `patience` for this frame.
    pub(super) async fn send(&self, frame: Bytes, patience: Duration) -> Result<(), NotSent> {
        match self.push(frame.clone()) {
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
        let cost = self.cost(&frame);
        match timeout(patience, self.room.acquire_many(cost)).await {
            Ok(Ok(permit)) => permit.forget(),
            Ok(Err(_)) => return Err(NotSent::Gone),
            Err(_) => return Err(NotSent::Full),
        }
        self.enqueue(frame, cost)
    }

    /// A frame that is larger than the whole queue fits when it is alone.
    fn cost(&self, frame: &Bytes) -> u32 {
        u32::try_from(frame.len()).unwrap_or(u32::MAX).min(self.capacity)
    }

    fn enqueue(&self, frame: Bytes, cost: u32) -> Result<(), NotSent> {
        let mut queue = self.queue();
        if queue.end {
            return Err(NotSent::Gone);
        }
        queue.frames.push_back((frame, cost));
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
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
    fn poll_frames(&self, context: &Context) -> Poll<Option<Bytes>> {
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
        let mut length = first.len();
        let fits = queue.frames.iter().take_while(|(frame, _)| {
            length += frame.len();
            length <= COALESCE
        });
        let bytes = match fits.count() {
            0 => first,
            more => {
                let mut together = BytesMut::with_capacity(COALESCE);
                together.extend_from_slice(&first);
                for (frame, more_cost) in queue.frames.drain(..more) {
                    together.extend_from_slice(&frame);
                    cost += more_cost;
                }
                together.freeze()
            }
        };
        if queue.frames.is_empty() && queue.frames.capacity() > 64 {
            queue.frames = VecDeque::new(); // a burst is over
        }
        drop(queue);
        self.room.add_permits(cost as usize);
        Poll::Ready(Some(bytes))
    }
}

/// The body of the answer to a listening peer. The peer is listening for as long as this lives.
pub(super) struct EventStream {
    listener: Arc<Listener>,
    rooms: Arc<Rooms>,
    keep_alive: Interval,
    greeted: bool,
}

impl EventStream {
    pub(super) fn new(listener: Arc<Listener>, rooms: Arc<Rooms>, period: Duration) -> Self {
        let mut keep_alive = interval_at(Instant::now() + period, period);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        EventStream { listener, rooms, keep_alive, greeted: false }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.listener.finish();
        self.rooms.leave(&self.listener);
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        if !self.greeted {
            self.greeted = true;
            return data(CONNECTED);
        }
        if self.keep_alive.poll_tick(context).is_ready() {
            return data(KEEP_ALIVE);
        }
        match self.listener.poll_frames(context) {
            Poll::Ready(Some(bytes)) => data(bytes),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn listener(capacity: u32) -> Arc<Listener> {
        Listener::new("host".into(), None, capacity, Arc::default())
    }

    async fn next(listener: &Listener) -> Option<Bytes> {
        poll_fn(|context| listener.poll_frames(context)).await
    }

    #[tokio::test]
    async fn frames_that_wait_leave_together() {
        let listener = listener(1 << 20);
        for text in ["a", "b", "c"] {
            listener.push(text.into()).expect("room");
        }
        let large = Bytes::from(vec![b'x'; COALESCE + 1]);
        listener.push(large.clone()).expect("room");
        listener.push("d".into()).expect("room");
        assert_eq!(next(&listener).await.as_deref(), Some(&b"abc"[..]));
        let written = next(&listener).await.expect("a frame");
        assert_eq!(written.as_ptr(), large.as_ptr(), "shared, not copied");
        assert_eq!(next(&listener).await.as_deref(), Some(&b"d"[..]));
        listener.finish();
        assert_eq!(next(&listener).await, None);
        assert_eq!(listener.push("e".into()), Err(NotSent::Gone));
    }

    #[tokio::test]
    async fn a_full_queue_makes_a_sender_wait_and_a_broadcast_fail() {
        let listener = listener(10);
        listener.push(Bytes::from_static(b"0123456789")).expect("room");
        assert_eq!(listener.push("x".into()), Err(NotSent::Full));
        assert_eq!(listener.send("x".into(), Duration::from_millis(1)).await, Err(NotSent::Full));
        let sending = listener.send("0123456789 larger than the queue".into(), Duration::from_secs(5));
        let (sent, read) = tokio::join!(sending, next(&listener));
        assert_eq!((sent, read.as_deref()), (Ok(()), Some(&b"0123456789"[..])));
    }

    #[tokio::test]
    async fn senders_that_wait_keep_their_order_and_are_counted() {
        let listener = listener(4);
        listener.push("full".into()).expect("room");
        let sends: Vec<_> = (0..=MAX_WAITING)
            .map(|n| {
                let listener = listener.clone();
                tokio::spawn(async move { listener.send(format!("{n};").into(), Duration::from_secs(5)).await })
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
