//! Key pairs on Curve25519, for `snow`: those of the library stay in memory after they are dropped.

use curve25519_dalek::MontgomeryPoint;
use snow::types::{Dh, Random};
use zeroize::Zeroizing;

use crate::protocol::PublicKey;

const LEN: usize = 32;

/// A private key, which is wiped when dropped, and its public half.
#[derive(Default)]
pub(super) struct KeyPair {
    private: Zeroizing<[u8; LEN]>,
    public: [u8; LEN],
}

impl KeyPair {
    pub(super) fn new(private: &[u8; LEN]) -> Self {
        let mut pair = Self::default();
        pair.set(private);
        pair
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.public)
    }

    /// Whether an exchange with a key depends on the private key. It does for all but a few public keys, whose owner could
    /// be anybody.
    pub(super) fn agrees_with(&self, public: &PublicKey) -> bool {
        *self.shared(public.as_bytes()) != [0; LEN]
    }

    fn shared(&self, public: &[u8; LEN]) -> Zeroizing<[u8; LEN]> {
        Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*self.private).to_bytes())
    }

    fn complete(&mut self) {
        self.public = MontgomeryPoint::mul_base_clamped(*self.private).to_bytes();
    }
}

impl Dh for KeyPair {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        LEN
    }

    fn priv_len(&self) -> usize {
        LEN
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(&private[..LEN]);
        self.complete();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(&mut *self.private)?;
        self.complete();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk().ok_or(snow::Error::Dh)?;
        out[..LEN].copy_from_slice(&*self.shared(public));
        Ok(())
    }
}
