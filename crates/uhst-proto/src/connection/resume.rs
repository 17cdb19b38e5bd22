//! Resumption on a new route: both sides prove that they know the secret of the connection.

use bytes::{Bytes, BytesMut};

use super::{
    ResumeError,
    handshake::Retry,
    keys::{Key, Random},
};
use crate::protocol::{
    EndReason,
    frame::{
        Ack,
        handshake_packet::{self, ConnectionId, HandshakePacket},
    },
};

/// The state of a client that is resuming.
#[derive(Debug)]
pub(super) struct Resuming {
    pub(super) counter: u64,
    pub(super) nonce: [u8; 16],
    pub(super) retry: Retry,
    pub(super) tries: u32,
}

impl Resuming {
    pub(super) fn new(counter: u64) -> Self {
        Self { counter, nonce: [0; 16], retry: Retry::new(), tries: 0 }
    }
}

/// The state of a host that rejects replayed resumptions.
pub(super) struct ReplayGuard {
    random: Random,
    /// The nonce that the next resumption must carry.
    nonce: [u8; 16],
    /// The largest counter that was seen.
    counter: u64,
    /// The counter of the last resumption that was accepted.
    taken: u64,
    /// The nonce of that resumption. Its copies are answered until the client shows that it has the answer.
    copy: Option<[u8; 16]>,
    /// The number of the next packet when it was accepted. The client accepts packets from this number on only after it
    /// has the answer. Packets with lower numbers may still be in flight.
    answered_at: u64,
}

impl core::fmt::Debug for ReplayGuard {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ReplayGuard").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl ReplayGuard {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let mut random = Random::new(seed, b"resume");
        let nonce = random.array();
        Self { random, nonce, counter: 0, taken: 0, copy: None, answered_at: 0 }
    }

    /// The largest counter that came with a valid MAC.
    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    /// Checks whether a packet resumes the connection. Returns its counter and the client's acknowledgement.
    /// `next_packet` is the number of the next packet to the client.
    pub(super) fn check<'a>(
        &mut self,
        packet: &'a Bytes,
        expected: ConnectionId,
        key: &Key,
        next_packet: u64,
    ) -> Result<(u64, Ack<'a>), ResumeError> {
        let Ok(HandshakePacket::Resume { id, counter, nonce, ack }) = HandshakePacket::read(packet) else {
            return Err(ResumeError::Malformed);
        };
        if id != expected {
            return Err(ResumeError::Malformed);
        }
        if !key.opens(&[], packet) {
            return Err(ResumeError::Forged);
        }
        if counter == self.taken && self.copy == Some(nonce) {
            return Ok((counter, ack));
        }
        // A copy that never arrived before also has a valid MAC. Only the current nonce shows that the packet is new.
        if counter < self.counter || counter <= self.taken {
            return Err(ResumeError::Replayed);
        }
        self.counter = counter;
        if nonce != self.nonce {
            return Err(ResumeError::Challenge(
                key.seal(&[], handshake_packet::resume_challenge(id, counter, &self.nonce)),
            ));
        }
        (self.taken, self.copy, self.answered_at) = (counter, Some(nonce), next_packet);
        self.nonce = self.random.array();
        Ok((counter, ack))
    }

    /// Applies the largest packet number that the client received over the relay. If it was sent after our answer, the
    /// client has that answer, and copies of its resumption are rejected from now on.
    pub(super) fn acked(&mut self, largest: u64) {
        if largest >= self.answered_at {
            self.copy = None;
        }
    }
}

/// What a side keeps of an ended connection, to answer a peer that comes back late.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub(super) id: ConnectionId,
    pub(super) key: Key,
    pub(super) reason: EndReason,
}

impl Tombstone {
    /// Returns the id of the connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns why the connection ended.
    pub fn reason(&self) -> &EndReason {
        &self.reason
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

/// Appends the acknowledgement and the MAC to a packet.
pub(super) fn with_state(mut packet: BytesMut, put: impl FnOnce(&mut BytesMut), key: &Key) -> Bytes {
    put(&mut packet);
    key.seal(&[], packet)
}
