//! Receiving reliable streams: ordering, deduplication and reassembly.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::ranges::{Insert, Ranges};
use crate::protocol::{Tag, frame::Data};

/// A violation of the protocol by the peer. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    TooMuchData,
    Protocol(&'static str),
}

/// A complete message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompleteMessage {
    pub(super) tag: Tag,
    pub(super) text: bool,
    pub(super) payload: Bytes,
    pub(super) fragments: usize,
}

impl CompleteMessage {
    /// The message of a single fragment.
    pub(super) fn single(data: Data) -> Self {
        Self { tag: data.tag, text: data.text, payload: data.payload, fragments: 1 }
    }
}

/// The consecutive fragments of a message that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    pieces: Vec<Bytes>,
    size: usize,
    tag: Tag,
    text: bool,
}

impl Reassembly {
    pub(super) fn push(&mut self, data: Data, max_message: usize) -> Result<Option<CompleteMessage>, Violation> {
        if data.first != self.pieces.is_empty() {
            return Err(Violation::Protocol("fragments of two messages in one"));
        }
        self.size += data.payload.len();
        if self.size > max_message {
            return Err(Violation::TooMuchData);
        }
        if data.first && data.last {
            self.size = 0;
            return Ok(Some(CompleteMessage::single(data)));
        }
        if data.first {
            (self.tag, self.text) = (data.tag, data.text);
        }
        self.pieces.push(data.payload);
        if !data.last {
            return Ok(None);
        }
        let mut payload = BytesMut::with_capacity(self.size);
        self.pieces.iter().for_each(|piece| payload.extend_from_slice(piece));
        let fragments = self.pieces.len();
        self.pieces.clear();
        self.size = 0;
        Ok(Some(CompleteMessage { tag: self.tag, text: self.text, payload: payload.freeze(), fragments }))
    }
}

/// The receiver of one reliable stream.
#[derive(Debug)]
pub(super) struct Receiver {
    ranges: Ranges,
    delivery: Delivery,
    max_message: usize,
    /// A peer within its grant cannot send numbers this far above `next`.
    window: u64,
}

#[derive(Debug)]
enum Delivery {
    /// The fragments from `next` on, and the message that the ones before it started.
    Ordered { held: VecDeque<Option<Data>>, reassembly: Reassembly },
    /// The fragments of incomplete messages.
    Unordered { held: BTreeMap<u64, Data> },
}

impl Receiver {
    pub(super) fn new(ordered: bool, max_message: usize, window: usize) -> Self {
        let delivery = if ordered {
            Delivery::Ordered { held: VecDeque::new(), reassembly: Reassembly::default() }
        } else {
            Delivery::Unordered { held: BTreeMap::new() }
        };
        Self { ranges: Ranges::default(), delivery, max_message, window: window as u64 }
    }

    /// The state for an acknowledgement.
    pub(super) fn state(&self) -> (u64, &[(u64, u64)]) {
        (self.ranges.next(), self.ranges.above())
    }

    /// Every number below it was received.
    pub(super) fn next(&self) -> u64 {
        self.ranges.next()
    }

    /// Whether a fragment with this number was not received before.
    pub(super) fn is_new(&self, number: u64) -> bool {
        !self.ranges.contains(number)
    }

    /// Accepts a fragment, and delivers the messages that it completes. Returns `false` if it was not accepted and must
    /// be sent again.
    pub(super) fn receive(
        &mut self,
        data: Data,
        compact: impl Fn(Bytes) -> Bytes,
        mut deliver: impl FnMut(CompleteMessage) -> Result<(), Violation>,
    ) -> Result<bool, Violation> {
        let (number, next) = (data.number, self.ranges.next());
        if number.saturating_sub(next) >= self.window {
            return Err(Violation::TooMuchData);
        }
        match self.ranges.insert(number) {
            Insert::New => {}
            Insert::Seen => return Ok(true),
            Insert::Full => return Ok(false),
        }
        match &mut self.delivery {
            Delivery::Ordered { held, reassembly } if number == next => {
                held.pop_front();
                let compacted = if data.last { data } else { held_copy(data, compact) };
                if let Some(message) = reassembly.push(compacted, self.max_message)? {
                    deliver(message)?;
                }
                while let Some(Some(_)) = held.front() {
                    if let Some(Some(data)) = held.pop_front()
                        && let Some(message) = reassembly.push(data, self.max_message)?
                    {
                        deliver(message)?;
                    }
                }
            }
            Delivery::Ordered { held, .. } => {
                let index = (number - next) as usize;
                if held.len() <= index {
                    held.resize(index + 1, None);
                }
                held[index] = Some(held_copy(data, compact));
            }
            Delivery::Unordered { .. } if data.first && data.last => {
                if data.payload.len() > self.max_message {
                    return Err(Violation::TooMuchData);
                }
                deliver(CompleteMessage::single(data))?;
            }
            Delivery::Unordered { held } => {
                held.insert(number, held_copy(data, compact));
                if let Some(message) = complete(held, number, self.max_message)? {
                    deliver(message)?;
                }
            }
        }
        Ok(true)
    }
}

