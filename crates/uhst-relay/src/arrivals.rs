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

use super::{callers::Caller, tokens::Verified, watched::Watch};

/// How long a message waits for those that arrived before it, of which a part may be missing still.
const OUT_OF_TURN: Duration = Duration::from_secs(1);
/// The number of no connection.
const NONE: u64 = 0;

/// All connections with something to read.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// The last number given.
    last: u64,
    /// The numbers of connections that nobody has read since.
    unread: BTreeSet<u64>,
    /// Who waits until all lower numbers are read.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Line {
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

/// When one connection had something to read. What is stored here is changed under the lock of the line only.
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arc<Arrivals>,
    /// The number of what was read last.
    latest: AtomicU64,
    /// The first and the last number it got for what is still to be read.
    rung: [AtomicU64; 2],
    /// Its first number since it was looked at.
    unread: AtomicU64,
    /// The number for which it is looked at now.
    looking: AtomicU64,
    gone: AtomicU64,
}

impl Arrival {
    /// A new connection, behind all that has arrived on others.
    pub(super) fn new(arrivals: Arc<Arrivals>) -> Arc<Self> {
        let [latest, unread, looking, gone] = [NONE; 4].map(AtomicU64::new);
        let rung = [NONE; 2].map(AtomicU64::new);
        let arrival = Arc::new(Arrival { arrivals, latest, rung, unread, looking, gone });
        arrival.rings();
        arrival
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.arrivals.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The system says that there is something to read.
    fn rings(&self) {
        let mut line = self.line();
        if self.gone.load(Relaxed) != NONE {
            return;
        }
        line.last += 1;
        let [first, last] = &self.rung;
        last.store(line.last, Relaxed);
        if first.load(Relaxed) == NONE {
            first.store(line.last, Relaxed);
        }
        if self.unread.load(Relaxed) == NONE {
            self.unread.store(line.last, Relaxed);
            let last = line.last;
            line.unread.insert(last);
        }
    }

    /// Something was read: it has the number for which the connection rang. That of now, if it has not yet: then the
    /// system is about to say so, and has said nothing since about other connections.
    fn has_read(&self) {
        let mut line = self.line();
        let [first, last] = &self.rung;
        let mut number = first.swap(NONE, Relaxed);
        if number == NONE {
            line.last += 1;
            number = line.last;
        } else if last.load(Relaxed) > number {
            first.store(last.load(Relaxed), Relaxed);
        }
        self.latest.store(number, Relaxed);
    }

    /// There was nothing more to read after the connection rang with this number.
    fn has_read_all(&self, last: u64) {
        let _line = self.line();
        if self.rung[1].load(Relaxed) == last {
            self.rung[0].store(NONE, Relaxed);
        }
    }

    /// Runs the connection, which reads what there is.
    pub(super) fn look<T>(&self, run: impl FnOnce() -> T) -> T {
        if self.unread.load(Relaxed) != NONE {
            let _line = self.line();
            self.looking.store(self.unread.swap(NONE, Relaxed), Relaxed);
        }
        let ran = run();
        let looked = self.looking.swap(NONE, Relaxed);
        if looked != NONE {
            self.is_read(&[looked]);
        }
        ran
    }

    /// Nothing is read any more.
    pub(super) fn leave(&self) {
        self.gone.store(1, Relaxed);
        self.is_read(&[self.unread.swap(NONE, Relaxed), self.looking.swap(NONE, Relaxed)]);
    }

    fn is_read(&self, numbers: &[u64]) {
        let mut line = self.line();
        for number in numbers {
            line.unread.remove(number);
        }
        let ready = line.ready();
        drop(line);
        for waiting in ready {
            let _ = waiting.send(());
        }
    }

    /// Waits until everything is read that arrived before this number on other connections.
    fn until_read(&self, number: u64) -> Option<oneshot::Receiver<()>> {
        let mut line = self.line();
        let own = self.looking.load(Relaxed);
        if line.unread.range(..number).all(|other| *other == own) {
            return None;
        }
        let (ready, is_ready) = oneshot::channel();
        line.waiting.insert(number, ready);
        Some(is_ready)
    }
}

/// Gives a connection its number as soon as the system says that there is something to read.
pub(super) struct Doorbell {
    arrival: Arc<Arrival>,
    /// For the task that reads.
    rings: Option<(Waker, Waker)>,
}

struct Bell {
    arrival: Arc<Arrival>,
    task: Waker,
}

impl Doorbell {
    pub(super) fn new(arrival: Arc<Arrival>) -> Self {
        Doorbell { arrival, rings: None }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.arrival.rings();
        self.task.wake_by_ref();
    }
}

impl Watch for Doorbell {
    fn read(
        &mut self,
        context: &mut Context,
        read: impl FnOnce(&mut Context) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let task = context.waker();
        if !self.rings.as_ref().is_some_and(|(known, _)| known.will_wake(task)) {
            let bell = Bell { arrival: self.arrival.clone(), task: task.clone() };
            self.rings = Some((task.clone(), Arc::new(bell).into()));
        }
        let Some((_, bell)) = &self.rings else { return read(context) };
        let last = self.arrival.rung[1].load(Relaxed);
        let done = read(&mut Context::from_waker(bell));
        if done.is_ready() {
            self.arrival.has_read();
        } else {
            self.arrival.has_read_all(last);
        }
        done
    }
}

/// The messages of one sender that have no place in a queue yet.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    numbers: Mutex<BTreeSet<u64>>,
    fewer: Notify,
}

