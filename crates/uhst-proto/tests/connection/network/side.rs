//! One side of a simulated network, and what its game expects.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use uhst_proto::connection::{Connection, Lane, Path, Timestamp};
use uhst_proto::protocol::{Channel, EndReason, Tag};

/// An input of a side, in the order of arrival. A suspended side processes it later.
pub enum Input {
    Packet(Lane, u32, Bytes),
    Up(Path),
    Down(Path),
}

/// One side and its game.
pub struct Side {
    pub connection: Connection,
    pub reliable: VecDeque<(Tag, Bytes)>,
    pub unordered: HashMap<(Tag, Bytes), usize>,
    pub unreliable: HashMap<(Tag, Bytes), usize>,
    pub sequenced: HashMap<(Tag, Bytes), usize>,
    pub signals: VecDeque<Bytes>,
    pub newest: Option<u32>,
    pub unread: usize,
    pub lazy_until: Timestamp,
    pub asleep_until: Timestamp,
    pub inbox: VecDeque<Input>,
    pub route: u32,
    pub closed: Vec<EndReason>,
    pub interrupted: bool,
    pub interruptions: usize,
    pub asked: bool,
    pub connected: bool,
    pub cut: bool,
}

impl Side {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            reliable: VecDeque::new(),
            unordered: HashMap::new(),
            unreliable: HashMap::new(),
            sequenced: HashMap::new(),
            signals: VecDeque::new(),
            newest: None,
            unread: 0,
            lazy_until: Timestamp::ZERO,
            asleep_until: Timestamp::ZERO,
            inbox: VecDeque::new(),
            route: 0,
            closed: Vec::new(),
            interrupted: false,
            interruptions: 0,
            asked: false,
            connected: false,
            cut: false,
        }
    }

    /// Checks a message against the guarantee of its channel.
    pub fn take(&mut self, channel: Channel, message: (Tag, Bytes)) {
        let known = match channel {
            Channel::Reliable => {
                assert_eq!(Some(&message), self.reliable.front(), "lost, duplicated or out of order");
                self.reliable.pop_front();
                return;
            }
            Channel::ReliableUnordered => &mut self.unordered,
            Channel::Unreliable => &mut self.unreliable,
            Channel::UnreliableSequenced => {
                if let Some(id) = message.1.first_chunk().map(|id| u32::from_le_bytes(*id)) {
                    assert!(self.newest.is_none_or(|newest| newest < id), "older after newer");
                    self.newest = Some(id);
                }
                &mut self.sequenced
            }
        };
        let left = known.get_mut(&message).expect("the message was sent");
        *left = left.checked_sub(1).expect("the message arrives once");
    }
}
