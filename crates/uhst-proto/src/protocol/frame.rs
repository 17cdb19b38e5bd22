//! Packets and frames of the native dialect.
//!
//! A **packet** is the content of one data-channel message or one POST. Numbers are variable-length integers of QUIC
//! (RFC 9000, section 16): the top two bits of the first byte give the length of 1, 2, 4 or 8 bytes.
//!
//! ```text
//! packet   = number frame*              number: from 1, strictly increasing over all paths of the connection
//!          | 0x00 handshake             a handshake or resumption packet, see `handshake_packet`
//!
//! frame    = data | ack | ping | pong | close | close-ack | blocked
//! data     = 1SSS GTFL  number  tag{G}  length  payload
//!            SSS: the stream: 0 to 3 are the channels in the order of `Channel::ALL`, 4 is signalling
//!            G: a tag follows; T: text; F: first fragment of a message; L: last fragment of a message
//!            number: the number of the fragment, from 0 in each stream
//!            tag: the receiver within the game, only on the first fragment, never on signalling:
//!                 1, 3, 5 to 131,071: a type; 2, 4, 6 to 131,072: a channel of the replication; none: untyped
//! ack      = 0x01  grant  mask  largest{mask bits 3, 4}  stream{mask bits 0, 1, 2}
//!            grant: the bytes of reliable messages that the receiver accepts since the start of the connection
//!            largest: the largest packet number received over the relay (bit 3), on the direct reliable lane (bit 4)
//!            stream: Reliable (bit 0), ReliableUnordered (bit 1), signalling (bit 2), each as
//!                    next  count  (gap length){count}
//!                    every number below `next` was received; each range starts `gap` + 1 above the end of the last
//!                    and has `length` + 1 numbers
//! ping     = 0x02  token                0: requests only the acknowledgement of the reliable lane
//!                                       2^61 and above: bits 24 to 55 are the fragments of `Unreliable` and
//!                                       `UnreliableSequenced` that the sender has missed so far (gaps in their numbers
//!                                       that last a second or longer), modulo 2^32; bits 0 to 23 number the ping
//!                                       others: the number of the ping
//! pong     = 0x03  token                the answer to a ping, on the same path
//! close    = 0x04  end{3}  reason       end: the number of fragments sent on each stream of an ack, in that order
//! reason   = code  length  text         text: UTF-8, at most 256 bytes
//! close-ack = 0x05
//! blocked  = 0x06                       the sender waits for a larger grant
//! ```
//!
//! Payloads are slices of the packet, not copies. Any input yields values or an error. Reading allocates only the text
//! of a reason.

mod ack;
pub mod handshake_packet;
pub(crate) mod ping_token;
mod reason;
pub(crate) mod wire;
mod writer;

use bytes::Bytes;

pub use ack::{Ack, MAX_RANGES, StreamAck};
pub use handshake_packet::{HandshakeKind, refusal, unknown};
use wire::{Reader, varint_len};
pub use writer::PacketWriter;
pub(crate) use writer::put_ack;

use super::{Channel, EndReason, Tag};

/// Returns the close in a packet.
pub(crate) fn find_close(packet: &Bytes) -> Option<Close> {
    Frames::new(packet).ok()?.find_map(|frame| match frame {
        Ok(Frame::Close(close)) => Some(close),
        _ => None,
    })
}

/// Returns the confirmation of a close in the packet, for a sender whose connection has already ended. `None` if the
/// packet carries no close.
#[must_use]
pub fn close_ack_for(packet: &Bytes) -> Option<Bytes> {
    find_close(packet)?;
    let mut writer = PacketWriter::new(1, 64, 0);
    writer.close_ack();
    writer.finish()
}

/// The largest payload of a fragment. With its header and that of its packet it fits into 16 KiB, which every WebRTC
/// stack takes.
pub const FRAGMENT: usize = 15 * 1024;

/// The smallest payload of a fragment, except for the last one of a message. It bounds the number of fragments of a
/// message.
pub(crate) const MIN_FRAGMENT: usize = 1 << 10;

/// A packet or frame that violates the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end within a value.
    #[error("a packet ends too early")]
    Truncated,
    /// The kind of the frame is unknown to this version.
    #[error("a frame of the unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A value is out of range.
    #[error("a frame with an invalid {0}")]
    Invalid(&'static str),
    /// The hello has a version of the native dialect that this build does not support.
    #[error("the other side speaks version {0} of the native dialect: update the older of the two games")]
    Version(u64),
}

/// A number space for fragments: a channel, or the signalling of direct paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Messages of the game.
    Channel(Channel),
    /// Offers, answers and candidates, reliable and ordered.
    Signal,
}

impl Stream {
    /// Whether fragments are acknowledged, and sent again if they are lost.
    pub(crate) fn is_reliable(self) -> bool {
        match self {
            Stream::Channel(channel) => channel.is_reliable(),
            Stream::Signal => true,
        }
    }

    const fn index(self) -> u8 {
        match self {
            Stream::Channel(Channel::Reliable) => 0,
            Stream::Channel(Channel::ReliableUnordered) => 1,
            Stream::Channel(Channel::Unreliable) => 2,
            Stream::Channel(Channel::UnreliableSequenced) => 3,
            Stream::Signal => 4,
        }
    }

    const fn from_index(index: u8) -> Option<Self> {
        Some(match index {
            0 => Stream::Channel(Channel::Reliable),
            1 => Stream::Channel(Channel::ReliableUnordered),
            2 => Stream::Channel(Channel::Unreliable),
            3 => Stream::Channel(Channel::UnreliableSequenced),
            4 => Stream::Signal,
            _ => return None,
        })
    }
}

/// One fragment of a message. A small message is one fragment, which is both the first and the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The number space of the fragment.
    pub stream: Stream,
    /// The number of the fragment in its stream, from 0.
    pub number: u64,
    /// Whether the message starts here.
    pub first: bool,
    /// Whether the message ends here.
    pub last: bool,
    /// Whether the message is text. Only the complete message is valid UTF-8: fragments may split a character.
    pub text: bool,
    /// The receiver of the message within the game. Only the first fragment carries it, and signals never do.
    pub tag: Tag,
    /// The payload.
    pub payload: Bytes,
}

const TAG: u8 = 0b1000;
const TEXT: u8 = 0b100;
const FIRST: u8 = 0b010;
const LAST: u8 = 0b001;

impl Data {
    /// Returns the length of this fragment in a packet.
    pub fn encoded_len(&self) -> usize {
        let tag = self.tag_number().map_or(0, varint_len);
        1 + varint_len(self.number) + tag + varint_len(self.payload.len() as u64) + self.payload.len()
    }

    /// The tag as it is encoded.
    const fn tag_number(&self) -> Option<u64> {
        match self.stream {
            Stream::Channel(_) if self.first => self.tag.number(),
            _ => None,
        }
    }
}

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

const ACK: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const CLOSE: u8 = 4;
const CLOSE_ACK: u8 = 5;
const BLOCKED: u8 = 6;

/// Iterates over the frames of one packet that is not a handshake packet. It ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    packet: &'a Bytes,
    reader: Reader<'a>,
    number: u64,
    failed: bool,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            let _ = handshake_packet::HandshakePacket::read(&packet);
            let mut first_contact = vec![0];
            first_contact.extend_from_slice(&packet);
            let _ = handshake_packet::HandshakePacket::read(&Bytes::from(first_contact));
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
