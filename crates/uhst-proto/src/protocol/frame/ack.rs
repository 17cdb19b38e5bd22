//! Acknowledgements: the state of a receiver.

use super::wire::{FrameError, Reader};

/// The largest number of ranges in the acknowledgement of one stream.
pub const MAX_RANGES: usize = 64;

/// What was received of one reliable stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamAck<'a> {
    /// Every fragment below this number was received.
    pub next: u64,
    ranges: &'a [u8],
}

impl StreamAck<'_> {
    /// Returns the ranges received above [`next`](Self::next): ascending, half-open and disjoint.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut reader = Reader::new(self.ranges);
        let mut end = self.next;
        // Reading the frame has validated the bytes.
        std::iter::from_fn(move || {
            let range = next_range(&mut reader, end).ok()?;
            end = range.1;
            Some(range)
        })
    }
}

fn next_range(reader: &mut Reader<'_>, end: u64) -> Result<(u64, u64), FrameError> {
    let overflow = FrameError::Invalid("range");
    let start = end.checked_add(reader.varint()?).and_then(|start| start.checked_add(1)).ok_or(overflow)?;
    let end = start.checked_add(reader.varint()?).and_then(|end| end.checked_add(1)).ok_or(overflow)?;
    Ok((start, end))
}

/// The state of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The bytes of reliable messages, with their overhead, that the receiver accepts since the start of the
    /// connection.
    pub grant: u64,
    /// The largest packet number received over the relay, and on the direct reliable lane. Zero means none.
    pub largest: [u64; 2],
    /// The state of `Reliable`, `ReliableUnordered` and signalling.
    pub streams: [StreamAck<'a>; 3],
}

/// Reads an acknowledgement that stands alone.
pub(crate) fn read_ack(bytes: &[u8]) -> Result<Ack<'_>, FrameError> {
    let mut reader = Reader::new(bytes);
    let ack = Ack::read(&mut reader)?;
    reader.finish().map(|()| ack)
}

impl<'a> Ack<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        let grant = reader.varint()?;
        let mask = reader.u8()?;
        if mask & !0b1_1111 != 0 {
            return Err(FrameError::Invalid("mask"));
        }
        let mut ack = Ack { grant, ..Default::default() };
        for (path, largest) in ack.largest.iter_mut().enumerate() {
            if mask & (0b1000 << path) != 0 {
                *largest = reader.varint()?;
            }
        }
        for (stream, state) in ack.streams.iter_mut().enumerate() {
            if mask & (1 << stream) != 0 {
                state.next = reader.varint()?;
                let count = reader.varint()?;
                if count > MAX_RANGES as u64 {
                    return Err(FrameError::Invalid("number of ranges"));
                }
                let start = reader.position();
                let mut end = state.next;
                for _ in 0..count {
                    end = next_range(reader, end)?.1;
                }
                state.ranges = reader.since(start);
            }
        }
        Ok(ack)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};
    use proptest::prelude::*;

    use super::{
        super::{Frame, Frames, PacketWriter, frames::ACK},
        *,
    };

    type StreamState = (u64, Vec<(u64, u64)>);

    fn state() -> impl Strategy<Value = StreamState> {
        let ranges = prop::collection::vec((1_u64..1 << 30, 1_u64..1 << 30), 0..MAX_RANGES);
        (0_u64..1 << 50, ranges).prop_map(|(next, ranges)| {
            let mut end = next;
            let ranges = ranges.into_iter().map(|(gap, len)| {
                let start = end + gap;
                end = start + len;
                (start, end)
            });
            (next, ranges.collect())
        })
    }

    proptest! {
        #[test]
        fn acknowledgements_survive_the_wire(
            grant in 0_u64..1 << 60,
            largest in any::<[u32; 2]>(),
            states in [state(), state(), state()],
        ) {
            let largest = largest.map(u64::from);
            let mut writer = PacketWriter::new(1, usize::MAX, 0);
            let [a, b, c] = &states;
            writer.ack(grant, largest, [(a.0, &a.1), (b.0, &b.1), (c.0, &c.1)]);
            let packet = writer.finish().unwrap();
            let mut frames = Frames::new(&packet).unwrap();
            let Some(Ok(Frame::Ack(ack))) = frames.next() else { panic!("{frames:?}") };
            prop_assert!(frames.next().is_none());
            prop_assert_eq!((ack.grant, ack.largest), (grant, largest));
            for (stream, (next, ranges)) in ack.streams.iter().zip(&states) {
                prop_assert_eq!(stream.next, *next);
                prop_assert_eq!(&stream.ranges().collect::<Vec<_>>(), ranges);
            }
        }
    }

    #[test]
    fn ranges_that_overflow_are_errors() {
        let mut packet = vec![1, ACK, 0, 1];
        packet.put_u64(u64::MAX);
        packet.put_u8(2);
        for _ in 0..4 {
            packet.put_u64(u64::MAX);
        }
        let packet = Bytes::from(packet);
        assert_eq!(Frames::new(&packet).unwrap().next(), Some(Err(FrameError::Invalid("range"))));
        let many = [&[1, ACK, 0, 1, 0, 0x40 + 1, 0][..], &[0; 600]].concat();
        let many = Bytes::from(many);
        assert_eq!(Frames::new(&many).unwrap().next(), Some(Err(FrameError::Invalid("number of ranges"))));
    }
}
