//! A listener: a bounded queue that senders fill and a stream drains.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    event::EncodedEvent,
    fair_queue::{Enqueued, FairQueue, NoRoom, Sender},
    write_scheduler::WriteScheduler,
};

/// The size up to which waiting events are combined into one write. A larger event is not copied.
const COALESCE: usize = 16 * 1024;

/// How many times `patience` a message waits for room at a listener that reads slowly.
const SLOW_READER_ROUNDS: usize = 4;

/// The reason why an event was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnqueueError {
    /// The stream has ended.
    Gone,
    /// The queue is full, and the listener reads nothing.
    Full,
    /// The queue has no room for more of this sender, although the listener reads.
    Crowded,
}

/// The receiving side of a host or a client, shared by its session and its stream.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) host: Arc<str>,
    /// The id of the client, or `None` for the host.
    pub(super) client: Sender,
    /// The network from which it listens.
    pub(super) network: IpAddr,
    /// Whether the stream is chunked, as in HTTP/1.1.
    chunked: bool,
    scheduler: Arc<WriteScheduler>,
    /// The most bytes in the queue.
    capacity: usize,
    /// The number of writes to the connection.
    writes: AtomicUsize,
    queue: Mutex<Queue>,
    /// Closes the connection. A stream that waits for its peer to read does not poll the queue.
    kill: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    events: FairQueue,
    end: bool,
    /// The waker of the stream while it has nothing to write and is not scheduled.
    reader: Option<Waker>,
}

/// The settings of a listener's stream.
pub(super) struct StreamSettings {
    pub(super) network: IpAddr,
    pub(super) chunked: bool,
    pub(super) capacity: usize,
    pub(super) scheduler: Arc<WriteScheduler>,
    pub(super) kill: Arc<Notify>,
}

