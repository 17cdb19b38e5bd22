//! Reading and writing of numbers and byte strings, and the error of packets that cannot be read.

use bytes::{BufMut, BytesMut};

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

/// The encoded length of a number.
pub(crate) const fn varint_len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Writes a number. It must be below 2^62, which no counter of a connection reaches.
pub(crate) fn put_varint(out: &mut BytesMut, value: u64) {
    match varint_len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value.min((1 << 62) - 1) | 0xC000_0000_0000_0000),
    }
}

/// Writes a length and the bytes.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Reads values from a byte slice, front to back.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(&self) -> Result<(), FrameError> {
        if self.is_empty() { Ok(()) } else { Err(FrameError::Invalid("length")) }
    }

    /// The bytes that were read, and those that are left.
    pub(crate) fn split(&self) -> (&'a [u8], &'a [u8]) {
        self.bytes.split_at(self.at)
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The bytes that were read since an earlier position.
    pub(crate) fn since(&self, position: usize) -> &'a [u8] {
        &self.bytes[position..self.at]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let end = self.at.checked_add(len).ok_or(FrameError::Truncated)?;
        let bytes = self.bytes.get(self.at..end).ok_or(FrameError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.bytes(N)?.try_into().map_err(|_| FrameError::Truncated)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        let byte = *self.bytes.get(self.at).ok_or(FrameError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, FrameError> {
        let first = self.u8()?;
        let mut value = u64::from(first & 0x3F);
        for byte in self.bytes((1 << (first >> 6)) - 1)? {
            value = (value << 8) | u64::from(*byte);
        }
        Ok(value)
    }

    /// Reads a length, and checks that so many bytes follow.
    pub(crate) fn length(&mut self) -> Result<usize, FrameError> {
        let length = usize::try_from(self.varint()?).map_err(|_| FrameError::Truncated)?;
        if length > self.bytes.len() - self.at { Err(FrameError::Truncated) } else { Ok(length) }
    }

    /// Reads a length of at most `max`, and the bytes.
    pub(crate) fn bounded(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], FrameError> {
        let length = self.length()?;
        if length > max {
            return Err(FrameError::Invalid(what));
        }
        self.bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_wire_in_their_length() {
        for value in [0, 1, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Reader::new(&out).varint(), Ok(value));
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_and_allocates_nothing() {
        let mut out = BytesMut::new();
        put_varint(&mut out, 1 << 40);
        assert_eq!(Reader::new(&out).length(), Err(FrameError::Truncated));
    }
}
