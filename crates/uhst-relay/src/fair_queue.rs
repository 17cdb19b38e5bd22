//! A queue that divides a listener's bandwidth fairly among its senders.
//!
//! Every sender has a flow of its own, so a backlog delays only the sender that caused it. The scheduling is that of
//! fq_codel (RFC 8290, section 4): a new flow sends first, for one quantum of bytes. Then all flows take turns, a
//! quantum each. A short message therefore overtakes the backlog of other senders.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::oneshot;

/// The client whose messages a flow holds, or `None` for the host.
pub(super) type Sender = Option<Arc<str>>;

/// The number of bytes a flow may send before the next flow's turn.
const QUANTUM: i64 = 8 * 1024;
/// The memory an event takes besides its bytes: its allocation, its place in the queue and its share of the flow.
pub(super) const EVENT_COST: usize = 128;
/// The most messages of one sender that may wait for room.
pub(super) const MAX_WAITING: usize = 64;

/// The outcome of [`FairQueue::enqueue`].
#[derive(Debug)]
pub(super) enum Enqueued {
    /// The event is in the queue.
    Queued,
    /// The event waits for room in its flow. The receiver resolves once the event is in the queue.
    Waiting(oneshot::Receiver<()>),
}

/// The flow has no room for an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The queue of one listener.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    flows: HashMap<Sender, Flow>,
    /// Flows in their first turn.
    new_flows: VecDeque<Sender>,
    /// All other flows, in the order of their turns.
    old_flows: VecDeque<Sender>,
}

#[derive(Debug, Default)]
struct Flow {
    events: VecDeque<Bytes>,
    /// The total cost of the events in bytes.
    cost: usize,
    waiting: VecDeque<(Bytes, oneshot::Sender<()>)>,
    /// The number of bytes the flow may still send in this turn.
    credit: i64,
}

fn cost(event: &Bytes) -> usize {
    event.len() + EVENT_COST
}

impl Flow {
    /// Returns whether an event fits into the flow's share. An empty flow accepts an event of any size.
    fn fits(&self, event: &Bytes, share: usize) -> bool {
        self.events.is_empty() || self.cost + cost(event) <= share
    }

    fn add(&mut self, event: Bytes) {
        self.cost += cost(&event);
        self.events.push_back(event);
    }

    /// Moves waiting events that fit now into the flow. Events whose sender has given up are dropped.
    fn fill(&mut self, share: usize) {
        while let Some((event, queued)) = self.waiting.pop_front() {
            if queued.is_closed() {
                continue;
            }
            if !self.fits(&event, share) {
                self.waiting.push_front((event, queued));
                return;
            }
            self.add(event);
            let _ = queued.send(());
        }
    }
}

impl FairQueue {
    /// Returns the share of `capacity` for one flow. A flow that does not exist yet counts as one more.
    fn share(&self, sender: &Sender, capacity: usize) -> usize {
        let flows = self.flows.len() + usize::from(!self.flows.contains_key(sender));
        capacity / flows
    }

    fn flow(&mut self, sender: &Sender) -> &mut Flow {
        if !self.flows.contains_key(sender) {
            self.new_flows.push_back(sender.clone());
        }
        self.flows.entry(sender.clone()).or_insert_with(|| Flow { credit: QUANTUM, ..Flow::default() })
    }

    /// Queues an event if it fits.
    pub(super) fn push(&mut self, sender: &Sender, event: Bytes, capacity: usize) -> Result<(), NoRoom> {
        let share = self.share(sender, capacity);
        let flow = self.flow(sender);
        if !flow.waiting.is_empty() || !flow.fits(&event, share) {
            return Err(NoRoom);
        }
        flow.add(event);
        Ok(())
    }

    /// Queues an event, or lets it wait for room behind other waiting events of its sender.
    pub(super) fn enqueue(&mut self, sender: &Sender, event: Bytes, capacity: usize) -> Result<Enqueued, NoRoom> {
        let share = self.share(sender, capacity);
        let flow = self.flow(sender);
        if flow.waiting.is_empty() && flow.fits(&event, share) {
            flow.add(event);
            return Ok(Enqueued::Queued);
        }
        if flow.waiting.len() >= MAX_WAITING {
            flow.waiting.retain(|(_, queued)| !queued.is_closed());
        }
        if flow.waiting.len() >= MAX_WAITING {
            return Err(NoRoom);
        }
        let (queued, is_queued) = oneshot::channel();
        flow.waiting.push_back((event, queued));
        Ok(Enqueued::Waiting(is_queued))
    }

    /// Queues an event of the relay about a sender, behind everything that this sender has sent. These events may use
    /// twice the capacity, so that messages cannot keep them out.
    pub(super) fn report(&mut self, sender: &Sender, event: Bytes, capacity: usize) -> Result<(), NoRoom> {
        if self.flows.values().map(|flow| flow.cost).sum::<usize>() > 2 * capacity {
            return Err(NoRoom);
        }
        let flow = self.flow(sender);
        flow.fill(usize::MAX);
        flow.add(event);
        Ok(())
    }

