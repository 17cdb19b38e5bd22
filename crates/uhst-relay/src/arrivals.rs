//! The arrival order of messages, which the relay keeps although several threads read them.
//!
//! A sender that does not wait for responses uses several connections. It expects its messages to stay in order, as
//! they do on a single-threaded relay. The operating system reports readable connections one after the other, and each
//! connection gets a number at that moment. Threads then read the connections in any order. A message therefore waits
//! until every connection with a lower number has been read, and then for earlier messages of its own sender.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{connection_limits::ClientConnection, tokens::Verified, watched::Watch};

/// The longest time a message waits for earlier ones, parts of which may still be missing.
const REORDER_TIMEOUT: Duration = Duration::from_secs(1);
/// Marks the absence of a number.
const NONE: u64 = 0;

/// The connections with unread data.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Order>);

#[derive(Debug, Default)]
struct Order {
    /// The last number assigned.
    last: u64,
    /// The numbers of connections that have not been read since they became readable.
    unread: BTreeSet<u64>,
    /// Messages that wait until all lower numbers are read.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Order {
    /// Removes and returns the waiters that need not wait any longer.
    fn ready(&mut self) -> Vec<oneshot::Sender<()>> {
        let first = self.unread.first().copied().unwrap_or(u64::MAX);
        let mut ready = Vec::new();
        while let Some(waiting) = self.waiting.first_entry().filter(|waiting| *waiting.key() <= first) {
            ready.push(waiting.remove());
        }
        ready
    }
}

/// The read state of one connection. Its fields change only under the lock of [`Order`].
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arc<Arrivals>,
    /// The number of the data that was read last.
    latest: AtomicU64,
    /// The first and the last number of the data that is still unread.
    readable: [AtomicU64; 2],
    /// The first number since the connection was last polled.
    unread: AtomicU64,
    /// The number the current poll handles.
    polling: AtomicU64,
    closed: AtomicU64,
}

impl Arrival {
    /// Registers a new connection, ordered after everything that has arrived on other connections.
    pub(super) fn new(arrivals: Arc<Arrivals>) -> Arc<Self> {
        let [latest, unread, polling, closed] = [NONE; 4].map(AtomicU64::new);
        let readable = [NONE; 2].map(AtomicU64::new);
        let arrival = Arc::new(Arrival { arrivals, latest, readable, unread, polling, closed });
        arrival.mark_readable();
        arrival
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.arrivals.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the operating system reported the connection as readable.
    fn mark_readable(&self) {
        let mut order = self.order();
        if self.closed.load(Relaxed) != NONE {
            return;
        }
        order.last += 1;
        let [first, last] = &self.readable;
        last.store(order.last, Relaxed);
        if first.load(Relaxed) == NONE {
            first.store(order.last, Relaxed);
        }
        if self.unread.load(Relaxed) == NONE {
            self.unread.store(order.last, Relaxed);
            let last = order.last;
            order.unread.insert(last);
        }
    }

    /// Records a successful read. The data gets the number of the report that announced it. A read can precede its
    /// report; no other connection has been reported in between, so the data then gets the next number.
    fn record_read(&self) {
        let mut order = self.order();
        let [first, last] = &self.readable;
        let mut number = first.swap(NONE, Relaxed);
        if number == NONE {
            order.last += 1;
            number = order.last;
        } else if last.load(Relaxed) > number {
            first.store(last.load(Relaxed), Relaxed);
        }
        self.latest.store(number, Relaxed);
    }

    /// Records that a read found no more data after the report with this number.
    fn record_drained(&self, last: u64) {
        let _order = self.order();
        if self.readable[1].load(Relaxed) == last {
            self.readable[0].store(NONE, Relaxed);
        }
    }

    /// Polls the connection, which reads what is available.
    pub(super) fn poll<T>(&self, run: impl FnOnce() -> T) -> T {
        if self.unread.load(Relaxed) != NONE {
            let _order = self.order();
            self.polling.store(self.unread.swap(NONE, Relaxed), Relaxed);
        }
        let ran = run();
        let polled = self.polling.swap(NONE, Relaxed);
        if polled != NONE {
            self.mark_read(&[polled]);
        }
        ran
    }

    /// Records that the connection is closed and will not be read again.
    pub(super) fn close(&self) {
        self.closed.store(1, Relaxed);
        self.mark_read(&[self.unread.swap(NONE, Relaxed), self.polling.swap(NONE, Relaxed)]);
    }

    fn mark_read(&self, numbers: &[u64]) {
        let mut order = self.order();
        for number in numbers {
            order.unread.remove(number);
        }
        let ready = order.ready();
        drop(order);
        for waiting in ready {
            let _ = waiting.send(());
        }
    }

    /// Returns a receiver that resolves once everything before this number has been read on other connections. `None`
    /// means that nothing earlier is unread.
    fn wait_for_earlier(&self, number: u64) -> Option<oneshot::Receiver<()>> {
        let mut order = self.order();
        let own = self.polling.load(Relaxed);
        if order.unread.range(..number).all(|other| *other == own) {
            return None;
        }
        let (ready, released) = oneshot::channel();
        order.waiting.insert(number, ready);
        Some(released)
    }
}

/// Assigns a number to a connection as soon as the operating system reports it as readable.
pub(super) struct ReadWatch {
    arrival: Arc<Arrival>,
    /// The waker of the reading task, and the waker that wraps it.
    wakers: Option<(Waker, Waker)>,
}

struct ReadWaker {
    arrival: Arc<Arrival>,
    task: Waker,
}

impl ReadWatch {
    pub(super) fn new(arrival: Arc<Arrival>) -> Self {
        ReadWatch { arrival, wakers: None }
    }
}

impl Wake for ReadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.arrival.mark_readable();
        self.task.wake_by_ref();
    }
}