impl Listener {
    pub(super) fn new(host: Arc<str>, client: Sender, settings: StreamSettings) -> Arc<Self> {
        let StreamSettings { network, chunked, capacity, scheduler, kill } = settings;
        let (writes, queue) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Listener { host, client, network, chunked, scheduler, capacity, writes, queue, kill })
    }

    /// Queues an event of this sender if there is room now.
    pub(super) fn push(&self, sender: &Sender, event: &EncodedEvent) -> Result<(), EnqueueError> {
        self.add(|events, bytes| events.push(sender, bytes, self.capacity), event)
    }

    /// Queues an event of the relay about a sender, behind everything that this sender has sent.
    pub(super) fn report(&self, sender: &Sender, event: &EncodedEvent) -> Result<(), EnqueueError> {
        self.add(|events, bytes| events.report(sender, bytes, self.capacity), event)
    }

    /// Queues an event, or lets it wait for room. In the second case, await [`Listener::wait`].
    pub(super) fn enqueue(&self, sender: &Sender, event: &EncodedEvent) -> Result<Enqueued, EnqueueError> {
        let enqueued = self.add(|events, bytes| events.enqueue(sender, bytes, self.capacity), event);
        enqueued.map_err(|error| if error == EnqueueError::Full { EnqueueError::Crowded } else { error })
    }

    /// Waits until an event is queued, as long as the listener keeps reading. Returns [`EnqueueError::Full`] if it
    /// reads nothing for `patience`.
    pub(super) async fn wait(&self, mut queued: oneshot::Receiver<()>, patience: Duration) -> Result<(), EnqueueError> {
        let mut writes = self.writes.load(Ordering::Relaxed);
        for _ in 0..SLOW_READER_ROUNDS {
            match timeout(patience, &mut queued).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return Err(EnqueueError::Gone),
                Err(_) => {
                    let before = std::mem::replace(&mut writes, self.writes.load(Ordering::Relaxed));
                    if before == writes {
                        return Err(EnqueueError::Full);
                    }
                }
            }
        }
        Err(EnqueueError::Crowded)
    }

    /// Returns whether the stream is chunked, as in HTTP/1.1.
    pub(super) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Records a write to the connection.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    fn add<T>(
        &self,
        add: impl FnOnce(&mut FairQueue, Bytes) -> Result<T, NoRoom>,
        event: &EncodedEvent,
    ) -> Result<T, EnqueueError> {
        let mut queue = self.queue();
        if queue.end {
            return Err(EnqueueError::Gone);
        }
        let added = add(&mut queue.events, if self.chunked { event.chunk() } else { event.bare() });
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            self.scheduler.enqueue(reader);
        }
        added.map_err(|NoRoom| EnqueueError::Full)
    }

    /// Rejects further events, and ends the stream after those in the queue.
    pub(super) fn finish(&self) {
        let mut queue = self.queue();
        queue.end = true;
        queue.events.refuse_waiting();
        if let Some(reader) = queue.reader.take() {
            drop(queue);
            reader.wake();
        }
    }

    /// Drops the queue and closes the connection.
    pub(super) fn kill(&self) {
        let mut queue = self.queue();
        queue.end = true;
        let events = std::mem::take(&mut queue.events);
        drop(queue);
        drop(events);
        self.kill.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next bytes to write. Small waiting events are combined.
    pub(super) fn poll_events(&self, context: &Context) -> Poll<Option<Bytes>> {
        let mut queue = self.queue();
        let Some(first) = queue.events.next(usize::MAX, self.capacity) else {
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
        let mut together = BytesMut::new();
        while let Some(left) = COALESCE.checked_sub(first.len().max(together.len()))
            && let Some(event) = queue.events.next(left, self.capacity)
        {
            if together.is_empty() {
                together.extend_from_slice(&first);
            }
            together.extend_from_slice(&event);
        }
        drop(queue);
        Poll::Ready(Some(if together.is_empty() { first } else { together.freeze() }))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr};

    use super::*;
    use crate::fair_queue::MAX_WAITING;

    fn listener(capacity: usize) -> Arc<Listener> {
        let (scheduler, kill) = (Arc::default(), Arc::default());
        let network = Ipv4Addr::LOCALHOST.into();
        Listener::new("host".into(), None, StreamSettings { network, chunked: false, capacity, scheduler, kill })
    }

    fn event(text: &str) -> EncodedEvent {
        EncodedEvent::text(text)
    }

    async fn next(listener: &Listener) -> Option<Bytes> {
        poll_fn(|context| listener.poll_events(context)).await
    }

    async fn send(listener: &Arc<Listener>, event: &EncodedEvent, patience: Duration) -> Result<(), EnqueueError> {
        match listener.enqueue(&None, event)? {
            Enqueued::Queued => Ok(()),
            Enqueued::Waiting(queued) => listener.wait(queued, patience).await,
        }
    }

    #[tokio::test]
    async fn waiting_events_are_combined() {
        let listener = listener(1 << 20);
        for text in ["a", "b", "c"] {
            listener.push(&None, &event(text)).expect("room");
        }
        let large = event(&"x".repeat(COALESCE + 1));
        listener.push(&None, &large).expect("room");
        listener.push(&None, &event("d")).expect("room");
        assert_eq!(next(&listener).await.as_deref(), Some(&b"abc"[..]));
        let written = next(&listener).await.expect("an event");
        assert_eq!(written.as_ptr(), large.bare().as_ptr(), "shared, not copied");
        assert_eq!(next(&listener).await.as_deref(), Some(&b"d"[..]));
        listener.finish();
        assert_eq!(next(&listener).await, None);
        assert_eq!(listener.push(&None, &event("e")), Err(EnqueueError::Gone));
    }

    #[tokio::test]
    async fn a_full_queue_makes_a_sender_wait_and_a_broadcast_fail() {
        let listener = listener(10);
        listener.push(&None, &event("0123456789")).expect("room");
        assert_eq!(listener.push(&None, &event("x")), Err(EnqueueError::Full));
        assert_eq!(send(&listener, &event("x"), Duration::from_millis(1)).await, Err(EnqueueError::Full));
        let large = event("0123456789 larger than the queue;");
        let sending = send(&listener, &large, Duration::from_secs(5));
        let (sent, read) = tokio::join!(sending, next(&listener));
        assert_eq!((sent, read.as_deref()), (Ok(()), Some(&b"01234567890123456789 larger than the queue;"[..])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_listener_is_waited_for_but_not_forever() {
        let listener = listener(10);
        listener.push(&None, &event("0123456789")).expect("room");
        let reading = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                listener.wrote();
            }
        };
        let text = event("x");
        let (sent, ()) = tokio::join!(send(&listener, &text, Duration::from_secs(2)), reading);
        assert_eq!(sent, Err(EnqueueError::Crowded), "the listener is not to be dropped");
        assert_eq!(
            send(&listener, &event("x"), Duration::from_secs(2)).await,
            Err(EnqueueError::Full),
            "it reads nothing"
        );
    }

    #[tokio::test]
    async fn waiting_senders_keep_their_order_and_are_limited() {
        let listener = listener(4);
        listener.push(&None, &event("full")).expect("room");
        let sends: Vec<_> = (0..=MAX_WAITING)
            .map(|n| {
                let listener = listener.clone();
                tokio::spawn(async move { send(&listener, &event(&format!("{n};")), Duration::from_secs(5)).await })
            })
            .collect();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let mut text = String::new();
        while text.len() < "full".len() + (0..MAX_WAITING).map(|n| format!("{n};").len()).sum::<usize>() {
            text.push_str(std::str::from_utf8(&next(&listener).await.expect("an event")).expect("text"));
        }
        let mut taken = Vec::new();
        for send in sends {
            taken.push(send.await.expect("no panic"));
        }
        assert_eq!(taken.pop(), Some(Err(EnqueueError::Crowded)));
        assert!(taken.iter().all(Result::is_ok));
        let expected: String = (0..MAX_WAITING).map(|n| format!("{n};")).collect();
        assert_eq!(text, format!("full{expected}"));
    }
}
