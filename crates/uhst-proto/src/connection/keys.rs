//! What is derived from a handshake: the id of the connection, and the keys of both sides. And random bytes derived from a
//! seed.

use bytes::{BufMut, Bytes, BytesMut};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{AeadInPlace, generic_array::GenericArray},
};
use hmac::{Hmac, Mac};
use rand_core::{CryptoRng, RngCore, impls};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::packet_cipher::{self, PacketCipher};
use crate::protocol::frame::handshake_packet::{ConnectionId, NONCE, SEAL, Sealed, TAG};

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC accepts keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

/// What only both sides of a handshake know. Keys are derived from it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Root([u8; 64]);

impl Root {
    pub(super) fn new(one: &[u8; 32], two: &[u8; 32]) -> Self {
        let mut root = Self([0; 64]);
        root.0[..32].copy_from_slice(one);
        root.0[32..].copy_from_slice(two);
        root
    }

    /// Derives a key. Different labels give independent keys.
    pub(super) fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        derive(&self.0, label)
    }
}

fn derive(secret: &[u8], label: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hmac(secret, &[label.as_bytes()]).finalize().into_bytes().into())
}

/// A secret from which the packet keys of one side are derived.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(super) struct PacketSecret([u8; 32]);

impl core::fmt::Debug for PacketSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PacketSecret(…)")
    }
}

impl PacketSecret {
    fn new(root: &Root, label: &str) -> Self {
        Self(*root.derive(label))
    }

    /// The key of this secret.
    pub(super) fn key(&self) -> PacketKey {
        PacketKey(PacketCipher::new(&derive(&self.0, "key")))
    }

    /// The secret after this one, which does not tell of it.
    pub(super) fn next(&self) -> Self {
        Self(*derive(&self.0, "next"))
    }
}

/// Returns the id of a connection, from the hash of the first two messages.
pub(super) fn connection_id(hash: &[u8]) -> ConnectionId {
    let hash = Sha256::new().chain_update(b"bevy_uhst 2 id").chain_update(hash).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    ConnectionId(id)
}

/// The keys of a connection.
#[derive(Clone, Debug)]
pub(super) struct SessionKeys {
    pub(super) lasting: LastingKeys,
    /// For packets of the client.
    pub(super) client: PacketSecret,
    /// For packets of the host.
    pub(super) host: PacketSecret,
}

/// What both sides keep as long as the connection.
#[derive(Clone, Debug)]
pub(super) struct LastingKeys {
    pub(super) id: ConnectionId,
    /// For the rest of the handshake, for resumptions, and for what a host says after the end.
    pub(super) control: ControlKey,
}

impl SessionKeys {
    /// Derives the keys from what both sides know after the third message.
    pub(super) fn new(id: ConnectionId, root: &Root) -> Self {
        Self {
            lasting: LastingKeys { id, control: ControlKey::new(root, "control") },
            client: PacketSecret::new(root, "client"),
            host: PacketSecret::new(root, "host"),
        }
    }

    /// Returns fixed keys, for connections that skip the handshake in tests.
    pub(super) fn fixed() -> Self {
        Self::new(ConnectionId([7; 16]), &Root([0; 64]))
    }
}

/// Seals handshake and resumption packets, which have no number.
///
/// The nonce is a MAC of the contents. Packets that repeat each other are thus equal, and no two others share a nonce.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct ControlKey {
    cipher: [u8; 32],
    nonce: [u8; 32],
}

impl core::fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ControlKey(…)")
    }
}

impl ControlKey {
    pub(super) fn new(root: &Root, label: &str) -> Self {
        let nonce = root.derive(&format!("{label} nonce"));
        Self { cipher: *root.derive(label), nonce: *nonce }
    }

    /// Appends the sealed contents to a header, which is authenticated and not encrypted.
    pub(super) fn seal(&self, mut header: BytesMut, contents: &[u8]) -> Bytes {
        let mac = hmac(&self.nonce, &[&header, contents]).finalize().into_bytes();
        let nonce = &mac[..NONCE];
        let start = header.len();
        header.reserve(contents.len() + SEAL);
        header.put_slice(nonce);
        header.put_slice(contents);
        let (header_part, rest) = header.split_at_mut(start);
        let tag = XChaCha20Poly1305::new(GenericArray::from_slice(&self.cipher))
            .encrypt_in_place_detached(GenericArray::from_slice(nonce), header_part, &mut rest[NONCE..])
            .expect("a packet is far below the limit of the cipher");
        header.put_slice(&tag);
        header.freeze()
    }

