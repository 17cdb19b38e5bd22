//! Fragments of messages, and the streams that number them.

use bytes::Bytes;

use super::wire::varint_len;
use crate::protocol::{Channel, Tag};

/// The largest payload of a fragment. With its header and that of its packet it fits into 16 KiB, which every WebRTC
/// stack takes.
pub const FRAGMENT: usize = 15 * 1024;

/// The smallest payload of a fragment, except for the last one of a message. It bounds the number of fragments of a
/// message.
pub(crate) const MIN_FRAGMENT: usize = 1 << 10;

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

    pub(super) const fn index(self) -> u8 {
        match self {
            Stream::Channel(Channel::Reliable) => 0,
            Stream::Channel(Channel::ReliableUnordered) => 1,
            Stream::Channel(Channel::Unreliable) => 2,
            Stream::Channel(Channel::UnreliableSequenced) => 3,
            Stream::Signal => 4,
        }
    }

    pub(super) const fn from_index(index: u8) -> Option<Self> {
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

pub(super) const TAG: u8 = 0b1000;
pub(super) const TEXT: u8 = 0b100;
pub(super) const FIRST: u8 = 0b010;
pub(super) const LAST: u8 = 0b001;

impl Data {
    /// Returns the length of this fragment in a packet.
    pub fn encoded_len(&self) -> usize {
        let tag = self.tag_number().map_or(0, varint_len);
        1 + varint_len(self.number) + tag + varint_len(self.payload.len() as u64) + self.payload.len()
    }

    /// The tag as it is encoded.
    pub(super) const fn tag_number(&self) -> Option<u64> {
        match self.stream {
            Stream::Channel(_) if self.first => self.tag.number(),
            _ => None,
        }
    }
}
