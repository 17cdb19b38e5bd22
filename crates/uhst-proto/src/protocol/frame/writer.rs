//! Writing packets.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Close, Data,
    data::{FIRST, LAST, TAG, TEXT},
    frames::{ACK, BLOCKED, CLOSE, CLOSE_ACK, PING, PONG},
    reason,
    wire::{put_varint, varint_len},
};

/// Writes the frames of one packet. It allocates when the first frame is written. A method that writes a frame returns
/// `false` if the frame does not fit; nothing was written then.
#[derive(Debug)]
pub struct PacketWriter {
    out: BytesMut,
    number: u64,
    limit: usize,
    capacity: usize,
}

impl PacketWriter {
    /// Creates a packet of at most `limit` bytes that will probably need `capacity`.
    pub fn new(number: u64, limit: usize, capacity: usize) -> Self {
        Self { out: BytesMut::new(), number, limit, capacity: capacity.min(limit) }
    }

    /// Returns the number of the packet.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the largest size of the packet in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns whether no frame was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Returns how many bytes are left.
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

    /// Writes a fragment.
    pub fn data(&mut self, data: &Data) -> bool {
        if !self.open(data.encoded_len()) {
            return false;
        }
        let flag = |set, bit| if set { bit } else { 0 };
        let tag = data.tag_number();
        let flags = flag(data.first, FIRST) | flag(data.last, LAST) | flag(data.text, TEXT) | flag(tag.is_some(), TAG);
        self.out.put_u8(0x80 | (data.stream.index() << 4) | flags);
        put_varint(&mut self.out, data.number);
        if let Some(tag) = tag {
            put_varint(&mut self.out, tag);
        }
        put_varint(&mut self.out, data.payload.len() as u64);
        self.out.put_slice(&data.payload);
        true
    }

    /// Writes an acknowledgement: the grant, the largest packet number received on each path, and for each stream the
    /// next number and at most [`MAX_RANGES`](super::MAX_RANGES) ranges above it.
    pub fn ack(&mut self, grant: u64, largest: [u64; 2], streams: [(u64, &[(u64, u64)]); 3]) -> bool {
        let len = 1 + ack_len(grant, largest, streams);
        if !self.open(len) {
            return false;
        }
        self.out.put_u8(ACK);
        put_ack(&mut self.out, grant, largest, streams);
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

    /// Writes a close.
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

    /// Writes the confirmation of a close.
    pub fn close_ack(&mut self) -> bool {
        self.bare(CLOSE_ACK)
    }

    /// Writes that this side waits for a larger grant.
    pub fn blocked(&mut self) -> bool {
        self.bare(BLOCKED)
    }

    /// Returns the packet. `None` if no frame was written; the number may be used for another packet then.
    #[must_use]
    pub fn finish(self) -> Option<Bytes> {
        self.finish_mut().map(BytesMut::freeze)
    }

    /// Returns the packet as [`finish`](Self::finish) does, to be sealed in place.
    pub(crate) fn finish_mut(self) -> Option<BytesMut> {
        (!self.out.is_empty()).then_some(self.out)
    }
}

fn ack_len(grant: u64, largest: [u64; 2], streams: [(u64, &[(u64, u64)]); 3]) -> usize {
    let mut len = varint_len(grant) + 1;
    len += largest.iter().filter(|number| **number > 0).map(|number| varint_len(*number)).sum::<usize>();
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

/// Writes the body of an acknowledgement, which resumptions carry too.
pub(crate) fn put_ack(out: &mut BytesMut, grant: u64, largest: [u64; 2], streams: [(u64, &[(u64, u64)]); 3]) {
    let mut mask = 0;
    for (path, largest) in largest.iter().enumerate() {
        mask |= if *largest > 0 { 0b1000 << path } else { 0 };
    }
    for (stream, (next, ranges)) in streams.iter().enumerate() {
        mask |= if *next > 0 || !ranges.is_empty() { 1 << stream } else { 0 };
    }
    put_varint(out, grant);
    out.put_u8(mask);
    for largest in largest.into_iter().filter(|largest| *largest > 0) {
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
