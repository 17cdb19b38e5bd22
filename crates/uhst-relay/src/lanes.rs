//! A queue in which each sender has a lane of its own: who sends much waits for itself, not the others for it.
//!
//! Lanes are served as fq_codel does (RFC 8290, section 4): a lane that begins to send goes first for one quantum of
//! bytes, then all lanes take turns, a quantum each. So a short message passes by the backlog of others.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::oneshot;

/// The client whose messages are in a lane; `None` for the host's.
pub(super) type Sender = Option<Arc<str>>;

/// How many bytes a lane may have written before it is the turn of the next.
const QUANTUM: i64 = 8 * 1024;
/// What a frame takes besides its bytes: its allocation, its place in the queue and its share of the lane.
pub(super) const FRAME_COST: usize = 128;
/// How many messages of one sender may wait for room.
pub(super) const MAX_WAITING: usize = 64;

/// What became of a frame.
#[derive(Debug)]
pub(super) enum Placed {
    /// It is queued.
    Now,
    /// It waits for room in the lane, and is told when it is queued.
    Later(oneshot::Receiver<()>),
}

/// The lane has no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The lanes of one listener.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Sender, Lane>,
    /// Lanes that begin to send.
    fresh: VecDeque<Sender>,
    /// The others, in turn.
    rest: VecDeque<Sender>,
}

#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Bytes>,
    /// What the frames cost.
    cost: usize,
    waiting: VecDeque<(Bytes, oneshot::Sender<()>)>,
    /// How many bytes it may still have written in this turn.
    credit: i64,
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + FRAME_COST
}

impl Lane {
    /// Whether a frame fits into the lane's share. An empty lane takes a frame of any size.
    fn fits(&self, frame: &Bytes, share: usize) -> bool {
        self.frames.is_empty() || self.cost + cost(frame) <= share
    }

    fn add(&mut self, frame: Bytes) {
        self.cost += cost(&frame);
        self.frames.push_back(frame);
    }

    /// Queues what has waited and fits now. A sender that has given up is not waited for.
    fn fill(&mut self, share: usize) {
        while let Some((frame, told)) = self.waiting.pop_front() {
            if told.is_closed() {
                continue;
            }
            if !self.fits(&frame, share) {
                self.waiting.push_front((frame, told));
                return;
            }
            self.add(frame);
            let _ = told.send(());
        }
    }
}

impl Lanes {
    /// What one lane may hold of `capacity`, were there one more unless it is there already.
    fn share(&self, sender: &Sender, capacity: usize) -> usize {
        let lanes = self.lanes.len() + usize::from(!self.lanes.contains_key(sender));
        capacity / lanes
    }

    fn lane(&mut self, sender: &Sender) -> &mut Lane {
        if !self.lanes.contains_key(sender) {
            self.fresh.push_back(sender.clone());
        }
        self.lanes.entry(sender.clone()).or_insert_with(|| Lane { credit: QUANTUM, ..Lane::default() })
    }

    /// Queues a frame if it fits.
    pub(super) fn push(&mut self, sender: &Sender, frame: Bytes, capacity: usize) -> Result<(), NoRoom> {
        let share = self.share(sender, capacity);
        let lane = self.lane(sender);
        if !lane.waiting.is_empty() || !lane.fits(&frame, share) {
            return Err(NoRoom);
        }
        lane.add(frame);
        Ok(())
    }

    /// Queues a frame, or lets it wait for room behind those of its sender that do.
    pub(super) fn place(&mut self, sender: &Sender, frame: Bytes, capacity: usize) -> Result<Placed, NoRoom> {
        let share = self.share(sender, capacity);
        let lane = self.lane(sender);
        if lane.waiting.is_empty() && lane.fits(&frame, share) {
            lane.add(frame);
            return Ok(Placed::Now);
        }
        if lane.waiting.len() >= MAX_WAITING {
            lane.waiting.retain(|(_, told)| !told.is_closed());
        }
        if lane.waiting.len() >= MAX_WAITING {
            return Err(NoRoom);
        }
        let (told, tells) = oneshot::channel();
        lane.waiting.push_back((frame, told));
        Ok(Placed::Later(tells))
    }

    /// Queues what the relay itself has to say about a sender, behind all that it has sent. There is room for as much
    /// again as for messages, so that no message keeps it out.
    pub(super) fn tell(&mut self, sender: &Sender, frame: Bytes, capacity: usize) -> Result<(), NoRoom> {
        if self.lanes.values().map(|lane| lane.cost).sum::<usize>() > 2 * capacity {
            return Err(NoRoom);
        }
        let lane = self.lane(sender);
        lane.fill(usize::MAX);
        lane.add(frame);
        Ok(())
    }

