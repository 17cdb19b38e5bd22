//! Reading the frames of a packet.

use bytes::Bytes;

use super::{
    Ack, Data, Stream,
    data::{FIRST, LAST, TAG, TEXT},
    reason,
    wire::{FrameError, Reader},
};
use crate::protocol::{EndReason, Tag};

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The number of fragments sent on `Reliable`, `ReliableUnordered` and signalling before the close.
    pub ends: [u64; 3],
    /// Why the connection ended.
    pub reason: EndReason,
}

/// One frame of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A fragment of a message.
    Data(Data),
    /// An acknowledgement.
    Ack(Ack<'a>),
    /// Requests a [`Pong`](Frame::Pong) with the same token on the same path.
    Ping(u64),
    /// The answer to a [`Ping`](Frame::Ping).
    Pong(u64),
    /// Closes the connection.
    Close(Close),
    /// Confirms a close.
    CloseAck,
    /// The sender waits for a larger grant.
    Blocked,
}

pub(super) const ACK: u8 = 1;
pub(super) const PING: u8 = 2;
pub(super) const PONG: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const CLOSE_ACK: u8 = 5;
pub(super) const BLOCKED: u8 = 6;

/// Iterates over the frames of one packet that is not a handshake packet. It ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    packet: &'a Bytes,
    reader: Reader<'a>,
    number: u64,
    failed: bool,
}

/// Returns the number of a packet and the length of its encoding. `None` if it has no number, or is a handshake packet.
pub(crate) fn packet_number(packet: &[u8]) -> Option<(u64, usize)> {
    let mut reader = Reader::new(packet);
    let number = reader.varint().ok().filter(|number| *number > 0)?;
    Some((number, reader.position()))
}

impl<'a> Frames<'a> {
    /// Reads the number of the packet. Frames are decoded during iteration.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if the packet has no number, or is a handshake packet.
    pub fn new(packet: &'a Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(packet);
        let number = reader.varint()?;
        if number == 0 {
            return Err(FrameError::Invalid("packet number"));
        }
        Ok(Self { packet, reader, number, failed: false })
    }

    /// Returns the number of the packet.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn read(&mut self) -> Result<Frame<'a>, FrameError> {
        let kind = self.reader.u8()?;
        if kind & 0x80 != 0 {
            let stream = Stream::from_index((kind >> 4) & 0b111).ok_or(FrameError::Invalid("stream"))?;
            let number = self.reader.varint()?;
            let tag = match kind & TAG {
                0 => Tag::Untyped,
                _ => tag(&mut self.reader, stream, kind & FIRST != 0)?,
            };
            let length = self.reader.length()?;
            let start = self.reader.position();
            self.reader.bytes(length)?;
            return Ok(Frame::Data(Data {
                stream,
                number,
                first: kind & FIRST != 0,
                last: kind & LAST != 0,
                text: kind & TEXT != 0,
                tag,
                payload: self.packet.slice(start..start + length),
            }));
        }
        Ok(match kind {
            ACK => Frame::Ack(Ack::read(&mut self.reader)?),
            PING => Frame::Ping(self.reader.varint()?),
            PONG => Frame::Pong(self.reader.varint()?),
            CLOSE => {
                let mut ends = [0; 3];
                for end in &mut ends {
                    *end = self.reader.varint()?;
                }
                Frame::Close(Close { ends, reason: reason::read(&mut self.reader)? })
            }
            CLOSE_ACK => Frame::CloseAck,
            BLOCKED => Frame::Blocked,
            kind => return Err(FrameError::UnknownKind(kind)),
        })
    }
}

fn tag(reader: &mut Reader<'_>, stream: Stream, first: bool) -> Result<Tag, FrameError> {
    let number = reader.varint()?;
    let tag = if first && stream != Stream::Signal { Tag::from_number(number) } else { None };
    tag.ok_or(FrameError::Invalid("tag"))
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let frame = self.read();
        self.failed = frame.is_err();
        Some(frame)
    }
}

