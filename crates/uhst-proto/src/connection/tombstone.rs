//! Tombstones: what is kept of ended connections.

use bytes::Bytes;

use super::keys::LastingKeys;
use crate::protocol::{
    EndReason,
    frame::{
        self,
        handshake_packet::{self, ConnectionId, HandshakePacket},
    },
};

/// What a host keeps of an ended connection, to answer a client that comes back late or has not learned of the end.
#[derive(Clone, Debug)]
pub struct Tombstone {
    keys: LastingKeys,
    reason: EndReason,
}

impl Tombstone {
    pub(super) fn new(keys: LastingKeys, reason: EndReason) -> Self {
        Self { keys, reason }
    }

    /// Returns the id of the connection.
    pub fn id(&self) -> ConnectionId {
        self.keys.id
    }

    /// Returns why the connection ended.
    pub fn reason(&self) -> &EndReason {
        &self.reason
    }

    /// Returns the packet by which a host ends the connection for its client, without a resumption that it answers.
    pub(super) fn farewell(&self) -> Bytes {
        self.gone(handshake_packet::UNASKED)
    }

    fn gone(&self, counter: u64) -> Bytes {
        self.keys.control.seal(handshake_packet::gone(self.keys.id, counter), &frame::reason_bytes(&self.reason))
    }

    /// Returns the answer to a resumption or another packet of the client of this connection, to be sent back to its sender.
    /// Only that client can open it. `None` if it did not seal the resumption. The keys of other packets are gone.
    #[must_use]
    pub fn answer(&self, packet: &Bytes) -> Option<Bytes> {
        if packet.first() != Some(&0) {
            return Some(self.farewell());
        }
        let Ok(HandshakePacket::Resume { id, counter, sealed, .. }) = HandshakePacket::read(packet) else {
            return None;
        };
        let known = id == self.keys.id && self.keys.control.open(sealed).is_some();
        known.then(|| self.gone(counter))
    }
}
