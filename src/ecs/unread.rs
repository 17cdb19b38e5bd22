//! Messages that Bevy still keeps for systems to read, and what they take of their peers' receive buffers.

use std::{collections::VecDeque, time::Duration};

use bevy::{platform::time::Instant, prelude::*};

use crate::net::contract::{Held, PeerHandle};

/// The kept messages of one type, in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Unread {
    runs: VecDeque<Run>,
}

/// Messages in a row, all from one peer.
#[derive(Debug)]
struct Run {
    /// The number of the first message after them.
    end: usize,
    since: Instant,
    held: Held,
}

/// How far Bevy is with the messages of one type, as the number of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Those before it are dropped.
    dropped: usize,
    /// Those before it were kept for a whole frame, and for a fixed step: systems in `Update` and `FixedUpdate` have read
    /// them.
    offered: usize,
    /// The next one.
    end: usize,
}

impl Progress {
    pub fn of<M: Message>(messages: &Messages<M>) -> Self {
        let dropped = messages.oldest_message_count();
        let end = dropped + messages.len();
        Progress { dropped, offered: end - messages.iter_current_update_messages().len(), end }
    }
}

impl Unread {
    /// Notes messages that were written just now, as the last ones.
    pub fn keep(&mut self, progress: Progress, held: Held, now: Instant) {
        self.runs.push_back(Run { end: progress.end, since: now, held });
    }

    /// Makes room for more where messages were dropped.
    pub fn release(&mut self, progress: Progress) {
        while self.runs.front().is_some_and(|run| run.end <= progress.dropped) {
            self.runs.pop_front();
        }
    }

    /// Whether systems have yet to be offered a message of this peer.
    pub fn awaits_readers(&self, progress: Progress, peer: &PeerHandle) -> bool {
        self.runs.iter().rev().take_while(|run| run.end > progress.offered).any(|run| run.held.is_of(peer))
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The bytes of messages that are kept for longer than this.
    pub fn older_than(&self, age: Duration, now: Instant) -> usize {
        let old = self.runs.iter().take_while(|run| now - run.since > age);
        old.map(|run| run.held.bytes()).sum()
    }
}
