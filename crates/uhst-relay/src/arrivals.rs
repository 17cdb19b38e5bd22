//! In which order messages arrive, although several threads read them.
//!
//! A sender that does not wait for answers uses several connections, and expects its messages to stay in order, as a
//! relay of one thread keeps them. The system tells in order which connections have something to read, one after the
//! other: there each gets a number. Threads then read in whatever order they run; so a message waits until every
//! connection with a lower number has been read, and then for the messages before it of the same sender.

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

/// How long a message waits for those that arrived before it, of which a part may be missing still.
const REORDER_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of no connection.
const NONE: u64 = 0;

/// All connections with something to read.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Order>);

#[derive(Debug, Default)]
struct Order {
    /// The last number given.
    last: u64,
    /// The numbers of connections that nobody has read since.
    unread: BTreeSet<u64>,
    /// Who waits until all lower numbers are read.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Order {
    /// Those who have not to wait any longer.
    fn ready(&mut self) -> Vec<oneshot::Sender<()>> {
        let first = self.unread.first().copied().unwrap_or(u64::MAX);
        let mut ready = Vec::new();
        while let Some(waiting) = self.waiting.first_entry().filter(|waiting| *waiting.key() <= first) {
            ready.push(waiting.remove());
        }
        ready
    }
}

/// When one connection had something to read. What is stored here is changed under the lock of the order only.
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arc<Arrivals>,
    /// The number of what was read last.
    latest: AtomicU64,
    /// The first and the last number it got for what is still to be read.
    readable: [AtomicU64; 2],
    /// Its first number since it was polled.
    unread: AtomicU64,
    /// The number for which it is polled now.
    polling: AtomicU64,
    closed: AtomicU64,
}

impl Arrival {
    /// A new connection, behind all that has arrived on others.
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

    /// The system says that there is something to read.
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

    /// Something was read: it has the number for which the connection rang. That of now, if it has not yet: then the
    /// system is about to say so, and has said nothing since about other connections.
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

    /// There was nothing more to read after the connection rang with this number.
    fn record_drained(&self, last: u64) {
        let _order = self.order();
        if self.readable[1].load(Relaxed) == last {
            self.readable[0].store(NONE, Relaxed);
        }
    }

    /// Runs the connection, which reads what there is.
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

    /// Nothing is read any more.
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

    /// Waits until everything is read that arrived before this number on other connections.
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

/// Gives a connection its number as soon as the system says that there is something to read.
pub(super) struct ReadWatch {
    arrival: Arc<Arrival>,
    /// For the task that reads.
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

/// The messages of one sender that have no place in a queue yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    numbers: Mutex<BTreeSet<u64>>,
    fewer: Notify,
}

impl InFlight {
    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is none with a lower number.
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

/// The place of a message among those of its sender, from the arrival of its head until this is dropped.
pub(super) struct Ticket {
    sender: Arc<Verified>,
    arrival: Arc<Arrival>,
    number: u64,
}

impl Ticket {
    /// A message of this sender begins to arrive on this connection.
    pub(super) fn new(sender: Arc<Verified>, connection: &ClientConnection) -> Self {
        let arrival = connection.arrival.clone();
        let number = arrival.latest.load(Relaxed);
        sender.in_flight.numbers().insert(number);
        Ticket { sender, arrival, number }
    }

    /// Waits for the messages before. Not for long, since their sender may have lost one on the way.
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

    /// Reads a message of this connection: what it has to wait for, and how it may go on once that is ready.
    fn message(arrival: &Arrival) -> Option<oneshot::Receiver<()>> {
        arrival.poll(|| {
            arrival.record_read();
            let wait = arrival.wait_for_earlier(arrival.latest.load(Relaxed));
            arrival.record_drained(arrival.readable[1].load(Relaxed));
            wait
        })
    }

    #[test]
    fn a_message_waits_until_all_that_arrived_before_is_read() {
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
        // It rings again while it is read: that is later than the other.
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
    fn what_is_read_has_the_number_for_which_the_connection_rang() {
        let arrivals = Arc::<Arrivals>::default();
        let [one, two] = [0; 2].map(|_| Arrival::new(arrivals.clone()));
        let number = |arrival: &Arrival| {
            arrival.record_read();
            arrival.latest.load(Relaxed)
        };
        assert_eq!((number(&one), number(&two)), (1, 2));
        // The head of a message, and its rest after a message of another: read at once.
        one.mark_readable();
        two.mark_readable();
        one.mark_readable();
        assert_eq!((number(&one), number(&two)), (3, 4));
        one.record_drained(5);
        // Read before the system has said so.
        two.mark_readable();
        assert_eq!((number(&one), number(&two)), (7, 6));
        one.mark_readable();
        one.record_drained(8);
        one.mark_readable();
        one.record_drained(8);
        assert_eq!(number(&one), 9, "it rang after there was nothing more to read");
    }
}
