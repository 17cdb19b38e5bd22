//! Sending one reliable stream: queued, in flight and lost fragments.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use super::{
    Path,
    cost::{OVERHEAD, fragment_cost},
    path::PerPath,
    ranges::Ranges,
};
use crate::protocol::{
    Tag,
    frame::{Data, FRAGMENT, PacketWriter, Stream, StreamAck},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FragmentState {
    Unsent,
    /// Last sent in the packet with this number.
    InFlight(u64),
    /// Queued in `lost`.
    Lost,
    Acked,
}

#[derive(Debug)]
struct Slot {
    payload: Bytes,
    state: FragmentState,
    /// The cost of this fragment and of the fragments of its message after it.
    rest: u32,
    first: bool,
    last: bool,
    text: bool,
    tag: Tag,
}

/// Consecutive fragments in one packet.
#[derive(Clone, Copy, Debug)]
struct FragmentRun {
    packet: u64,
    first: u64,
    count: u64,
}

/// The sender of one reliable stream. A slot has the number `base` plus its index.
#[derive(Debug)]
pub(super) struct SendStream {
    stream: Stream,
    base: u64,
    slots: VecDeque<Slot>,
    /// The first number that was never sent.
    unsent: u64,
    lost: VecDeque<u64>,
    acked: Ranges,
    /// What each path carried, in the order of its packets.
    in_flight: PerPath<VecDeque<FragmentRun>>,
    cost: usize,
    unsent_cost: usize,
}

/// An acknowledgement of something that was never sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FalseAck;

impl SendStream {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            base: 0,
            slots: VecDeque::new(),
            unsent: 0,
            lost: VecDeque::new(),
            acked: Ranges::default(),
            in_flight: PerPath::default(),
            cost: 0,
            unsent_cost: 0,
        }
    }

    /// The cost of what is queued or unacknowledged.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// The cost of what was never sent.
    pub(super) fn unsent_cost(&self) -> usize {
        self.unsent_cost
    }

    /// The number of fragments that were sent at least once.
    pub(super) fn sent(&self) -> u64 {
        self.unsent
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent < self.base + self.slots.len() as u64
    }

    pub(super) fn in_flight(&self, path: Path) -> bool {
        !self.in_flight[path].is_empty()
    }

    pub(super) fn push(&mut self, tag: Tag, mut payload: Bytes, text: bool) {
        let size = payload.len();
        let mut start = 0;
        loop {
            let end = size.min(start + FRAGMENT);
            let fragments = (size - end).div_ceil(FRAGMENT);
            let rest = fragment_cost(end - start) + (size - end) + fragments * OVERHEAD;
            self.slots.push_back(Slot {
                // A payload of one fragment is moved: a slice would share it, which costs memory too.
                payload: if start == 0 && end == size { mem::take(&mut payload) } else { payload.slice(start..end) },
                state: FragmentState::Unsent,
                rest: u32::try_from(rest).unwrap_or(u32::MAX),
                first: start == 0,
                last: end == size,
                text,
                tag,
            });
            self.cost += fragment_cost(end - start);
            self.unsent_cost += fragment_cost(end - start);
            start = end;
            if end == size {
                return;
            }
        }
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.slots.get_mut(index)
    }

    /// The grant that the rest of a started message of this stream needs.
    pub(super) fn begun(&self) -> u64 {
        match self.slots.get((self.unsent - self.base) as usize) {
            Some(slot) if !slot.first => u64::from(slot.rest),
            _ => 0,
        }
    }

    /// The cost of the next unsent fragment, and the cost of its message if the fragment is the first.
    pub(super) fn next_unsent(&self) -> Option<(u64, u64)> {
        let slot = self.slots.get((self.unsent - self.base) as usize)?;
        let cost = fragment_cost(slot.payload.len()) as u64;
        Some((cost, if slot.first { u64::from(slot.rest) } else { cost }))
    }

    fn write(&mut self, number: u64, writer: &mut PacketWriter, path: Path) -> bool {
        let (stream, packet) = (self.stream, writer.number());
        let Some(slot) = self.slot(number) else { return true };
        let Slot { first, last, text, tag, .. } = *slot;
        // The payload is moved out and back, because a clone would count a reference.
        let data = Data { stream, number, first, last, text, tag, payload: mem::take(&mut slot.payload) };
        let written = writer.data(&data);
        slot.payload = data.payload;
        if !written {
            return false;
        }
        slot.state = FragmentState::InFlight(packet);
        match self.in_flight[path].back_mut() {
            Some(run) if run.packet == packet && run.first + run.count == number => run.count += 1,
            _ => self.in_flight[path].push_back(FragmentRun { packet, first: number, count: 1 }),
        }
        true
    }

    /// Writes the next unsent fragment. Returns `false` if it does not fit.
    pub(super) fn write_unsent(&mut self, writer: &mut PacketWriter, path: Path) -> bool {
        let Some((cost, _)) = self.next_unsent() else { return false };
        let written = self.write(self.unsent, writer, path);
        if written {
            self.unsent += 1;
            self.unsent_cost -= cost as usize;
        }
        written
    }

    /// Writes lost fragments again, as many as fit. Returns their number.
    pub(super) fn write_lost(&mut self, writer: &mut PacketWriter, path: Path) -> u64 {
        let mut count = 0;
        while let Some(number) = self.lost.front().copied() {
            if self.slot(number).is_some_and(|slot| slot.state == FragmentState::Lost) {
                if !self.write(number, writer, path) {
                    break;
                }
                count += 1;
            }
            self.lost.pop_front();
        }
        count
    }

    /// Applies an acknowledgement. `largest` holds the largest packet number received on each path.
    pub(super) fn acked(&mut self, ack: &StreamAck<'_>, largest: [u64; 2]) -> Result<(), FalseAck> {
        if ack.next > self.unsent {
            return Err(FalseAck);
        }
        while self.base < ack.next {
            let Some(slot) = self.slots.pop_front() else { return Err(FalseAck) };
            self.cost -= fragment_cost(slot.payload.len());
            self.base += 1;
        }
        self.acked.advance(self.base);
        for (start, end) in ack.ranges() {
            if end > self.unsent {
                return Err(FalseAck);
            }
            let Self { acked, slots, base, cost, .. } = self;
            acked.insert_range(start, end, |start, end| {
                for number in start..end {
                    // The slot stays until all slots before it are acknowledged. Its payload is freed now.
                    let slot = &mut slots[(number - *base) as usize];
                    *cost -= slot.payload.len();
                    slot.payload = Bytes::new();
                    slot.state = FragmentState::Acked;
                }
            });
        }
        for (path, largest) in Path::ALL.into_iter().zip(largest) {
            // A path keeps its order. Once a packet arrived, the packets before it have arrived or are lost.
            while self.in_flight[path].front().is_some_and(|run| run.packet <= largest) {
                self.lose_oldest_run(path);
            }
            while self.in_flight[path].front().is_some_and(|run| run.first + run.count <= self.base) {
                self.in_flight[path].pop_front();
            }
        }
        Ok(())
    }

    fn lose_oldest_run(&mut self, path: Path) {
        let Some(run) = self.in_flight[path].pop_front() else { return };
        for number in run.first.max(self.base)..run.first + run.count {
            if let Some(slot) = self.slot(number)
                && slot.state == FragmentState::InFlight(run.packet)
            {
                slot.state = FragmentState::Lost;
                self.lost.push_back(number);
            }
        }
    }

    /// Marks everything in flight on this path as lost.
    pub(super) fn lose(&mut self, path: Path) {
        while !self.in_flight[path].is_empty() {
            self.lose_oldest_run(path);
        }
    }

    /// Drops everything that is queued.
    pub(super) fn clear(&mut self) {
        *self = Self { base: self.unsent, unsent: self.unsent, ..Self::new(self.stream) };
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::{
        Channel,
        frame::{Ack, put_ack, wire::Reader},
    };

    fn stream(messages: usize) -> SendStream {
        let mut stream = SendStream::new(Stream::Channel(Channel::Reliable));
        (0..messages).for_each(|_| stream.push(Tag::Untyped, Bytes::from_static(b"0123456789"), false));
        stream
    }

    fn send(stream: &mut SendStream, packet: u64, path: Path, count: usize) {
        let mut writer = PacketWriter::new(packet, 10_000, 0);
        stream.write_lost(&mut writer, path);
        (0..count).for_each(|_| assert!(stream.write_unsent(&mut writer, path)));
    }

    fn ack(stream: &mut SendStream, next: u64, ranges: &[(u64, u64)], largest: [u64; 2]) -> Result<(), FalseAck> {
        let mut bytes = BytesMut::new();
        put_ack(&mut bytes, 0, largest, [(next, ranges), (0, &[]), (0, &[])]);
        let ack = Ack::read(&mut Reader::new(&bytes)).unwrap();
        stream.acked(&ack.streams[0], largest)
    }

    #[test]
    fn a_fragment_is_lost_when_a_later_packet_was_received() {
        let mut stream = stream(6);
        send(&mut stream, 1, Path::Relay, 2);
        send(&mut stream, 2, Path::Relay, 2);
        ack(&mut stream, 0, &[(2, 4)], [2, 0]).unwrap();
        assert_eq!(stream.lost, [0, 1]);
        send(&mut stream, 3, Path::Relay, 2);
        assert!(!stream.has_lost());
        ack(&mut stream, 6, &[], [3, 0]).unwrap();
        assert_eq!((stream.cost(), stream.slots.len(), stream.in_flight(Path::Relay)), (0, 0, false));
    }

    #[test]
    fn an_acknowledgement_on_one_path_loses_nothing_on_the_other() {
        let mut stream = stream(4);
        send(&mut stream, 1, Path::Relay, 2);
        send(&mut stream, 2, Path::Direct, 2);
        ack(&mut stream, 0, &[(2, 4)], [0, 2]).unwrap();
        assert!(!stream.has_lost());
        stream.lose(Path::Relay);
        assert_eq!(stream.lost, [0, 1]);
    }

    #[test]
    fn a_retransmitted_fragment_is_not_lost_by_its_first_packet() {
        let mut stream = stream(2);
        send(&mut stream, 1, Path::Relay, 2);
        stream.lose(Path::Relay);
        send(&mut stream, 2, Path::Direct, 0);
        ack(&mut stream, 0, &[], [1, 0]).unwrap();
        assert!(!stream.has_lost());
    }

    #[test]
    fn acknowledging_an_unsent_fragment_is_an_error() {
        let mut stream = stream(3);
        send(&mut stream, 1, Path::Relay, 1);
        assert_eq!(ack(&mut stream, 2, &[], [1, 0]), Err(FalseAck));
        assert_eq!(ack(&mut stream, 0, &[(1, 2)], [1, 0]), Err(FalseAck));
    }

    #[test]
    fn fragments_know_the_cost_of_the_rest_of_their_message() {
        let mut stream = stream(0);
        stream.push(Tag::Untyped, Bytes::from(vec![0; 2 * FRAGMENT + 1]), false);
        let rest: Vec<_> = stream.slots.iter().map(|slot| slot.rest as usize).collect();
        let last = fragment_cost(1);
        assert_eq!(rest, [last + 2 * fragment_cost(FRAGMENT), last + fragment_cost(FRAGMENT), last]);
        assert_eq!(stream.cost(), rest[0]);
    }

    /// The first fragment is lost again with each packet.
    #[test]
    fn a_missing_first_fragment_costs_bounded_memory() {
        let mut stream = stream(1000);
        let payload = stream.slots[0].payload.len();
        send(&mut stream, 1, Path::Relay, 1);
        for packet in 2..=2000 {
            send(&mut stream, packet, Path::Relay, usize::from(packet <= 1000));
            let unsent = stream.unsent;
            ack(&mut stream, 0, &[(1, unsent)], [packet, 0]).unwrap();
            assert!(stream.in_flight[Path::Relay].len() <= 2 && stream.lost.len() <= 1, "after packet {packet}");
        }
        assert_eq!(stream.slots.len(), 1000);
        assert!(stream.slots.iter().skip(1).all(|slot| slot.payload.is_empty()));
        assert_eq!(stream.cost(), 1000 * OVERHEAD + payload);
    }

    #[test]
    fn a_receiver_that_acknowledges_nothing_costs_no_more_memory_than_is_counted() {
        let mut stream = stream(1000);
        for packet in 1..=2000 {
            send(&mut stream, packet, Path::Relay, usize::from(packet <= 1000));
            ack(&mut stream, 0, &[], [0, 0]).unwrap();
        }
        let runs: usize = Path::ALL.iter().map(|&path| stream.in_flight[path].len()).sum();
        assert_eq!((runs, stream.slots.len()), (1000, 1000));
        assert!(runs * size_of::<FragmentRun>() + stream.slots.len() * size_of::<Slot>() <= stream.cost());
    }
}