impl Watch for ReadWatch {
    fn read(
        &mut self,
        context: &mut Context,
        read: impl FnOnce(&mut Context) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let task = context.waker();
        if !self.wakers.as_ref().is_some_and(|(known, _)| known.will_wake(task)) {
            let waker = ReadWaker { arrival: self.arrival.clone(), task: task.clone() };
            self.wakers = Some((task.clone(), Arc::new(waker).into()));
        }
        let Some((_, waker)) = &self.wakers else { return read(context) };
        let last = self.arrival.readable[1].load(Relaxed);
        let done = read(&mut Context::from_waker(waker));
        if done.is_ready() {
            self.arrival.record_read();
        } else {
            self.arrival.record_drained(last);
        }
        done
    }
}

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
    sender: Arc<Verified>,
    arrival: Arc<Arrival>,
    number: u64,
}

impl Ticket {
    /// Creates the ticket of a message whose head has arrived on this connection.
    pub(super) fn new(sender: Arc<Verified>, connection: &ClientConnection) -> Self {
        let arrival = connection.arrival.clone();
        let number = arrival.latest.load(Relaxed);
        sender.in_flight.numbers().insert(number);
        Ticket { sender, arrival, number }
    }

    /// Waits for earlier messages, but no longer than [`REORDER_TIMEOUT`]: the sender may have lost one in transit.
    pub(super) async fn wait_turn(&self) {
        let before = self.arrival.wait_for_earlier(self.number);
        if before.is_none() && self.sender.in_flight.numbers().first() == Some(&self.number) {
            return;
        }
        let turn = async {
            if let Some(before) = before {
                let _ = before.await;
            }
            self.sender.in_flight.wait_until_first(self.number).await;
        };
        let _ = timeout(REORDER_TIMEOUT, turn).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sender.in_flight.numbers().remove(&self.number);
        self.sender.in_flight.fewer.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a message and returns the receiver it has to wait for.
    fn message(arrival: &Arrival) -> Option<oneshot::Receiver<()>> {
        arrival.poll(|| {
            arrival.record_read();
            let wait = arrival.wait_for_earlier(arrival.latest.load(Relaxed));
            arrival.record_drained(arrival.readable[1].load(Relaxed));
            wait
        })
    }

    #[test]
    fn a_message_waits_for_earlier_reads() {
        let arrivals = Arc::<Arrivals>::default();
        let [one, two, three] = [0; 3].map(|_| Arrival::new(arrivals.clone()));
        for new in [&one, &two, &three] {
            assert!(message(new).is_none(), "all before are read");
        }
        three.mark_readable();
        one.mark_readable();
        two.mark_readable();
        let mut of_two = message(&two).expect("two are unread");
        assert!(message(&three).is_none(), "it was the first");
        assert!(of_two.try_recv().is_err(), "one is unread");
        // A second report during the read is later than the other connection's.
        one.poll(|| one.mark_readable());
        assert!(of_two.try_recv().is_ok());
        two.mark_readable();
        let mut of_two = message(&two).expect("one is unread again");
        one.close();
        assert!(of_two.try_recv().is_ok(), "what is closed is not waited for");
        one.mark_readable();
        assert!(message(&two).is_none(), "it does not ring any more");
        assert!(arrivals.0.lock().expect("no panic").unread.is_empty());
    }

    #[test]
    fn a_read_gets_the_number_of_its_report() {
        let arrivals = Arc::<Arrivals>::default();
        let [one, two] = [0; 2].map(|_| Arrival::new(arrivals.clone()));
        let number = |arrival: &Arrival| {
            arrival.record_read();
            arrival.latest.load(Relaxed)
        };
        assert_eq!((number(&one), number(&two)), (1, 2));
        // One read returns the head of a message and its rest, which arrived after another connection's message.
        one.mark_readable();
        two.mark_readable();
        one.mark_readable();
        assert_eq!((number(&one), number(&two)), (3, 4));
        one.record_drained(5);
        // The read precedes its report.
        two.mark_readable();
        assert_eq!((number(&one), number(&two)), (7, 6));
        one.mark_readable();
        one.record_drained(8);
        one.mark_readable();
        one.record_drained(8);
        assert_eq!(number(&one), 9, "it rang after there was nothing more to read");
    }
}
