//! What both sides of the handshake share: the password, and what the first two messages of Noise give.
//!
//! SPAKE2 proves the password. Its key is the pre-shared key of Noise, so the password authenticates the whole connection.
//! Without a password the exchange has the same form, with an empty one: nobody outside learns whether there is one.
//!
//! The client repeats its packets until they are answered. The host only answers, and answers duplicates alike. So a
//! lost or duplicated POST costs only time.

use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Spake2};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    Credentials, Security,
    keys::{ControlKey, Random, connection_id},
    noise::Noise,
};
use crate::protocol::frame::handshake_packet::{ConnectionId, SPAKE};

const CLIENT: &[u8] = b"bevy_uhst client";

/// What both sides know after the second message of Noise. The host's static key has authenticated itself; the password has
/// yet to be proved.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) id: ConnectionId,
    /// For the third message, and for what ends the handshake before that.
    pub(super) control: ControlKey,
}

impl Early {
    pub(super) fn new(noise: &mut Noise) -> Self {
        Self { id: connection_id(noise.hash()), control: ControlKey::new(&noise.root(), "early") }
    }
}

/// A seed that is wiped when dropped, and whose `Debug` hides it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct RandomSeed(pub(super) [u8; 32]);

impl core::fmt::Debug for RandomSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RandomSeed(…)")
    }
}

/// An exchange that was started, and its message to the other side.
pub(super) type Exchange = (Spake2<Ed25519Group>, [u8; SPAKE]);

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

/// Returns the pre-shared key. `None` if the message of the other side is malformed.
pub(super) fn pre_shared_key(exchange: Spake2<Ed25519Group>, message: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let secret = Zeroizing::new(exchange.finish(message).ok()?);
    // The hash separates this protocol from others that use the same secret.
    let hash = Sha256::new().chain_update(b"bevy_uhst 2 psk").chain_update(&*secret).finalize();
    Some(Zeroizing::new(hash.into()))
}

fn parties(credentials: &Credentials) -> (spake2::Password, Identity, Identity) {
    let password = spake2::Password::new(credentials.password());
    (password, Identity::new(CLIENT), Identity::new(credentials.host_id.as_bytes()))
}

fn fixed_size(message: &[u8]) -> [u8; SPAKE] {
    let mut bytes = [0; SPAKE];
    bytes.copy_from_slice(message);
    bytes
}

/// What protects a connection whose handshake is complete.
pub(super) fn security(credentials: &Credentials) -> Security {
    let has_password = !credentials.password().is_empty();
    if has_password || credentials.host_key.is_some() { Security::Authenticated } else { Security::Sealed }
}
