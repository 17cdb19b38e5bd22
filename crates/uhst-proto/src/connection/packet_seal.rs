//! Seals the packets of an open connection that cross the relay, and opens those of the peer.
//!
//! A sealed packet is `number  ciphertext  tag[16]`. The number of the packet is the nonce: it never repeats, and is known
//! without the packets before, which may be lost, late, or on the direct path. That path is encrypted by DTLS, whose
//! fingerprints travel sealed, so its packets are not sealed once more.

use bytes::{Bytes, BytesMut};

use super::{
    keys::SessionKeys,
    packet_keys::{OpeningKeys, SealingKeys, WINDOW},
};
use crate::protocol::frame::packet_number;

/// The largest number of a packet, far below the 2^62 that the wire allows. A million packets a second take nine years.
const MAX_NUMBER: u64 = 1 << 48;
/// How many forged packets end the connection. The cipher stays safe up to 2^36 (RFC 9001, section 6.6).
const MAX_FORGED: u64 = 1 << 32;

/// The keys of both directions, and which packets of the peer have arrived.
#[derive(Clone, Debug)]
pub(super) struct PacketSeal {
    ours: SealingKeys,
    theirs: OpeningKeys,
    arrived: ReplayWindow,
    forged: u64,
}

/// Why a packet does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It arrived before, or is too late to tell.
    Replayed,
    /// The peer did not seal it.
    Forged,
}

impl PacketSeal {
    /// Creates the seal of a client or of its host.
    pub(super) fn new(keys: &SessionKeys, is_client: bool) -> Self {
        let (client, host) = (keys.client.clone(), keys.host.clone());
        let (ours, theirs) = if is_client { (client, host) } else { (host, client) };
        let (ours, theirs) = (SealingKeys::new(ours), OpeningKeys::new(theirs));
        Self { ours, theirs, arrived: ReplayWindow::default(), forged: 0 }
    }

    /// Whether the keys may not be used any longer. `next` is the number of the next packet of this side.
    pub(super) fn is_exhausted(&self, next: u64) -> bool {
        next >= MAX_NUMBER || self.forged >= MAX_FORGED
    }

    /// Seals a packet of this side. Each number may be used once.
    pub(super) fn seal(&mut self, mut packet: BytesMut) -> Bytes {
        if let Some((number, header)) = packet_number(&packet) {
            self.ours.seal(number, header, &mut packet);
        }
        packet.freeze()
    }

    /// Opens a packet of the peer, in place if nobody else holds it.
    pub(super) fn open(&mut self, packet: Bytes) -> Result<Bytes, Unopened> {
        let number = packet_number(&packet).map(|(number, _)| number);
        if number.is_some_and(|number| !self.arrived.is_new(number)) {
            return Err(Unopened::Replayed);
        }
        match (number, open(&mut self.theirs, packet)) {
            (Some(number), Some(opened)) => {
                self.arrived.insert(number);
                Ok(opened)
            }
            // The direct path has carried much while it was on its way.
            (Some(number), None) if self.theirs.have_lost(number) => Err(Unopened::Replayed),
            _ => {
                self.forged += 1;
                Err(Unopened::Forged)
            }
        }
    }

    /// Whether the peer has sealed this packet, and it has not arrived before. Changes nothing.
    pub(super) fn is_new(&self, packet: &Bytes) -> bool {
        let is_new = packet_number(packet).is_some_and(|(number, _)| self.arrived.is_new(number));
        is_new && peek(&self.theirs, packet.clone()).is_some()
    }

    /// Notes a packet of this side on the direct path.
    pub(super) fn sent_directly(&mut self, number: u64) {
        self.ours.reach(number);
    }

    /// Notes a packet that arrived on the direct path.
    pub(super) fn arrived_directly(&mut self, number: u64) {
        self.theirs.arrived_directly(number);
    }

    /// The keys of the peer, as they are now.
    pub(super) fn theirs(&self) -> &OpeningKeys {
        &self.theirs
    }

    /// Seals a packet as the peer does, for tests of a peer that misbehaves.
    pub(super) fn seal_as_peer(&self, mut packet: BytesMut) -> Bytes {
        if let Some((number, header)) = packet_number(&packet) {
            self.theirs.seal_as_peer(number, header, &mut packet);
        }
        packet.freeze()
    }
}

fn open(keys: &mut OpeningKeys, packet: Bytes) -> Option<Bytes> {
    let (number, header) = packet_number(&packet)?;
    let mut packet = packet.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    keys.open(number, header, &mut packet)?;
    Some(packet.freeze())
}

