//! Channels and payloads of messages.

use bytes::Bytes;
use bytestring::ByteString;

/// The delivery guarantee of a message.
///
/// Between native peers, the guarantee of a channel holds for the life of the connection, whatever its paths do. A peer
/// of the original protocol has a single reliable, ordered channel: all messages use it, and arrive as
/// [`Reliable`](Channel::Reliable).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Delivers every message once, in the order of sending.
    #[default]
    Reliable,
    /// Delivers every message once, in the order of arrival.
    ReliableUnordered,
    /// Delivers a message at most once, and does not retransmit it. When a path is slow, these messages are dropped
    /// first.
    Unreliable,
    /// Like [`Unreliable`](Channel::Unreliable), and drops messages that are older than one already delivered.
    UnreliableSequenced,
}

impl Channel {
    /// All channels, in the order of their numbers on the wire.
    pub const ALL: [Channel; 4] =
        [Channel::Reliable, Channel::ReliableUnordered, Channel::Unreliable, Channel::UnreliableSequenced];

    /// Returns whether every message is delivered.
    pub fn is_reliable(self) -> bool {
        matches!(self, Channel::Reliable | Channel::ReliableUnordered)
    }
}

/// The content of a message: text or binary. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Text, which peers of the original protocol exchange.
    Text(ByteString),
    /// Bytes. The original protocol cannot carry them over a relay.
    Binary(Bytes),
}

impl Payload {
    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty. Empty messages are delivered like others.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Returns the bytes. For text, these are its UTF-8 encoding.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }

    /// Returns the text, if the message was sent as text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Payload::Text(text) => Some(text),
            Payload::Binary(_) => None,
        }
    }

    /// Returns the bytes without copying. For text, these are its UTF-8 encoding.
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