/// Removes the message around this fragment, if all of it is held.
fn complete(
    held: &mut BTreeMap<u64, Data>,
    number: u64,
    max_message: usize,
) -> Result<Option<CompleteMessage>, Violation> {
    let Some(here) = held.get(&number) else { return Ok(None) };
    // Most fragments still miss a neighbour. Search only when this one closes the last gap.
    let open = |number: Option<u64>| number.is_none_or(|number| !held.contains_key(&number));
    if !here.last && open(number.checked_add(1)) || !here.first && open(number.checked_sub(1)) {
        return Ok(None);
    }
    let (mut first, mut last) = (number, number);
    while !held.get(&first).is_some_and(|data| data.first) {
        match first.checked_sub(1) {
            Some(before) if held.contains_key(&before) => first = before,
            _ => return Ok(None),
        }
    }
    while !held.get(&last).is_some_and(|data| data.last) {
        last += 1;
        if !held.contains_key(&last) {
            return Ok(None);
        }
    }
    let mut reassembly = Reassembly::default();
    let mut message = None;
    for number in first..=last {
        if let Some(data) = held.remove(&number) {
            message = reassembly.push(data, max_message)?;
        }
    }
    Ok(message)
}

fn held_copy(mut data: Data, compact: impl Fn(Bytes) -> Bytes) -> Data {
    data.payload = compact(data.payload);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Channel, frame::Stream};

    fn data(number: u64, first: bool, last: bool, payload: &'static str) -> Data {
        let stream = Stream::Channel(Channel::Reliable);
        let payload = Bytes::from_static(payload.as_bytes());
        Data { stream, number, first, last, text: false, tag: Tag::Untyped, payload }
    }

    fn take(receiver: &mut Receiver, data: Data) -> Result<Vec<Bytes>, Violation> {
        let mut messages = Vec::new();
        receiver.receive(
            data,
            |bytes| bytes,
            |message| {
                messages.push(message.payload);
                Ok(())
            },
        )?;
        Ok(messages)
    }

    #[test]
    fn order_is_restored_and_copies_are_dropped() {
        let mut receiver = Receiver::new(true, 100, 1000);
        assert_eq!(take(&mut receiver, data(2, true, true, "c")), Ok(vec![]));
        assert_eq!(take(&mut receiver, data(1, false, true, "b")), Ok(vec![]));
        assert_eq!(take(&mut receiver, data(2, true, true, "c")), Ok(vec![]));
        assert_eq!(take(&mut receiver, data(0, true, false, "a")), Ok(vec!["ab".into(), "c".into()]));
        assert_eq!(take(&mut receiver, data(0, true, false, "a")), Ok(vec![]));
        assert_eq!(receiver.state(), (3, &[][..]));
    }

    #[test]
    fn without_order_messages_come_as_they_are_complete() {
        let mut receiver = Receiver::new(false, 100, 1000);
        assert_eq!(take(&mut receiver, data(4, true, true, "e")), Ok(vec!["e".into()]));
        assert_eq!(take(&mut receiver, data(3, false, true, "d")), Ok(vec![]));
        assert_eq!(take(&mut receiver, data(1, true, false, "b")), Ok(vec![]));
        assert_eq!(take(&mut receiver, data(2, false, false, "c")), Ok(vec!["bcd".into()]));
        assert_eq!(take(&mut receiver, data(4, true, true, "e")), Ok(vec![]));
        assert_eq!(receiver.state(), (0, &[(1, 5)][..]));
    }

    #[test]
    fn violations_are_distinct_from_losses() {
        for ordered in [true, false] {
            let mut receiver = Receiver::new(ordered, 5, 10);
            assert_eq!(take(&mut receiver, data(10, true, true, "")), Err(Violation::TooMuchData));
            assert_eq!(take(&mut receiver, data(0, true, true, "123456")), Err(Violation::TooMuchData));
            let mut receiver = Receiver::new(ordered, 5, 10);
            assert_eq!(take(&mut receiver, data(0, true, false, "123")), Ok(vec![]));
            assert_eq!(take(&mut receiver, data(1, false, true, "456")), Err(Violation::TooMuchData));
        }
        let mut receiver = Receiver::new(true, 5, 10);
        assert!(matches!(take(&mut receiver, data(0, false, true, "1")), Err(Violation::Protocol(_))));
    }
}
