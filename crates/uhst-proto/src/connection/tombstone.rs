//! Tombstones: what is kept of ended connections.

use bytes::Bytes;

use super::{handshake::SharedSecret, keys::Key};
use crate::protocol::{
    EndReason,
    frame::handshake_packet::{self, ConnectionId, HandshakePacket},
};

/// What a side keeps of an ended connection, to answer a peer that comes back late.
#[derive(Clone, Debug)]
pub struct Tombstone {
    id: ConnectionId,
    key: Key,
    reason: EndReason,
}

impl Tombstone {
    pub(super) fn new(secret: &SharedSecret, reason: EndReason) -> Self {
        Self { id: secret.id, key: secret.key.clone(), reason }
    }

    /// Returns the id of the connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns why the connection ended.
    pub fn reason(&self) -> &EndReason {
        &self.reason
    }

    /// Returns the packet by which a host that is about to vanish ends the connection for its client. Such a host cannot
    /// answer a resumption any more.
    pub(super) fn farewell(&self) -> Bytes {
        self.key.seal(&[], handshake_packet::gone(self.id, handshake_packet::UNASKED, &self.reason))
    }

    /// Returns the answer to a resumption of this connection, to be sent back to its sender. `None` if the packet is
    /// something else, or has no valid MAC.
    #[must_use]
    pub fn answer(&self, packet: &Bytes) -> Option<Bytes> {
        let Ok(HandshakePacket::Resume { id, counter, .. }) = HandshakePacket::read(packet) else { return None };
        let known = id == self.id && self.key.opens(&[], packet);
        known.then(|| self.key.seal(&[], handshake_packet::gone(id, counter, &self.reason)))
    }
}
