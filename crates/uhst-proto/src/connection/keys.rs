//! The shared secret of a connection, and random bytes derived from a seed.

use bytes::{Bytes, BytesMut};
use hmac::{Hmac, Mac};
use rand_core::{CryptoRng, RngCore, impls};
use sha2::{Digest, Sha256};

use crate::protocol::frame::handshake_packet::MAC;

/// The key that only both sides know, from SPAKE2.
#[derive(Clone)]
pub(super) struct Key([u8; 32]);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    pub(super) fn new(secret: &[u8]) -> Self {
        // The hash separates this protocol from others that use the same secret.
        Self(Sha256::new().chain_update(b"bevy_uhst 1 key").chain_update(secret).finalize().into())
    }

    fn mac(&self, context: &[u8], packet: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC accepts keys of any length, so this never fails.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        Some(mac.chain_update((context.len() as u64).to_be_bytes()).chain_update(context).chain_update(packet))
    }

    /// Appends the MAC of `context` and everything in the packet.
    pub(super) fn seal(&self, context: &[u8], mut packet: BytesMut) -> Bytes {
        if let Some(mac) = self.mac(context, &packet) {
            packet.extend_from_slice(&mac.finalize().into_bytes());
        }
        packet.freeze()
    }

    /// Whether the MAC at the end is valid. Compares in constant time.
    pub(super) fn opens(&self, context: &[u8], packet: &[u8]) -> bool {
        packet.split_last_chunk::<MAC>().is_some_and(|(packet, mac)| {
            self.mac(context, packet).is_some_and(|expected| expected.verify_slice(mac).is_ok())
        })
    }
}

/// Derives random bytes from a seed: SHA-256 of the seed and a counter.
#[derive(Clone)]
pub(super) struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    /// Creates a generator. Different labels give independent bytes.
    pub(super) fn new(seed: &[u8; 32], label: &[u8]) -> Self {
        Self { seed: Sha256::new().chain_update(seed).chain_update(label).finalize().into(), counter: 0 }
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_bytes(&mut bytes);
        bytes
    }
}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for chunk in dest.chunks_mut(32) {
            let block = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize();
            self.counter += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_only_what_was_sealed() {
        let key = Key::new(b"secret");
        let packet = key.seal(b"context", BytesMut::from(&b"hello"[..]));
        assert!(key.opens(b"context", &packet));
        assert!(!key.opens(b"other", &packet));
        assert!(!Key::new(b"other").opens(b"context", &packet));
        for byte in 0..packet.len() {
            let mut forged = packet.to_vec();
            forged[byte] ^= 1;
            assert!(!key.opens(b"context", &forged));
        }
        assert!(!key.opens(b"context", b""));
    }

    #[test]
    fn seeds_and_labels_give_different_bytes() {
        let bytes = |seed: u8, label: &[u8]| Random::new(&[seed; 32], label).array::<40>();
        assert_eq!(bytes(1, b"a"), bytes(1, b"a"));
        assert_ne!(bytes(1, b"a"), bytes(2, b"a"));
        assert_ne!(bytes(1, b"a"), bytes(1, b"b"));
    }
}
