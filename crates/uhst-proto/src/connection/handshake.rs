//! What both sides of the handshake share. SPAKE2 proves the password and gives both sides a shared secret.
//!
//! The client repeats its packets until they are answered. The host only answers, and answers duplicates alike. So a
//! lost or duplicated POST costs only time.

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::{
    Credentials,
    keys::{Key, Random},
};
use crate::protocol::frame::handshake_packet::ConnectionId;

const CLIENT: &[u8] = b"bevy_uhst client";

/// What both sides of a connection know, and nobody else.
#[derive(Clone, Debug)]
pub(super) struct SharedSecret {
    pub(super) id: ConnectionId,
    pub(super) key: Key,
    transcript: [u8; 32],
}

impl SharedSecret {
    /// `secret` is the result of the exchange. Later packets prove the [`transcript`], too.
    pub(super) fn new(id: ConnectionId, secret: &[u8], transcript: [u8; 32]) -> Self {
        Self { id, key: Key::new(secret), transcript }
    }

    /// Returns a fixed secret, for connections that skip the handshake in tests.
    pub(super) fn fixed() -> Self {
        Self { id: ConnectionId([7; 16]), key: Key::new(&[0; 32]), transcript: [0; 32] }
    }

    /// Appends the MAC of a packet of this handshake.
    pub(super) fn seal(&self, packet: BytesMut) -> Bytes {
        self.key.seal(&self.transcript, packet)
    }

    /// Whether a packet of this handshake has a valid MAC.
    pub(super) fn opens(&self, packet: &[u8]) -> bool {
        self.key.opens(&self.transcript, packet)
    }
}

/// Returns the hash of the hello and of the challenge that answers it.
pub(super) fn transcript(hello: &[u8], challenge: &[u8]) -> [u8; 32] {
    let len = (hello.len() as u64).to_be_bytes();
    Sha256::new().chain_update(len).chain_update(hello).chain_update(challenge).finalize().into()
}

/// A seed whose `Debug` hides it.
#[derive(Clone)]
pub(super) struct RandomSeed(pub(super) [u8; 32]);

impl core::fmt::Debug for RandomSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RandomSeed(…)")
    }
}

/// An exchange that was started, and its message to the other side.
type Exchange = (Spake2<Ed25519Group>, [u8; 33]);

/// Starts the exchange of a client.
pub(super) fn client_exchange(credentials: &Credentials, random: Random) -> Exchange {
    let (password, client, host) = parties(credentials);
    let (exchange, message) = Spake2::start_a_with_rng(&password, &client, &host, random);
    (exchange, fixed_size(&message))
}

/// Starts the exchange of a host.
pub(super) fn host_exchange(credentials: &Credentials, random: Random) -> Exchange {
    let (password, client, host) = parties(credentials);
    let (exchange, message) = Spake2::start_b_with_rng(&password, &client, &host, random);
    (exchange, fixed_size(&message))
}

fn parties(credentials: &Credentials) -> (Password, Identity, Identity) {
    let password = Password::new(credentials.password.as_deref().unwrap_or_default().as_bytes());
    (password, Identity::new(CLIENT), Identity::new(credentials.host_id.as_bytes()))
}

fn fixed_size(message: &[u8]) -> [u8; 33] {
    let mut bytes = [0; 33];
    bytes.copy_from_slice(message);
    bytes
}