    /// The next frame, if it has at most `longest` bytes.
    pub(super) fn next(&mut self, longest: usize, capacity: usize) -> Option<Bytes> {
        loop {
            let is_fresh = !self.fresh.is_empty();
            let line = if is_fresh { &mut self.fresh } else { &mut self.rest };
            let sender = line.front()?;
            let share = capacity / self.lanes.len().max(1);
            let lane = self.lanes.get_mut(sender)?;
            if lane.frames.is_empty() {
                let sender = line.pop_front()?;
                if is_fresh {
                    // So that nobody is fresh again with each message.
                    self.rest.push_back(sender);
                } else {
                    self.lanes.remove(&sender);
                }
            } else if lane.credit <= 0 {
                lane.credit += QUANTUM;
                let sender = line.pop_front()?;
                self.rest.push_back(sender);
            } else if lane.frames.front().is_some_and(|frame| frame.len() > longest) {
                return None;
            } else {
                let frame = lane.frames.pop_front()?;
                lane.cost -= cost(&frame);
                lane.credit -= i64::try_from(cost(&frame)).unwrap_or(i64::MAX);
                lane.fill(share);
                return Some(frame);
            }
        }
    }

    /// Nothing more is queued: who waits is told so.
    pub(super) fn refuse(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.waiting = VecDeque::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 100 * 1024;

    fn sender(name: &str) -> Sender {
        Some(name.into())
    }

    fn drain(lanes: &mut Lanes) -> Vec<Bytes> {
        std::iter::from_fn(|| lanes.next(usize::MAX, CAPACITY)).collect()
    }

    #[test]
    fn a_short_message_passes_by_a_backlog_and_is_taken_at_once() {
        let mut lanes = Lanes::default();
        let mut waiting = Vec::new();
        for name in ["a", "b", "c"] {
            for _ in 0..20 {
                if let Placed::Later(wait) =
                    lanes.place(&sender(name), vec![b'x'; 20_000].into(), CAPACITY).expect("few wait")
                {
                    waiting.push(wait);
                }
            }
        }
        assert!(!waiting.is_empty());
        for _ in 0..3 {
            lanes.next(usize::MAX, CAPACITY).expect("a frame");
        }
        assert!(lanes.push(&sender("honest"), "short".into(), CAPACITY).is_ok());
        assert_eq!(lanes.next(usize::MAX, CAPACITY).expect("a frame"), "short");
        assert_eq!(drain(&mut lanes).len(), 57, "nothing is lost");
        assert!(waiting.iter_mut().all(|wait| wait.try_recv().is_ok()));
        assert!(lanes.lanes.is_empty(), "no lane is kept");
    }

    #[test]
    fn lanes_share_by_bytes_and_keep_their_order() {
        let mut lanes = Lanes::default();
        for n in 0..50 {
            lanes.push(&sender("long"), format!("{n:09000}").into(), usize::MAX / 4).expect("room");
            lanes.push(&sender("short"), format!("{n:0900}").into(), usize::MAX / 4).expect("room");
        }
        let frames = drain(&mut lanes);
        let of = |length: usize| -> Vec<u32> {
            let frames = frames.iter().filter(|frame| frame.len() == length);
            frames.map(|frame| std::str::from_utf8(frame).expect("text").parse().expect("a number")).collect()
        };
        assert_eq!(of(9000), (0..50).collect::<Vec<_>>());
        assert_eq!(of(900), (0..50).collect::<Vec<_>>());
        let last_short = frames.iter().rposition(|frame| frame.len() == 900).expect("frames");
        let long_before = frames[..last_short].iter().filter(|frame| frame.len() == 9000).count();
        assert!(long_before < 10, "{long_before}: as many bytes, so a tenth of the frames");
    }

    #[test]
    fn who_waits_is_bounded_and_who_gave_up_is_forgotten() {
        let mut lanes = Lanes::default();
        let one = sender("one");
        assert!(matches!(lanes.place(&one, vec![0; CAPACITY].into(), CAPACITY), Ok(Placed::Now)));
        assert_eq!(lanes.push(&one, "x".into(), CAPACITY), Err(NoRoom));
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|n| lanes.place(&one, n.to_string().into(), CAPACITY).expect("few wait")).collect();
        assert!(lanes.place(&one, "x".into(), CAPACITY).is_err());
        waiting.remove(0);
        let _last = lanes.place(&one, "last".into(), CAPACITY).expect("one gave up");
        lanes.tell(&one, "event".into(), CAPACITY).expect("room for the relay");
        let frames = drain(&mut lanes);
        assert_eq!(frames.len(), 1 + MAX_WAITING + 1);
        assert_eq!((&*frames[1], &**frames.last().expect("frames")), (&b"1"[..], &b"event"[..]));
    }
}