    /// Removes the next event if it has at most `longest` bytes.
    pub(super) fn next(&mut self, longest: usize, capacity: usize) -> Option<Bytes> {
        loop {
            let is_new = !self.new_flows.is_empty();
            let queue = if is_new { &mut self.new_flows } else { &mut self.old_flows };
            let sender = queue.front()?;
            let share = capacity / self.flows.len().max(1);
            let flow = self.flows.get_mut(sender)?;
            if flow.events.is_empty() {
                let sender = queue.pop_front()?;
                if is_new {
                    // A flow that empties moves to the old flows, so that a sender is not new with every message.
                    self.old_flows.push_back(sender);
                } else {
                    self.flows.remove(&sender);
                }
            } else if flow.credit <= 0 {
                flow.credit += QUANTUM;
                let sender = queue.pop_front()?;
                self.old_flows.push_back(sender);
            } else if flow.events.front().is_some_and(|event| event.len() > longest) {
                return None;
            } else {
                let event = flow.events.pop_front()?;
                flow.cost -= cost(&event);
                flow.credit -= i64::try_from(cost(&event)).unwrap_or(i64::MAX);
                flow.fill(share);
                return Some(event);
            }
        }
    }

    /// Drops all waiting events. Their senders see the channel close.
    pub(super) fn refuse_waiting(&mut self) {
        self.flows.values_mut().for_each(|flow| flow.waiting = VecDeque::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 100 * 1024;

    fn sender(name: &str) -> Sender {
        Some(name.into())
    }

    fn drain(queue: &mut FairQueue) -> Vec<Bytes> {
        std::iter::from_fn(|| queue.next(usize::MAX, CAPACITY)).collect()
    }

    #[test]
    fn a_short_message_overtakes_a_backlog() {
        let mut queue = FairQueue::default();
        let mut waiting = Vec::new();
        for name in ["a", "b", "c"] {
            for _ in 0..20 {
                if let Enqueued::Waiting(wait) =
                    queue.enqueue(&sender(name), vec![b'x'; 20_000].into(), CAPACITY).expect("few wait")
                {
                    waiting.push(wait);
                }
            }
        }
        assert!(!waiting.is_empty());
        for _ in 0..3 {
            queue.next(usize::MAX, CAPACITY).expect("an event");
        }
        assert!(queue.push(&sender("honest"), "short".into(), CAPACITY).is_ok());
        assert_eq!(queue.next(usize::MAX, CAPACITY).expect("an event"), "short");
        assert_eq!(drain(&mut queue).len(), 57, "nothing is lost");
        assert!(waiting.iter_mut().all(|wait| wait.try_recv().is_ok()));
        assert!(queue.flows.is_empty(), "no flow is kept");
    }

    #[test]
    fn flows_share_by_bytes_and_keep_their_order() {
        let mut queue = FairQueue::default();
        for n in 0..50 {
            queue.push(&sender("long"), format!("{n:09000}").into(), usize::MAX / 4).expect("room");
            queue.push(&sender("short"), format!("{n:0900}").into(), usize::MAX / 4).expect("room");
        }
        let events = drain(&mut queue);
        let of = |length: usize| -> Vec<u32> {
            let events = events.iter().filter(|event| event.len() == length);
            events.map(|event| std::str::from_utf8(event).expect("text").parse().expect("a number")).collect()
        };
        assert_eq!(of(9000), (0..50).collect::<Vec<_>>());
        assert_eq!(of(900), (0..50).collect::<Vec<_>>());
        let last_short = events.iter().rposition(|event| event.len() == 900).expect("events");
        let long_before = events[..last_short].iter().filter(|event| event.len() == 9000).count();
        assert!(long_before < 10, "{long_before}: as many bytes, so a tenth of the events");
    }

    #[test]
    fn waiting_events_are_bounded_and_abandoned_ones_dropped() {
        let mut queue = FairQueue::default();
        let one = sender("one");
        assert!(matches!(queue.enqueue(&one, vec![0; CAPACITY].into(), CAPACITY), Ok(Enqueued::Queued)));
        assert_eq!(queue.push(&one, "x".into(), CAPACITY), Err(NoRoom));
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|n| queue.enqueue(&one, n.to_string().into(), CAPACITY).expect("few wait")).collect();
        assert!(queue.enqueue(&one, "x".into(), CAPACITY).is_err());
        waiting.remove(0);
        let _last = queue.enqueue(&one, "last".into(), CAPACITY).expect("one gave up");
        queue.report(&one, "event".into(), CAPACITY).expect("room for the relay");
        let events = drain(&mut queue);
        assert_eq!(events.len(), 1 + MAX_WAITING + 1);
        assert_eq!((&*events[1], &**events.last().expect("events")), (&b"1"[..], &b"event"[..]));
    }
}