/// Opens a packet and changes nothing.
pub(super) fn peek(keys: &OpeningKeys, packet: Bytes) -> Option<Bytes> {
    open(&mut keys.clone(), packet)
}

/// The numbers of the packets that have arrived. Those far below the largest count as arrived.
#[derive(Clone, Debug)]
struct ReplayWindow {
    largest: u64,
    /// A bit for each number of the window, at the number modulo the size of the window.
    bits: Box<[u64; (WINDOW / 64) as usize]>,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { largest: 0, bits: Box::new([0; (WINDOW / 64) as usize]) }
    }
}

impl ReplayWindow {
    fn bit(number: u64) -> (usize, u64) {
        (((number % WINDOW) / 64) as usize, 1 << (number % 64))
    }

    fn is_new(&self, number: u64) -> bool {
        let (word, bit) = Self::bit(number);
        number > self.largest || number + WINDOW > self.largest && self.bits[word] & bit == 0
    }

    /// Records a number that [is new](Self::is_new).
    fn insert(&mut self, number: u64) {
        if number > self.largest {
            if number - self.largest >= WINDOW {
                self.bits.fill(0);
            } else {
                for skipped in self.largest + 1..number {
                    let (word, bit) = Self::bit(skipped);
                    self.bits[word] &= !bit;
                }
            }
            self.largest = number;
        }
        let (word, bit) = Self::bit(number);
        self.bits[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::frame::PacketWriter;

    fn pair() -> (PacketSeal, PacketSeal) {
        let keys = SessionKeys::fixed();
        (PacketSeal::new(&keys, true), PacketSeal::new(&keys, false))
    }

    fn packet(number: u64) -> BytesMut {
        let mut writer = PacketWriter::new(number, 1000, 0);
        writer.ping(12_345);
        writer.finish_mut().unwrap()
    }

    #[test]
    fn each_side_opens_what_the_other_has_sealed_once() {
        let (mut client, mut host) = pair();
        let (up, down) = (client.seal(packet(1)), host.seal(packet(1)));
        assert_ne!(up, down);
        assert_eq!(client.open(up.clone()), Err(Unopened::Forged), "reflected");
        assert_eq!(host.open(up.clone()), Ok(packet(1).freeze()));
        assert_eq!(host.open(up), Err(Unopened::Replayed));
        assert_eq!(client.open(down), Ok(packet(1).freeze()));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let (mut client, mut host) = pair();
        let sealed = client.seal(packet(700));
        for byte in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[byte] ^= 1;
            assert_eq!(host.open(changed.into()), Err(Unopened::Forged), "byte {byte}");
            assert_eq!(host.open(sealed.slice(..byte)), Err(Unopened::Forged), "{byte} bytes");
        }
        assert_eq!(host.open(sealed), Ok(packet(700).freeze()), "a forgery uses up no number");
    }

    #[test]
    fn a_packet_that_nobody_else_holds_is_opened_in_place() {
        let (mut client, mut host) = pair();
        let sealed = client.seal(packet(1));
        let place = sealed.as_ptr();
        assert_eq!(host.open(sealed).unwrap().as_ptr(), place);
    }

    #[test]
    fn a_packet_that_the_direct_path_has_left_behind_is_no_forgery() {
        let (mut client, mut host) = pair();
        let late = client.seal(packet(1));
        for number in (1..1 << 20).step_by(1 << 15) {
            host.arrived_directly(number);
        }
        assert_eq!(host.open(late), Err(Unopened::Replayed));
        assert_eq!(host.forged, 0);
        client.sent_directly((1 << 20) - 1);
        assert_eq!(host.open(client.seal(packet(1 << 20))), Ok(packet(1 << 20).freeze()));
    }

    #[test]
    fn keys_are_used_up_long_before_their_limit() {
        let (mut client, _) = pair();
        assert!(!client.is_exhausted(1 << 40));
        assert!(client.is_exhausted(1 << 48));
        client.forged = MAX_FORGED;
        assert!(client.is_exhausted(1));
    }

    proptest! {
        #[test]
        fn the_window_knows_every_number(
            steps in prop::collection::vec(prop_oneof![8 => -40_i64..40, 1 => -5000_i64..5000], 1..300),
        ) {
            let (mut window, mut seen, mut at) = (ReplayWindow::default(), HashSet::new(), 1000_i64);
            for step in steps {
                at = (at + step).max(1);
                let number = at as u64;
                let late = number + WINDOW <= window.largest;
                prop_assert_eq!(window.is_new(number), !late && !seen.contains(&number));
                if window.is_new(number) {
                    window.insert(number);
                    seen.insert(number);
                }
            }
        }
    }
}
