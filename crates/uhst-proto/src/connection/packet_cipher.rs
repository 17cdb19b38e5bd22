//! ChaCha20-Poly1305 (RFC 8439) for packets, in place. It runs for each byte that crosses the relay, so native games use the
//! assembly of `aws-lc-rs`, which their TLS brings along. Browsers use the cipher of the handshake.

use crate::protocol::frame::handshake_packet::TAG;

/// The length of a nonce, in bytes.
pub(super) const NONCE: usize = 12;

#[cfg(not(target_family = "wasm"))]
pub(super) use native::PacketCipher;
#[cfg(target_family = "wasm")]
pub(super) use portable::PacketCipher;

#[cfg(not(target_family = "wasm"))]
mod native {
    use std::sync::Arc;

    use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    use super::{NONCE, TAG};

    /// A key, which is wiped when its last copy is dropped.
    #[derive(Clone)]
    pub(in super::super) struct PacketCipher(Arc<LessSafeKey>);

    impl PacketCipher {
        pub(in super::super) fn new(key: &[u8; 32]) -> Self {
            let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes");
            Self(Arc::new(LessSafeKey::new(key)))
        }

        /// Encrypts the contents, and returns the tag.
        pub(in super::super) fn seal(&self, nonce: [u8; NONCE], header: &[u8], contents: &mut [u8]) -> [u8; TAG] {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(header), contents);
            let tag = tag.expect("a packet is far below the limit of the cipher");
            let mut bytes = [0; TAG];
            bytes.copy_from_slice(tag.as_ref());
            bytes
        }

        /// Decrypts contents with their tag at the end. `None` if the tag is not theirs.
        pub(in super::super) fn open(&self, nonce: [u8; NONCE], header: &[u8], sealed: &mut [u8]) -> Option<()> {
            self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(header), sealed).ok().map(drop)
        }
    }
}

#[cfg(any(target_family = "wasm", test))]
mod portable {
    use chacha20poly1305::{
        ChaCha20Poly1305, KeyInit,
        aead::{AeadInPlace, generic_array::GenericArray},
    };

    use super::{NONCE, TAG};

    /// A key, which is wiped when dropped.
    #[derive(Clone)]
    pub(in super::super) struct PacketCipher(ChaCha20Poly1305);

    impl PacketCipher {
        pub(in super::super) fn new(key: &[u8; 32]) -> Self {
            Self(ChaCha20Poly1305::new(GenericArray::from_slice(key)))
        }

        /// Encrypts the contents, and returns the tag.
        pub(in super::super) fn seal(&self, nonce: [u8; NONCE], header: &[u8], contents: &mut [u8]) -> [u8; TAG] {
            let tag = self.0.encrypt_in_place_detached(GenericArray::from_slice(&nonce), header, contents);
            tag.expect("a packet is far below the limit of the cipher").into()
        }

        /// Decrypts contents with their tag at the end. `None` if the tag is not theirs.
        pub(in super::super) fn open(&self, nonce: [u8; NONCE], header: &[u8], sealed: &mut [u8]) -> Option<()> {
            let end = sealed.len().checked_sub(TAG)?;
            let (contents, tag) = sealed.split_at_mut(end);
            let (nonce, tag) = (GenericArray::from_slice(&nonce), GenericArray::from_slice(tag));
            self.0.decrypt_in_place_detached(nonce, header, contents, tag).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn games_and_browsers_seal_alike() {
        for len in [0, 1, 63, 64, 65, 1000, 70_000] {
            let contents: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let (key, nonce, header) = ([7; 32], [len as u8; NONCE], &b"header"[..len % 7]);
            let (native, portable) = (native::PacketCipher::new(&key), portable::PacketCipher::new(&key));
            let (mut one, mut two) = (contents.clone(), contents.clone());
            let tags = (native.seal(nonce, header, &mut one), portable.seal(nonce, header, &mut two));
            assert_eq!((&one, tags.0), (&two, tags.1), "{len} bytes");
            one.extend(tags.0);
            two.extend(tags.1);
            assert_eq!(portable.open(nonce, header, &mut one), Some(()));
            assert_eq!(native.open(nonce, header, &mut two), Some(()));
            assert_eq!((&one[..len], &two[..len]), (&contents[..], &contents[..]));
            // The wrong header, and no room for a tag.
            let mut sealed = contents.clone();
            let tag = native.seal(nonce, header, &mut sealed);
            sealed.extend(tag);
            assert_eq!(native.open(nonce, b"another", &mut sealed.clone()), None);
            assert_eq!(portable.open(nonce, b"another", &mut sealed), None);
            assert_eq!(
                (native.open(nonce, header, &mut [0; 15]), portable.open(nonce, header, &mut [0; 15])),
                (None, None)
            );
        }
    }
}
