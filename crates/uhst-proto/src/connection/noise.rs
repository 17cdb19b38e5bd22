//! The Noise handshake, `Noise_XXpsk3_25519_ChaChaPoly_SHA256`, by the library `snow`.
//!
//! ```text
//! 1  client → host   e                  payload: the client's message of the PAKE
//! 2  host → client   e, ee, s, es       payload: the host's message of the PAKE
//! 3  client → host   s, se, psk         payload: what the host learns of the joiner
//! ```
//!
//! All randomness comes from a seed. A side can therefore repeat its part of a handshake, and tests are reproducible.

use snow::{
    Builder, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random as SnowRandom},
};
use zeroize::Zeroizing;

use super::{
    StaticKey,
    curve::KeyPair,
    keys::{Random, Root},
};
use crate::protocol::PublicKey;

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_SHA256";
/// Separates this protocol, and this version of it, from others that use Noise.
const PROLOGUE: &[u8] = b"bevy_uhst 2";
/// The position of the pre-shared key in the pattern.
const PSK: usize = 3;
/// What a message is longer than its payload, at most: two keys and two tags.
const OVERHEAD: usize = 2 * (32 + 16);

/// A handshake in progress. After an error it is of no more use.
pub(super) struct Noise(HandshakeState);

impl core::fmt::Debug for Noise {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Noise(…)")
    }
}

impl Noise {
    /// Starts the handshake of a client.
    pub(super) fn client(key: &StaticKey, random: Random) -> Option<Self> {
        builder(key, random)?.build_initiator().ok().map(Self)
    }

    /// Starts the handshake of a host.
    pub(super) fn host(key: &StaticKey, random: Random) -> Option<Self> {
        builder(key, random)?.build_responder().ok().map(Self)
    }

    /// Sets the pre-shared key, before the third message.
    pub(super) fn set_psk(&mut self, psk: &[u8; 32]) -> Option<()> {
        self.0.set_psk(PSK, psk).ok()
    }

    /// Returns the next message.
    pub(super) fn write(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; payload.len() + OVERHEAD];
        let len = self.0.write_message(payload, &mut message).ok()?;
        message.truncate(len);
        Some(message)
    }

    /// Reads the next message. Returns its payload; `None` if it is not from the other side of this handshake, or the
    /// pre-shared keys differ.
    pub(super) fn read(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut payload = vec![0; message.len()];
        let len = self.0.read_message(message, &mut payload).ok()?;
        payload.truncate(len);
        Some(payload)
    }

    /// Returns the static key of the other side, which it sends in its only or its last message. `None` if it is one that
    /// gives the same result with every other key, so that nobody would have to own it.
    pub(super) fn peer(&self) -> Option<PublicKey> {
        let key: [u8; 32] = self.0.get_remote_static()?.try_into().ok()?;
        let key = PublicKey::from_bytes(key);
        KeyPair::new(&[1; 32]).agrees_with(&key).then_some(key)
    }

    /// Returns the hash of everything exchanged so far, which is no secret.
    pub(super) fn hash(&self) -> &[u8] {
        self.0.get_handshake_hash()
    }

    /// Returns what only both sides know after the messages so far.
    pub(super) fn root(&mut self) -> Root {
        let (one, two) = self.0.dangerously_get_raw_split();
        let (one, two) = (Zeroizing::new(one), Zeroizing::new(two));
        Root::new(&one, &two)
    }
}

fn builder(key: &StaticKey, random: Random) -> Option<Builder<'_>> {
    let builder = Builder::with_resolver(PATTERN.parse().ok()?, Box::new(Seeded(random)));
    builder.prologue(PROLOGUE).ok()?.local_private_key(key.as_bytes()).ok()
}

/// The algorithms of the library, with our randomness, and with key pairs that are wiped.
struct Seeded(Random);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn SnowRandom>> {
        Some(Box::new(SeededRandom(self.0.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<KeyPair>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SeededRandom(Random);

impl SnowRandom for SeededRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        rand_core::RngCore::fill_bytes(&mut self.0, dest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Noise, Noise) {
        let start = |byte: u8| (StaticKey::from_bytes([byte; 32]), Random::new(&[byte; 32], b"noise"));
        let ((client, one), (host, two)) = (start(1), start(2));
        (Noise::client(&client, one).unwrap(), Noise::host(&host, two).unwrap())
    }

    /// Exchanges the first two messages.
    fn halfway() -> (Noise, Noise) {
        let (mut client, mut host) = pair();
        assert_eq!(host.read(&client.write(b"one").unwrap()).unwrap(), b"one");
        assert_eq!(client.read(&host.write(b"two").unwrap()).unwrap(), b"two");
        (client, host)
    }

    #[test]
    fn both_sides_agree_and_know_each_other() {
        let (mut client, mut host) = halfway();
        assert_eq!(client.hash(), host.hash());
        assert_eq!(client.root().derive("early"), host.root().derive("early"));
        assert_eq!(client.peer(), Some(StaticKey::from_bytes([2; 32]).public()));
        let early = client.root().derive("early");
        client.set_psk(&[7; 32]).unwrap();
        host.set_psk(&[7; 32]).unwrap();
        assert_eq!(host.read(&client.write(b"three").unwrap()).unwrap(), b"three");
        assert_eq!(host.peer(), Some(StaticKey::from_bytes([1; 32]).public()));
        assert_eq!(client.root().derive("early"), host.root().derive("early"));
        assert_ne!(client.root().derive("early"), early);
    }

    #[test]
    fn another_pre_shared_key_reads_nothing() {
        let (mut client, mut host) = halfway();
        client.set_psk(&[7; 32]).unwrap();
        host.set_psk(&[8; 32]).unwrap();
        assert_eq!(host.read(&client.write(b"three").unwrap()), None);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (mut client, mut host) = pair();
        host.read(&client.write(b"one").unwrap()).unwrap();
        let answer = host.write(b"two").unwrap();
        for byte in 0..answer.len() {
            let (mut client, _) = pair();
            client.write(b"one").unwrap();
            let mut changed = answer.clone();
            changed[byte] ^= 1;
            // Curve25519 ignores the last bit of a key, but the hash does not.
            assert_eq!(client.read(&changed), None, "byte {byte}");
        }
    }

    #[test]
    fn a_key_that_needs_no_owner_is_no_key() {
        let (mut client, mut host) = halfway();
        client.set_psk(&[7; 32]).unwrap();
        host.set_psk(&[7; 32]).unwrap();
        assert!(host.peer().is_none(), "not sent yet");
        host.read(&client.write(b"").unwrap()).unwrap();
        assert!(host.peer().is_some());
        assert!(!KeyPair::new(&[1; 32]).agrees_with(&PublicKey::from_bytes([0; 32])), "what such a key looks like");
    }
}
