//! Replay protection of a host: which packets resume its connection.

use bytes::Bytes;

use super::{
    ResumeError,
    keys::{LastingKeys, Random},
};
use crate::protocol::frame::handshake_packet::{self, HandshakePacket};

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

    /// The largest counter that came from the client.
    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    /// Checks whether a packet resumes the connection. Returns its counter and its contents: the client's
    /// acknowledgement. `next_packet` is the number of the next packet to the client.
    pub(super) fn check(
        &mut self,
        packet: &Bytes,
        keys: &LastingKeys,
        next_packet: u64,
    ) -> Result<(u64, Bytes), ResumeError> {
        let Ok(HandshakePacket::Resume { id, counter, nonce, sealed }) = HandshakePacket::read(packet) else {
            return Err(ResumeError::Malformed);
        };
        if id != keys.id {
            return Err(ResumeError::Malformed);
        }
        let ack = keys.control.open(sealed).ok_or(ResumeError::Forged)?;
        if counter == self.taken && self.copy == Some(nonce) {
            return Ok((counter, ack));
        }
        // A copy that never arrived before is authentic, too. Only the current nonce shows that the packet is new.
        if counter < self.counter || counter <= self.taken {
            return Err(ResumeError::Replayed);
        }
        self.counter = counter;
        if nonce != self.nonce {
            let challenge = handshake_packet::resume_challenge(id, counter, &self.nonce);
            return Err(ResumeError::Challenge(keys.control.seal(challenge, &[])));
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
