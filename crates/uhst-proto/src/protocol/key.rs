//! Public keys of peers, and the short hash by which a link pins the key of its host.

use core::fmt;
use std::str::FromStr;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The public half of a peer's static key (X25519). A peer that has completed the handshake owns the private half.
///
/// `Display` writes its [`hash`](Self::hash).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Creates a key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the hash that a link carries.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        // The label separates this hash from others of the same key.
        let hash = Sha256::new().chain_update(b"bevy_uhst 2 key hash").chain_update(self.0).finalize();
        let mut short = [0; KeyHash::LEN];
        short.copy_from_slice(&hash[..KeyHash::LEN]);
        KeyHash(short)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash().fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The first 16 bytes of a SHA-256 of a [`PublicKey`], with which a [`JoinLink`](super::JoinLink) pins the host's key.
///
/// 16 bytes suffice: whoever wants to answer in the host's place needs another key with the same hash, a second preimage,
/// which takes 2^128 attempts. Collisions, which take 2^64, are of no use to anybody: both keys would be the attacker's.
///
/// `Display` writes 22 characters of base64url, and `FromStr` reads them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; KeyHash::LEN]);

/// A text that is no [`KeyHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has {} characters of base64url", KeyHash::TEXT_LEN)]
pub struct KeyHashError;

impl KeyHash {
    const LEN: usize = 16;
    /// The length of its text.
    const TEXT_LEN: usize = 22;
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyHashError)?;
        Ok(Self(bytes.try_into().map_err(|_| KeyHashError)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_survive_their_text_and_differ() {
        let hash = PublicKey([1; 32]).hash();
        let text = hash.to_string();
        assert_eq!(text.len(), KeyHash::TEXT_LEN);
        assert_eq!(text.parse(), Ok(hash));
        assert_ne!(hash, PublicKey([2; 32]).hash());
        assert_eq!(PublicKey([1; 32]).to_string(), text);
    }

    #[test]
    fn only_canonical_texts_are_hashes() {
        let text = PublicKey([1; 32]).hash().to_string();
        let longer = format!("{text}A");
        for wrong in ["", "A", &text[1..], &longer, "AAAAAAAAAAAAAAAAAAAAA/", "AAAAAAAAAAAAAAAAAAAAAB"] {
            assert_eq!(wrong.parse::<KeyHash>(), Err(KeyHashError), "{wrong}");
        }
    }
}
