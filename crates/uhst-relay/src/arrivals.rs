//! The arrival order of messages, which the relay keeps although several threads read them.
//!
//! A sender that does not wait for responses uses several connections. It expects its messages to stay in order, as
//! they do on a single-threaded relay. The operating system reports readable connections one after the other, and each
//! connection gets a number at that moment. Threads then read the connections in any order. A message therefore waits
//! until every connection with a lower number that may carry a message of the same sender has been read, and then for
//! earlier messages of its sender. A connection that has carried messages of one sender only, as most do, is expected
//! to carry no other's.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::sync::oneshot;

use super::watched::Watch;

/// The most unread connections that a message looks at. It waits for all of them if there are more.
const MAX_CHECKED: usize = 32;
/// Marks the absence of a number.
const NONE: u64 = 0;

/// Identifies a sender: the same number for all its tokens, another one for most other senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SenderId(pub(super) u64);

/// The senders whose messages a connection may carry next.
#[derive(Clone, Copy, Debug, Default)]
enum Carries {
    /// No message has arrived yet.
    #[default]
    Unknown,
    Only(SenderId),
    /// Messages of several senders have arrived.
    Any,
}

impl Carries {
    fn may_carry(self, sender: SenderId) -> bool {
        !matches!(self, Carries::Only(other) if other != sender)
    }

    fn add(&mut self, sender: SenderId) {
        *self = match *self {
            Carries::Unknown => Carries::Only(sender),
            Carries::Only(same) if same == sender => return,
            _ => Carries::Any,
        };
    }
}

/// The connections with unread data.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Order>);

#[derive(Debug, Default)]
struct Order {
    /// The last number assigned.
    last: u64,
    /// The connections that have not been read since they became readable.
    unread: BTreeMap<u64, Carries>,
    /// Messages that wait until all lower numbers are read.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Order {
    /// Removes and returns the waiters that need not wait any longer.
    fn ready(&mut self) -> Vec<oneshot::Sender<()>> {
        let first = self.unread.first_key_value().map_or(u64::MAX, |(first, _)| *first);
        let mut ready = Vec::new();
        while let Some(waiting) = self.waiting.first_entry().filter(|waiting| *waiting.key() <= first) {
            ready.push(waiting.remove());
        }
        ready
    }
}

/// The read state of one connection. The lock of [`Order`] guards `latest` and `readable`.
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
    carries: Mutex<Carries>,
}

impl Arrival {
    /// Registers a new connection, ordered after everything that has arrived on other connections.
    pub(super) fn new(arrivals: Arc<Arrivals>) -> Arc<Self> {
        let [latest, unread, polling, closed] = [NONE; 4].map(AtomicU64::new);
        let readable = [NONE; 2].map(AtomicU64::new);
        let arrival =
            Arc::new(Arrival { arrivals, latest, readable, unread, polling, closed, carries: Mutex::default() });
        arrival.mark_readable();
        arrival
    }

    /// Records that a message of this sender has arrived, and returns its number.
    pub(super) fn message_of(&self, sender: SenderId) -> u64 {
        self.carries().add(sender);
        self.latest.load(Relaxed)
    }

    fn carries(&self) -> MutexGuard<'_, Carries> {
        self.carries.lock().unwrap_or_else(PoisonError::into_inner)
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
            order.unread.insert(last, *self.carries());
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
        if self.readable[0].load(Relaxed) == NONE {
            return;
        }
        let _order = self.order();
        if self.readable[1].load(Relaxed) == last {
            self.readable[0].store(NONE, Relaxed);
        }
    }

    /// Polls the connection, which reads what is available.
    pub(super) fn poll<T>(&self, run: impl FnOnce() -> T) -> T {
        // A report after this line may announce data that this poll still reads. The data then keeps the later number.
        let unread = self.unread.swap(NONE, Relaxed);
        self.polling.store(unread, Relaxed);
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
    /// means that nothing earlier of this sender can be unread.
    pub(super) fn wait_for_earlier(&self, number: u64, sender: SenderId) -> Option<oneshot::Receiver<()>> {
        let mut order = self.order();
        let own = self.polling.load(Relaxed);
        let mut earlier = order.unread.range(..number);
        let irrelevant = |(other, carries): (&u64, &Carries)| *other == own || !carries.may_carry(sender);
        if earlier.by_ref().take(MAX_CHECKED).all(irrelevant) && earlier.next().is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: SenderId = SenderId(1);
    const OTHER: SenderId = SenderId(2);

    /// Reads a message and returns the receiver it has to wait for.
    fn message(arrival: &Arrival) -> Option<oneshot::Receiver<()>> {
        message_of(SENDER, arrival)
    }

    fn message_of(sender: SenderId, arrival: &Arrival) -> Option<oneshot::Receiver<()>> {
        arrival.poll(|| {
            arrival.record_read();
            let wait = arrival.wait_for_earlier(arrival.message_of(sender), sender);
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
    fn only_connections_that_may_carry_the_same_sender_are_waited_for() {
        let arrivals = Arc::<Arrivals>::default();
        let [one, two] = [0; 2].map(|_| Arrival::new(arrivals.clone()));
        let waits = |sender| {
            one.mark_readable();
            two.mark_readable();
            let waits = message_of(sender, &two).is_some();
            one.poll(|| one.record_read());
            waits
        };
        assert!(waits(SENDER), "nothing is known of the first connection");
        message_of(OTHER, &one);
        assert!(!waits(SENDER), "it is another sender's");
        assert!(waits(OTHER));
        message_of(SENDER, &one);
        assert!(waits(SENDER), "it has carried both");
        // A message that would have to check very many connections waits for them.
        let crowd: Vec<_> = (0..=MAX_CHECKED).map(|_| Arrival::new(arrivals.clone())).collect();
        for arrival in &crowd {
            message_of(OTHER, arrival);
        }
        crowd[..MAX_CHECKED].iter().for_each(|arrival| arrival.mark_readable());
        two.mark_readable();
        assert!(message(&two).is_none());
        crowd.iter().for_each(|arrival| arrival.mark_readable());
        two.mark_readable();
        assert!(message(&two).is_some());
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