    /// Returns the contents. `None` if the other side did not seal them, with this header.
    pub(super) fn open(&self, sealed: Sealed<'_>) -> Option<Bytes> {
        let (nonce, rest) = sealed.bytes.split_at_checked(NONCE)?;
        let (contents, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
        let mut contents = contents.to_vec();
        XChaCha20Poly1305::new(GenericArray::from_slice(&self.cipher))
            .decrypt_in_place_detached(
                GenericArray::from_slice(nonce),
                sealed.header,
                &mut contents,
                GenericArray::from_slice(tag),
            )
            .ok()?;
        Some(contents.into())
    }
}

/// Seals the numbered packets of one side. The number is the nonce, so each number may be used once.
#[derive(Clone)]
pub(super) struct PacketKey(PacketCipher);

impl core::fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PacketKey(…)")
    }
}

impl PacketKey {
    /// The nonce of Noise: four zero bytes and the number in little endian.
    fn nonce(number: u64) -> [u8; packet_cipher::NONCE] {
        let mut nonce = [0; packet_cipher::NONCE];
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        nonce
    }

    /// Encrypts what follows the header of this length, and appends the tag. The header is authenticated.
    pub(super) fn seal(&self, number: u64, header: usize, packet: &mut BytesMut) {
        let (header, contents) = packet.split_at_mut(header);
        let tag = self.0.seal(Self::nonce(number), header, contents);
        packet.put_slice(&tag);
    }

    /// Decrypts what follows the header of this length, and removes the tag. `None` if the other side did not seal it; the
    /// contents are of no use then.
    pub(super) fn open(&self, number: u64, header: usize, packet: &mut BytesMut) -> Option<()> {
        let end = packet.len().checked_sub(TAG).filter(|end| *end >= header)?;
        let (header, sealed) = packet.split_at_mut(header);
        self.0.open(Self::nonce(number), header, sealed)?;
        packet.truncate(end);
        Some(())
    }
}

/// Derives random bytes from a seed: SHA-256 of the seed and a counter.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
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
        let key = ControlKey::new(&Root([1; 64]), "a");
        let packet = key.seal(BytesMut::from(&b"header"[..]), b"hello");
        assert!(!packet.windows(5).any(|bytes| bytes == b"hello"));
        let sealed = |packet: &'static [u8]| Sealed { header: &packet[..6], bytes: &packet[6..] };
        let packet: &'static [u8] = Vec::leak(packet.to_vec());
        assert_eq!(key.open(sealed(packet)).unwrap(), "hello");
        for other in [ControlKey::new(&Root([2; 64]), "a"), ControlKey::new(&Root([1; 64]), "b")] {
            assert_eq!(other.open(sealed(packet)), None);
        }
        for byte in 0..packet.len() {
            let mut forged = packet.to_vec();
            forged[byte] ^= 1;
            assert_eq!(key.open(Sealed { header: &forged[..6], bytes: &forged[6..] }), None);
        }
        for end in 6..packet.len() {
            assert_eq!(key.open(Sealed { header: &packet[..6], bytes: &packet[6..end] }), None);
        }
    }

    #[test]
    fn equal_packets_are_sealed_alike_and_others_with_another_nonce() {
        let key = ControlKey::new(&Root([1; 64]), "a");
        let seal = |header: &[u8], contents: &[u8]| key.seal(BytesMut::from(header), contents);
        assert_eq!(seal(b"ab", b"c"), seal(b"ab", b"c"));
        assert_ne!(seal(b"ab", b"c")[2..][..NONCE], seal(b"ab", b"d")[2..][..NONCE]);
        assert_ne!(seal(b"ab", b"c")[2..][..NONCE], seal(b"a", b"bc")[1..][..NONCE]);
    }

    #[test]
    fn seeds_and_labels_give_different_bytes() {
        let bytes = |seed: u8, label: &[u8]| Random::new(&[seed; 32], label).array::<40>();
        assert_eq!(bytes(1, b"a"), bytes(1, b"a"));
        assert_ne!(bytes(1, b"a"), bytes(2, b"a"));
        assert_ne!(bytes(1, b"a"), bytes(1, b"b"));
    }

    #[test]
    fn keys_stay_out_of_logs() {
        assert_eq!(format!("{:?}", SessionKeys::fixed()).matches('…').count(), 3);
    }
}
