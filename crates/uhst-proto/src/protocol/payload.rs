//! What a game sends: a payload, and the promise it travels under.

use bytes::Bytes;
use bytestring::ByteString;

/// The promise under which a message travels to one peer.
///
/// Between two native peers each promise holds for the life of the connection, whatever its paths do. A peer of the
/// original protocol has one ordered, reliable channel: there, every message travels on it and arrives as
/// [`Reliable`](Channel::Reliable).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Every message once, in the order it was sent.
    #[default]
    Reliable,
    /// Every message once, as it arrives.
    ReliableUnordered,
    /// At most once, never late by resending. The first to be dropped when a path is slow.
    Unreliable,
    /// As [`Unreliable`](Channel::Unreliable), and an older message never follows a newer one.
    UnreliableSequenced,
}

impl Channel {
    /// Every channel, in the order of its number on the wire.
    pub const ALL: [Channel; 4] =
        [Channel::Reliable, Channel::ReliableUnordered, Channel::Unreliable, Channel::UnreliableSequenced];

    /// Whether every message arrives.
    pub fn is_reliable(self) -> bool {
        matches!(self, Channel::Reliable | Channel::ReliableUnordered)
    }
}

/// The content of a message: text or binary. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Text, what peers of the original protocol exchange.
    Text(ByteString),
    /// Bytes. The original protocol cannot carry them over a relay.
    Binary(Bytes),
}

impl Payload {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has no bytes. Empty messages are delivered like any other.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The bytes; of text, its UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }

    /// The text, if it was sent as text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Payload::Text(text) => Some(text),
            Payload::Binary(_) => None,
        }
    }

    /// The bytes, shared, not copied; of text, its UTF-8.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Payload::Text(text) => text.into_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Payload::Text(text.into())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Payload::Text(text.into())
    }
}

impl From<ByteString> for Payload {
    fn from(text: ByteString) -> Self {
        Payload::Text(text)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload::Binary(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::Binary(bytes.into())
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Payload::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Payload {
    fn from(bytes: [u8; N]) -> Self {
        Payload::Binary(Bytes::copy_from_slice(&bytes))
    }
}
