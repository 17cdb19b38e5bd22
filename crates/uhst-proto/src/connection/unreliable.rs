//! Sending and receiving unreliable messages.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{
    cost::fragment_cost,
    receive::{CompleteMessage, Reassembly},
};
use crate::protocol::{
    Channel, Tag,
    frame::{Data, MIN_FRAGMENT, PacketWriter, Stream},
};

/// The size of the send queue: about what a relay carries in a second. A longer queue would only deliver late.
const QUEUE: usize = 256 << 10;
/// The numbers below the newest for which duplicates are recognised. Older fragments are dropped as late.
const WINDOW: u64 = 2048;
/// The fragments of incomplete messages that are held at most, if the message limit is small.
const MAX_HELD: usize = 4096;

#[derive(Debug)]
struct Waiting {
    channel: Channel,
    tag: Tag,
    payload: Bytes,
    text: bool,
    offset: usize,
}

/// The queued messages of both unreliable channels, the oldest first. The oldest are dropped when the queue is full.
#[derive(Debug, Default)]
pub(super) struct UnreliableQueue {
    messages: VecDeque<Waiting>,
    cost: usize,
    numbers: [u64; 2],
    dropped: u64,
}

impl UnreliableQueue {
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// The number of messages that were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts a message that was dropped before it was queued.
    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    pub(super) fn push(&mut self, channel: Channel, tag: Tag, payload: Bytes, text: bool) {
        self.cost += fragment_cost(payload.len());
        self.messages.push_back(Waiting { channel, tag, payload, text, offset: 0 });
        while self.cost > QUEUE && self.messages.len() > 1 {
            self.pop();
            self.dropped += 1;
        }
    }

    fn pop(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.cost -= fragment_cost(message.payload.len());
        }
    }

    pub(super) fn clear(&mut self) {
        self.dropped += self.messages.len() as u64;
        self.messages.clear();
        self.cost = 0;
    }

    /// Writes fragments of at most `fragment` bytes while more than `reserve` bytes of the packet are left.
    pub(super) fn write(&mut self, writer: &mut PacketWriter, fragment: usize, reserve: usize) {
        while let Some(message) = self.messages.front_mut() {
            if writer.remaining() <= reserve {
                return;
            }
            let end = message.payload.len().min(message.offset + fragment);
            let number = &mut self.numbers[usize::from(message.channel == Channel::UnreliableSequenced)];
            let data = Data {
                stream: Stream::Channel(message.channel),
                number: *number,
                first: message.offset == 0,
                last: end == message.payload.len(),
                text: message.text,
                tag: message.tag,
                payload: message.payload.slice(message.offset..end),
            };
            if !writer.data(&data) {
                return;
            }
            *number += 1;
            message.offset = end;
            if data.last {
                self.pop();
            }
        }
    }
}

/// The receiver of one unreliable channel. Delivers every message at most once, in bounded memory.
#[derive(Debug)]
pub(super) struct UnreliableReceiver {
    sequenced: bool,
    /// Numbers below it were seen or are too old, except those marked as open in `seen`.
    end: u64,
    /// The numbers below `end` that did not arrive.
    missing: u64,
    seen: [u64; WINDOW as usize / 64],
    /// Sequenced: fragments below this number are dropped, because a newer message was delivered.
    delivered: u64,
    held: BTreeMap<u64, Data>,
    held_cost: usize,
    limit: usize,
    max_held: usize,
    dropped: u64,
}

impl UnreliableReceiver {
    pub(super) fn new(sequenced: bool, max_message: usize) -> Self {
        let fragments = max_message / MIN_FRAGMENT + 1;
        Self {
            sequenced,
            end: 0,
            missing: 0,
            seen: [0; WINDOW as usize / 64],
            delivered: 0,
            held: BTreeMap::new(),
            held_cost: 0,
            limit: (max_message + fragment_cost(0) * fragments).max(QUEUE),
            max_held: fragments.max(MAX_HELD),
            dropped: 0,
        }
    }

