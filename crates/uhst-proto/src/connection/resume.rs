//! Coming back on another route: both sides prove, with the secret from the beginning, that they are who they were.

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

/// The client's side, while it asks.
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

/// The host's side: what makes a resumption fresh.
pub(super) struct ReplayGuard {
    random: Random,
    /// The nonce that the next resumption must carry.
    nonce: [u8; 16],
    /// The largest counter seen.
    counter: u64,
    /// The counter of the last one taken.
    taken: u64,
    /// Its nonce: a copy of it is answered again until the client shows that it has the answer.
    copy: Option<[u8; 16]>,
    /// The number of the next packet when it was taken. The client takes packets from there on only once it has the
    /// answer; what it sent before may still be on its way to us.
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

    /// The largest counter that came with a right mac.
    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    /// Whether this packet resumes the connection; its counter and the state of the client's receiver. `next_packet`: the
    /// number of the next packet to the client.
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
        // A copy that never reached us before has a right mac as well. Only what answers our nonce is of now.
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

    /// The client has received packets up to this one over the relay. One that was sent after our answer shows that it has
    /// the answer: copies of its resumption are refused from now on.
    pub(super) fn acked(&mut self, largest: u64) {
        if largest >= self.answered_at {
            self.copy = None;
        }
    }
}

/// What a side keeps of a connection that has ended, to tell a peer that comes back late.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub(super) id: ConnectionId,
    pub(super) key: Key,
    pub(super) reason: EndReason,
}

impl Tombstone {
    /// Which connection this was.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Why it ended.
    pub fn reason(&self) -> &EndReason {
        &self.reason
    }

    /// The answer to a resumption of this connection, to be sent back to where it came from. `None`: the packet is
    /// something else, or not from the client of this connection.
    pub fn answer(&self, packet: &Bytes) -> Option<Bytes> {
        let Ok(HandshakePacket::Resume { id, counter, .. }) = HandshakePacket::read(packet) else { return None };
        let known = id == self.id && self.key.opens(&[], packet);
        known.then(|| self.key.seal(&[], handshake_packet::gone(id, counter, &self.reason)))
    }
}

/// Appends the state of a receiver to a packet which carries one.
pub(super) fn with_state(mut packet: BytesMut, put: impl FnOnce(&mut BytesMut), key: &Key) -> Bytes {
    put(&mut packet);
    key.seal(&[], packet)
}
