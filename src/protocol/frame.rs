//! Packets and frames of the native dialect.
//!
//! A **packet** is what travels in one data-channel message or one POST. Numbers are QUIC's variable-length integers
//! (RFC 9000, section 16): the top two bits of the first byte tell the length, 1, 2, 4 or 8 bytes.
//!
//! ```text
//! packet   = number frame*              number: from 1, strictly increasing over all paths of the connection
//!          | 0x00 contact               first contact and resumption, see `contact`
//!
//! frame    = data | ack | ping | pong | close | close-ack | blocked
//! data     = 1SSS 0TFL  number  length  payload
//!            SSS: stream: 0 to 3 the channels in the order of `Channel::ALL`, 4 signalling
//!            T: text, F: first fragment of a message, L: last fragment of a message
//!            number: of the fragment, from 0 in each stream
//! ack      = 0x01  grant  mask  lane{mask bits 3, 4}  stream{mask bits 0, 1, 2}
//!            grant: how many bytes of reliable messages the receiver takes in total
//!            lane: the largest packet number received on the relay (bit 3), on the direct reliable lane (bit 4)
//!            stream: Reliable (bit 0), ReliableUnordered (bit 1), signalling (bit 2), each as
//!                    next  count  (gap length){count}
//!                    every number below `next` is here; each range starts `gap` + 1 above the end of the last and
//!                    has `length` + 1 numbers
//! ping     = 0x02  token
//! pong     = 0x03  token                the answer to a ping, on the same path
//! close    = 0x04  end{3}  reason       end: how many fragments were sent on the streams of an ack, in that order
//! reason   = code  length  text         text: UTF-8, at most 256 bytes
//! close-ack = 0x05
//! blocked  = 0x06                       the sender waits for a larger grant
//! ```
//!
//! Payloads are slices of the packet, never copies. Whatever the bytes are, reading ends in a value or an error, and
//! allocates nothing but the text of a reason.

pub mod contact;
mod reason;
pub(crate) mod wire;

use bytes::{BufMut, Bytes, BytesMut};

pub use contact::{Contact, refusal};
use wire::{Reader, put_varint, varint_len};

use super::{Channel, EndReason};

/// The payload of one fragment, at most: with its header and those of its packet it fits the 16 KiB which every
/// WebRTC stack takes.
pub const FRAGMENT: usize = 15 * 1024;

/// Ranges in the acknowledgement of one stream, at most.
pub const MAX_RANGES: usize = 64;

/// Packets or frames that do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end in the middle of something.
    #[error("a packet ends too early")]
    Truncated,
    /// A kind of frame that this version does not know.
    #[error("a frame of the unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A value outside its bounds.
    #[error("a frame with an invalid {0}")]
    Invalid(&'static str),
    /// A greeting in a version of the native dialect that this build does not speak.
    #[error("the other side speaks version {0} of the native dialect: update the older of the two games")]
    Version(u64),
}

/// What frames are numbered by: a channel, or the signalling of direct paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Messages of the game.
    Channel(Channel),
    /// Reliable and ordered, for offers, answers and candidates.
    Signal,
}

impl Stream {
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

/// One fragment of a message; a small message is one fragment, both first and last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Which number space it belongs to.
    pub stream: Stream,
    /// Its number there, from 0.
    pub number: u64,
    /// The message starts here.
    pub first: bool,
    /// The message ends here.
    pub last: bool,
    /// The message is text. Only whole messages are valid UTF-8, fragments may cut a character.
    pub text: bool,
    /// The bytes.
    pub payload: Bytes,
}

const TEXT: u8 = 0b100;
const FIRST: u8 = 0b010;
const LAST: u8 = 0b001;

impl Data {
    /// The length of this fragment in a packet.
    pub fn encoded_len(&self) -> usize {
        1 + varint_len(self.number) + varint_len(self.payload.len() as u64) + self.payload.len()
    }
}

/// What was received of one reliable stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamAck<'a> {
    /// Every number below is here.
    pub next: u64,
    ranges: &'a [u8],
}