    fn mark(&mut self, number: u64) -> bool {
        let bit = |number: u64| ((number % WINDOW / 64) as usize, 1_u64 << (number % 64));
        if number >= self.end {
            if number - self.end >= WINDOW {
                self.seen = [0; WINDOW as usize / 64];
            } else {
                for skipped in self.end..number {
                    let (word, bit) = bit(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.missing += number - self.end;
            self.end = number + 1;
        } else {
            let (word, bit) = bit(number);
            if self.end - number > WINDOW || self.seen[word] & bit != 0 {
                return false;
            }
            self.missing -= 1;
        }
        let (word, bit) = bit(number);
        self.seen[word] |= bit;
        true
    }

    /// The number of incomplete messages that were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number after the largest one that arrived.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How many numbers below `number` did not arrive. Gaps that are too old to be filled always count.
    pub(super) fn missed_below(&self, number: u64) -> u64 {
        let from = number.max(self.end.saturating_sub(WINDOW));
        let open = |number: &u64| self.seen[(number % WINDOW / 64) as usize] & (1 << (number % 64)) == 0;
        self.missing - (from..self.end).filter(open).count() as u64
    }

    /// Accepts a fragment. Returns the message that it completes.
    pub(super) fn receive(&mut self, data: Data, compact: impl Fn(Bytes) -> Bytes) -> Option<CompleteMessage> {
        if !self.mark(data.number) || data.number < self.delivered {
            return None;
        }
        if data.first && data.last {
            self.delivered(data.number);
            return Some(CompleteMessage::single(data));
        }
        let number = data.number;
        self.held_cost += fragment_cost(data.payload.len());
        self.held.insert(number, Data { payload: compact(data.payload), ..data });
        let message = self.complete(number);
        while self.held_cost > self.limit || self.held.len() > self.max_held {
            let Some((_, oldest)) = self.held.pop_first() else { break };
            self.held_cost -= fragment_cost(oldest.payload.len());
            self.dropped += u64::from(oldest.last);
        }
        message
    }

    /// Drops the held fragments of older messages, if the channel is sequenced.
    fn delivered(&mut self, last: u64) {
        if !self.sequenced {
            return;
        }
        self.delivered = last + 1;
        while let Some(oldest) = self.held.first_entry().filter(|oldest| *oldest.key() <= last) {
            self.held_cost -= fragment_cost(oldest.remove().payload.len());
        }
    }

    fn complete(&mut self, number: u64) -> Option<CompleteMessage> {
        let around = |number: u64| self.held.get(&number);
        let here = around(number)?;
        // Most fragments still miss a neighbour. Search only when this one closes the last gap.
        if !here.last && number.checked_add(1).and_then(around).is_none()
            || !here.first && number.checked_sub(1).and_then(around).is_none()
        {
            return None;
        }
        let mut first = number;
        while !around(first)?.first {
            first = first.checked_sub(1)?;
        }
        let mut last = number;
        while !around(last)?.last {
            last += 1;
            if around(last)?.first {
                return None;
            }
        }
        let mut reassembly = Reassembly::default();
        let mut message = None;
        for number in first..=last {
            let data = self.held.remove(&number)?;
            self.held_cost -= fragment_cost(data.payload.len());
            message = reassembly.push(data, usize::MAX).ok()?;
        }
        self.delivered(last);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(number: u64, first: bool, last: bool, payload: &'static [u8]) -> Data {
        let stream = Stream::Channel(Channel::Unreliable);
        Data { stream, number, first, last, text: false, tag: Tag::Untyped, payload: Bytes::from_static(payload) }
    }

    fn take(receiver: &mut UnreliableReceiver, data: Data) -> Option<Bytes> {
        receiver.receive(data, |bytes| bytes).map(|message| message.payload)
    }

    #[test]
    fn duplicates_are_dropped_and_late_messages_are_not() {
        let mut receiver = UnreliableReceiver::new(false, 1024);
        assert!(take(&mut receiver, data(5, true, true, b"5")).is_some());
        assert!(take(&mut receiver, data(5, true, true, b"5")).is_none());
        assert!(take(&mut receiver, data(3, true, true, b"3")).is_some());
        assert!(take(&mut receiver, data(3, true, true, b"3")).is_none());
        assert!(take(&mut receiver, data(5 + WINDOW, true, true, b"new")).is_some());
        assert!(take(&mut receiver, data(4, true, true, b"too old")).is_none());
    }

    #[test]
    fn missing_fragments_are_counted_until_they_arrive() {
        for sequenced in [false, true] {
            let mut receiver = UnreliableReceiver::new(sequenced, 1024);
            for number in [0, 1, 4, 4, 9] {
                take(&mut receiver, data(number, true, true, b"x"));
            }
            let missed = |receiver: &UnreliableReceiver| [0, 4, 5, 8, 10].map(|below| receiver.missed_below(below));
            assert_eq!(missed(&receiver), [0, 2, 2, 5, 6]);
            for late in [3, 3, 8] {
                take(&mut receiver, data(late, true, true, b"late"));
            }
            assert_eq!(missed(&receiver), [0, 1, 1, 4, 4]);
            let far = 20 + 2 * WINDOW;
            take(&mut receiver, data(far, true, true, b"far"));
            assert_eq!(receiver.missed_below(far + 1), 4 + far - 10);
            assert_eq!(receiver.missed_below(0), 4 + far - 10 - (WINDOW - 1));
            take(&mut receiver, data(2, true, true, b"too old"));
            assert_eq!(receiver.missed_below(far + 1), 4 + far - 10);
        }
    }

    #[test]
    fn sequenced_messages_never_go_back() {
        let mut receiver = UnreliableReceiver::new(true, 1024);
        assert!(take(&mut receiver, data(0, true, false, b"a")).is_none());
        assert!(take(&mut receiver, data(2, true, true, b"new")).is_some());
        assert!(take(&mut receiver, data(1, false, true, b"b")).is_none());
    }

    #[test]
    fn sequenced_fragments_are_reassembled_in_any_order_unless_a_newer_message_was_delivered() {
        let mut receiver = UnreliableReceiver::new(true, 1024);
        for number in [3, 0, 2] {
            let first = number % 2 == 0;
            let message = take(&mut receiver, data(number, first, !first, b"x"));
            assert_eq!(message.is_some(), number == 2);
        }
        assert!(take(&mut receiver, data(1, false, true, b"x")).is_none());
        assert_eq!((receiver.held.len(), receiver.held_cost), (0, 0));
    }

    #[test]
    fn fragments_are_reassembled_in_any_order_and_incomplete_messages_are_dropped() {
        let mut receiver = UnreliableReceiver::new(false, 1024);
        assert!(take(&mut receiver, data(2, false, true, b"c")).is_none());
        assert!(take(&mut receiver, data(0, true, false, b"a")).is_none());
        assert_eq!(take(&mut receiver, data(1, false, false, b"b")), Some(Bytes::from_static(b"abc")));
        for half in 0..100_000 {
            assert!(take(&mut receiver, data(10 + 2 * half, true, false, &[0; 1000])).is_none());
            assert!(receiver.held_cost <= receiver.limit && receiver.held.len() <= receiver.max_held);
        }
    }

    #[test]
    fn a_full_queue_drops_its_oldest_messages() {
        let mut queue = UnreliableQueue::default();
        for number in 0..1000_u64 {
            queue.push(Channel::Unreliable, Tag::Untyped, Bytes::from(vec![number as u8; 1000]), false);
            assert!(queue.cost() <= QUEUE);
        }
        assert_eq!(queue.dropped + queue.messages.len() as u64, 1000);
        assert_eq!(queue.messages.back().map(|message| message.payload[0]), Some((999 % 256) as u8));
    }
}
