//! Decisions from bytes.

/// Reads an input from the front. Behind its end everything is zero.
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// At most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Mostly a small number, sometimes any below 2^62.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            255 => (0..8).fold(0, |value, _| value << 8 | u64::from(self.u8())) >> 2,
            254 => u64::from(self.u16()),
            small => small.into(),
        }
    }

    /// The bytes up to the next of this value, which is consumed.
    pub fn until(&mut self, end: u8) -> &'a [u8] {
        let len = self.0.iter().position(|byte| *byte == end).unwrap_or(self.0.len());
        let taken = self.bytes(len);
        self.bytes(1);
        taken
    }
}
