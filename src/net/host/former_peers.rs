//! What a host remembers of peers that have ended. All lists are bounded; the oldest entry goes first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    connection::{ConnectionId, Tombstone},
    protocol::frame::HandshakeKind,
};

/// The capacity of the block list.
const BLOCKED: usize = 256;
/// How many ended connections are remembered, and how many client ids.
const REMEMBERED: usize = 256;

/// The peers that have ended.
#[derive(Default)]
pub(super) struct FormerPeers {
    /// Ended connections, to answer late packets of their peers.
    tombstones: VecDeque<Tombstone>,
    /// Client ids of native peers that have ended or continue under another id, and the connection that has ended. Late
    /// packets may still arrive from them.
    clients: VecDeque<(String, Option<ConnectionId>)>,
    /// Client ids of originals that were disconnected, and may not connect again until their stream closes.
    block_list: VecDeque<String>,
}

impl FormerPeers {
    pub fn remember_connection(&mut self, tombstone: Tombstone) {
        push(&mut self.tombstones, tombstone, REMEMBERED);
    }

    pub fn remember_client(&mut self, client: String, ended: Option<ConnectionId>) {
        push(&mut self.clients, (client, ended), REMEMBERED);
    }

    /// Whether a native peer had this client id.
    pub fn has_client(&self, client: &str) -> bool {
        self.clients.iter().any(|(former, _)| former == client)
    }

    /// The answer to a packet that resumes an ended connection.
    pub fn answer(&self, packet: &Bytes) -> Option<Bytes> {
        let HandshakeKind::Resume(id) = HandshakeKind::peek(packet) else { return None };
        self.answer_as(id, packet)
    }

    /// The answer to another packet of this client's ended connection.
    pub fn answer_client(&self, client: &str, packet: &Bytes) -> Option<Bytes> {
        let (_, ended) = self.clients.iter().find(|(former, _)| former == client)?;
        self.answer_as((*ended)?, packet)
    }

    fn answer_as(&self, id: ConnectionId, packet: &Bytes) -> Option<Bytes> {
        self.tombstones.iter().find(|tombstone| tombstone.id() == id)?.answer(packet)
    }

    pub fn block(&mut self, client: String) {
        push(&mut self.block_list, client, BLOCKED);
    }

    pub fn unblock(&mut self, client: &str) {
        self.block_list.retain(|blocked| blocked != client);
    }

    pub fn is_blocked(&self, client: &str) -> bool {
        self.block_list.iter().any(|blocked| blocked == client)
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, capacity: usize) {
    list.truncate(capacity - 1);
    list.push_front(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_bounded_and_forget_the_oldest() {
        let mut former = FormerPeers::default();
        for number in 0..=BLOCKED {
            former.block(number.to_string());
            former.remember_client(number.to_string(), None);
        }
        assert!(!former.is_blocked("0") && former.is_blocked("1") && former.is_blocked(&BLOCKED.to_string()));
        assert!(!former.has_client("0") && former.has_client("1"));
        former.unblock("1");
        assert!(!former.is_blocked("1") && former.is_blocked("2"));
    }
}