impl StreamAck<'_> {
    /// What is here above [`next`](Self::next): ascending, half-open, disjoint.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut reader = Reader::new(self.ranges);
        let mut end = self.next;
        // The bytes were checked when the frame was read.
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
    /// How many bytes of reliable messages, with their overhead, it takes in total.
    pub grant: u64,
    /// The largest packet number received on the relay and on the direct reliable lane; 0: none yet.
    pub lanes: [u64; 2],
    /// `Reliable`, `ReliableUnordered`, signalling.
    pub streams: [StreamAck<'a>; 3],
}

impl<'a> Ack<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        let grant = reader.varint()?;
        let mask = reader.u8()?;
        if mask & !0b1_1111 != 0 {
            return Err(FrameError::Invalid("mask"));
        }
        let mut ack = Ack { grant, ..Default::default() };
        for (lane, largest) in ack.lanes.iter_mut().enumerate() {
            if mask & (0b1000 << lane) != 0 {
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

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// How many fragments were sent on `Reliable`, `ReliableUnordered` and signalling: they come before the end.
    pub ends: [u64; 3],
    /// Why.
    pub reason: EndReason,
}

/// One frame of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A fragment of a message.
    Data(Data),
    /// The state of the receiver.
    Ack(Ack<'a>),
    /// Asks for a [`Pong`](Frame::Pong) with the same token on the same path.
    Ping(u64),
    /// The answer to a [`Ping`](Frame::Ping).
    Pong(u64),
    /// The connection ends.
    Close(Close),
    /// The end was understood.
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

/// The frames of one packet, which is not one of first contact. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    packet: &'a Bytes,
    reader: Reader<'a>,
    number: u64,
    failed: bool,
}

impl<'a> Frames<'a> {
    /// Reads the packet's number; frames are read as they are asked for.
    pub fn new(packet: &'a Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(packet);
        let number = reader.varint()?;
        if number == 0 {
            return Err(FrameError::Invalid("packet number"));
        }
        Ok(Self { packet, reader, number, failed: false })
    }

    /// The number of the packet.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn read(&mut self) -> Result<Frame<'a>, FrameError> {
        let kind = self.reader.u8()?;
        if kind & 0x80 != 0 {
            let stream = Stream::from_index((kind >> 4) & 0b111).ok_or(FrameError::Invalid("stream"))?;
            if kind & 0b1000 != 0 {
                return Err(FrameError::UnknownKind(kind));
            }
            let number = self.reader.varint()?;
            let length = self.reader.length()?;
            let start = self.reader.position();
            self.reader.bytes(length)?;
            return Ok(Frame::Data(Data {
                stream,
                number,
                first: kind & FIRST != 0,
                last: kind & LAST != 0,
                text: kind & TEXT != 0,
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

/// Writes one packet. Nothing is allocated before the first frame.
#[derive(Debug)]
pub struct PacketWriter {
    out: BytesMut,
    number: u64,
    limit: usize,
    capacity: usize,
}

impl PacketWriter {
    /// A packet of at most `limit` bytes which will probably need `capacity`.
    pub fn new(number: u64, limit: usize, capacity: usize) -> Self {
        Self { out: BytesMut::new(), number, limit, capacity: capacity.min(limit) }
    }

    /// The number of the packet.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether no frame was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The bytes left.
    pub fn remaining(&self) -> usize {
        let used = if self.out.is_empty() { varint_len(self.number) } else { self.out.len() };
        self.limit.saturating_sub(used)
    }

    fn open(&mut self, len: usize) -> bool {
        if len > self.remaining() {
            return false;
        }
        if self.out.is_empty() {
            self.out.reserve(self.capacity.max(len + varint_len(self.number)));
            put_varint(&mut self.out, self.number);
        }
        true
    }

    /// Writes a fragment. `false`: it does not fit, and nothing was written.
    pub fn data(&mut self, data: &Data) -> bool {
        if !self.open(data.encoded_len()) {
            return false;
        }
        let flag = |set, bit| if set { bit } else { 0 };
        let flags = flag(data.first, FIRST) | flag(data.last, LAST) | flag(data.text, TEXT);
        self.out.put_u8(0x80 | (data.stream.index() << 4) | flags);
        put_varint(&mut self.out, data.number);
        put_varint(&mut self.out, data.payload.len() as u64);
        self.out.put_slice(&data.payload);
        true
    }

    /// Writes the state of a receiver, from its parts: the grant, the largest packet numbers of the lanes, and per
    /// stream the next number and at most [`MAX_RANGES`] ranges above it.
    pub fn ack(&mut self, grant: u64, lanes: [u64; 2], streams: [(u64, &[(u64, u64)]); 3]) -> bool {
        let len = 1 + ack_len(grant, lanes, streams);
        if !self.open(len) {
            return false;
        }
        self.out.put_u8(ACK);
        put_ack(&mut self.out, grant, lanes, streams);
        true
    }

    fn token(&mut self, kind: u8, token: u64) -> bool {
        if !self.open(1 + varint_len(token)) {
            return false;
        }
        self.out.put_u8(kind);
        put_varint(&mut self.out, token);
        true
    }

    /// Writes a ping.
    pub fn ping(&mut self, token: u64) -> bool {
        self.token(PING, token)
    }

    /// Writes a pong.
    pub fn pong(&mut self, token: u64) -> bool {
        self.token(PONG, token)
    }

    /// Writes the end.
    pub fn close(&mut self, close: &Close) -> bool {
        let ends: usize = close.ends.iter().map(|end| varint_len(*end)).sum();
        if !self.open(1 + ends + reason::len(&close.reason)) {
            return false;
        }
        self.out.put_u8(CLOSE);
        for end in close.ends {
            put_varint(&mut self.out, end);
        }
        reason::put(&mut self.out, &close.reason);
        true
    }

    fn bare(&mut self, kind: u8) -> bool {
        let fits = self.open(1);
        if fits {
            self.out.put_u8(kind);
        }
        fits
    }

    /// Writes that the end was understood.
    pub fn close_ack(&mut self) -> bool {
        self.bare(CLOSE_ACK)
    }

    /// Writes that we wait for a larger grant.
    pub fn blocked(&mut self) -> bool {
        self.bare(BLOCKED)
    }

    /// The packet; `None`: no frame was written, and the number is free for another packet.
    pub fn finish(self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.freeze())
    }
}

fn ack_len(grant: u64, lanes: [u64; 2], streams: [(u64, &[(u64, u64)]); 3]) -> usize {
    let mut len = varint_len(grant) + 1;
    len += lanes.iter().filter(|lane| **lane > 0).map(|lane| varint_len(*lane)).sum::<usize>();
    for (next, ranges) in streams {
        if next > 0 || !ranges.is_empty() {
            len += varint_len(next) + varint_len(ranges.len() as u64);
            let mut end = next;
            for (start, stop) in ranges {
                len += varint_len(start - end - 1) + varint_len(stop - start - 1);
                end = *stop;
            }
        }
    }
    len
}

/// Writes the body of an ack, which resumption carries too.
pub(crate) fn put_ack(out: &mut BytesMut, grant: u64, lanes: [u64; 2], streams: [(u64, &[(u64, u64)]); 3]) {
    let mut mask = 0;
    for (lane, largest) in lanes.iter().enumerate() {
        mask |= if *largest > 0 { 0b1000 << lane } else { 0 };
    }
    for (stream, (next, ranges)) in streams.iter().enumerate() {
        mask |= if *next > 0 || !ranges.is_empty() { 1 << stream } else { 0 };
    }
    put_varint(out, grant);
    out.put_u8(mask);
    for largest in lanes.into_iter().filter(|largest| *largest > 0) {
        put_varint(out, largest);
    }
    for (next, ranges) in streams {
        if next > 0 || !ranges.is_empty() {
            put_varint(out, next);
            put_varint(out, ranges.len() as u64);
            let mut end = next;
            for (start, stop) in ranges {
                put_varint(out, start - end - 1);
                put_varint(out, stop - start - 1);
                end = *stop;
            }
        }
    }
}