impl UnderWay {
    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is none with a lower number.
    async fn is_first(&self, number: u64) {
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
    pub(super) fn new(sender: Arc<Verified>, caller: &Caller) -> Self {
        let arrival = caller.arrival.clone();
        let number = arrival.latest.load(Relaxed);
        sender.under_way.numbers().insert(number);
        Ticket { sender, arrival, number }
    }

    /// Waits for the messages before. Not for long, since their sender may have lost one on the way.
    pub(super) async fn turn(&self) {
        let before = self.arrival.until_read(self.number);
        if before.is_none() && self.sender.under_way.numbers().first() == Some(&self.number) {
            return;
        }
        let turn = async {
            if let Some(before) = before {
                let _ = before.await;
            }
            self.sender.under_way.is_first(self.number).await;
        };
        let _ = timeout(OUT_OF_TURN, turn).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sender.under_way.numbers().remove(&self.number);
        self.sender.under_way.fewer.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a message of this connection: what it has to wait for, and how it may go on once that is ready.
    fn message(arrival: &Arrival) -> Option<oneshot::Receiver<()>> {
        arrival.look(|| {
            arrival.has_read();
            let wait = arrival.until_read(arrival.latest.load(Relaxed));
            arrival.has_read_all(arrival.rung[1].load(Relaxed));
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
        three.rings();
        one.rings();
        two.rings();
        let mut of_two = message(&two).expect("two are unread");
        assert!(message(&three).is_none(), "it was the first");
        assert!(of_two.try_recv().is_err(), "one is unread");
        // It rings again while it is read: that is later than the other.
        one.look(|| one.rings());
        assert!(of_two.try_recv().is_ok());
        two.rings();
        let mut of_two = message(&two).expect("one is unread again");
        one.leave();
        assert!(of_two.try_recv().is_ok(), "what is gone is not waited for");
        one.rings();
        assert!(message(&two).is_none(), "it does not ring any more");
        assert!(arrivals.0.lock().expect("no panic").unread.is_empty());
    }

    #[test]
    fn what_is_read_has_the_number_for_which_the_connection_rang() {
        let arrivals = Arc::<Arrivals>::default();
        let [one, two] = [0; 2].map(|_| Arrival::new(arrivals.clone()));
        let number = |arrival: &Arrival| {
            arrival.has_read();
            arrival.latest.load(Relaxed)
        };
        assert_eq!((number(&one), number(&two)), (1, 2));
        // The head of a message, and its rest after a message of another: read at once.
        one.rings();
        two.rings();
        one.rings();
        assert_eq!((number(&one), number(&two)), (3, 4));
        one.has_read_all(5);
        // Read before the system has said so.
        two.rings();
        assert_eq!((number(&one), number(&two)), (7, 6));
        one.rings();
        one.has_read_all(8);
        one.rings();
        one.has_read_all(8);
        assert_eq!(number(&one), 9, "it rang after there was nothing more to read");
    }
}