/// Returns the close in a packet.
pub(crate) fn find_close(packet: &Bytes) -> Option<Close> {
    Frames::new(packet).ok()?.find_map(|frame| match frame {
        Ok(Frame::Close(close)) => Some(close),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{MAX_RANGES, PacketWriter, handshake_packet::HandshakePacket},
        *,
    };
    use crate::protocol::Channel;

    fn stream() -> impl Strategy<Value = Stream> {
        (0_u8..5).prop_map(|index| Stream::from_index(index).unwrap())
    }

    fn any_tag() -> impl Strategy<Value = Tag> {
        prop_oneof![Just(Tag::Untyped), any::<u16>().prop_map(Tag::Typed), any::<u16>().prop_map(Tag::Replication)]
    }

    fn data() -> impl Strategy<Value = Data> {
        let payload = prop::collection::vec(any::<u8>(), 0..200);
        (stream(), 0_u64..1 << 60, any::<[bool; 3]>(), any_tag(), payload).prop_map(
            |(stream, number, [first, last, text], tag, payload)| Data {
                stream,
                number,
                first,
                last,
                text,
                tag: if first && stream != Stream::Signal { tag } else { Tag::Untyped },
                payload: payload.into(),
            },
        )
    }

    fn read(packet: &Bytes) -> Vec<Frame<'_>> {
        Frames::new(packet).unwrap().map(|frame| frame.unwrap()).collect()
    }

    proptest! {
        #[test]
        fn fragments_survive_the_wire(fragments in prop::collection::vec(data(), 0..20), number in 1_u64..1 << 61) {
            let mut writer = PacketWriter::new(number, usize::MAX, 0);
            for data in &fragments {
                prop_assert!(writer.data(data));
            }
            let Some(packet) = writer.finish() else {
                prop_assert!(fragments.is_empty());
                return Ok(());
            };
            prop_assert_eq!(Frames::new(&packet).unwrap().number(), number);
            let expected: Vec<_> = fragments.into_iter().map(Frame::Data).collect();
            prop_assert_eq!(read(&packet), expected);
        }

        #[test]
        fn a_packet_keeps_its_limit(fragments in prop::collection::vec(data(), 1..20), limit in 0_usize..1000) {
            let mut writer = PacketWriter::new(77, limit, 1000);
            let mut written = 0;
            for data in &fragments {
                written += usize::from(writer.data(data));
                writer.ping(1 << 40);
                writer.close(&Close { ends: [1; 3], reason: EndReason::Kicked("x".repeat(100)) });
            }
            let packet = writer.finish().unwrap_or_default();
            prop_assert!(packet.len() <= limit);
            if !packet.is_empty() {
                let data = |frame: &Frame<'_>| matches!(frame, Frame::Data(_));
                prop_assert_eq!(read(&packet).iter().filter(|frame| data(frame)).count(), written);
            }
        }

        #[test]
        fn any_bytes_end_in_frames_or_one_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let packet = Bytes::from(bytes);
            if let Ok(frames) = Frames::new(&packet) {
                let mut failed = false;
                for frame in frames {
                    prop_assert!(!failed);
                    match frame {
                        Ok(Frame::Ack(ack)) => for stream in ack.streams {
                            prop_assert!(stream.ranges().count() <= MAX_RANGES);
                        },
                        Ok(_) => {}
                        Err(_) => failed = true,
                    }
                }
            }
            let _ = HandshakePacket::read(&packet);
            let mut first_contact = vec![0];
            first_contact.extend_from_slice(&packet);
            let _ = HandshakePacket::read(&Bytes::from(first_contact));
        }
    }

    #[test]
    fn payloads_are_slices_of_the_packet() {
        let mut writer = PacketWriter::new(1, 1000, 0);
        let stream = Stream::Channel(Channel::Reliable);
        let payload = Bytes::from_static(b"hello");
        writer.data(&Data { stream, number: 0, first: true, last: true, text: true, tag: Tag::Untyped, payload });
        let packet = writer.finish().unwrap();
        let Some(Ok(Frame::Data(data))) = Frames::new(&packet).unwrap().next() else { panic!() };
        assert!(packet.as_ptr_range().contains(&data.payload.as_ptr()));
    }

    #[test]
    fn a_small_message_costs_a_few_bytes() {
        let stream = Stream::Channel(Channel::Reliable);
        let payload = Bytes::from_static(&[0; 60]);
        let data = |tag| {
            let payload = payload.clone();
            Data { stream, number: 10_000, first: true, last: true, text: false, tag, payload }
        };
        assert_eq!(data(Tag::Untyped).encoded_len(), 60 + 4);
        assert_eq!(data(Tag::Typed(30)).encoded_len(), 60 + 5);
    }

    #[test]
    fn a_tag_outside_its_bounds_or_its_place_is_an_error() {
        let first = 0x80 | TAG | FIRST | LAST;
        let read = |bytes: &[u8]| {
            let packet = Bytes::copy_from_slice(bytes);
            let frame = Frames::new(&packet).unwrap().next().unwrap();
            frame.map(|frame| if let Frame::Data(data) = frame { data.tag } else { panic!("{frame:?}") })
        };
        assert_eq!(read(&[1, first, 0, 1, 0]), Ok(Tag::Typed(0)));
        let number = [1, first, 0, 0, 0];
        let too_large = [1, first, 0, 0x80, 2, 0, 1, 0];
        let not_first = [1, first & !FIRST, 0, 1, 0];
        let signal = [1, first | 4 << 4, 0, 1, 0];
        for bytes in [&number[..], &too_large, &not_first, &signal] {
            assert_eq!(read(bytes), Err(FrameError::Invalid("tag")), "{bytes:?}");
        }
        assert_eq!(read(&[1, first, 0]), Err(FrameError::Truncated));
    }
}
