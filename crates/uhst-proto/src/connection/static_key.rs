//! The static key of a side: by its public half, others know it again.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::curve::KeyPair;
use crate::protocol::PublicKey;

/// The private key of one side (X25519). It is wiped from memory when dropped, and `Debug` hides it.
///
/// A host keeps the same key for its whole session: its links carry the hash of the public half.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StaticKey([u8; 32]);

impl StaticKey {
    /// Generates a key.
    ///
    /// # Errors
    ///
    /// The error of the system, if it has no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Self([0; 32]);
        getrandom::fill(&mut key.0)?;
        Ok(key)
    }

    /// Restores a key from its [bytes](Self::to_bytes). Any 32 bytes are a key; they must be random and secret.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the secret bytes, to be kept where no other player can read them.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Returns the public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        KeyPair::new(&self.0).public()
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl core::fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StaticKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_bytes_and_stays_out_of_logs() {
        let key = StaticKey::generate().unwrap();
        assert_eq!(StaticKey::from_bytes(key.to_bytes()).public(), key.public());
        assert_ne!(StaticKey::generate().unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), "StaticKey(…)");
    }

    /// The first vector of RFC 7748, section 6.1.
    #[test]
    fn the_public_half_is_that_of_x25519() {
        let private = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        let bytes = |hex: &str| core::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap());
        assert_eq!(StaticKey::from_bytes(bytes(private)).public(), PublicKey::from_bytes(bytes(public)));
    }
}
