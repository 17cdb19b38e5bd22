//! The keys of the packets of one side, one after the other.
//!
//! A key seals 65,536 packets. The secret from which the next key follows is replaced with it, and there is no way back: who
//! reads the memory of a player learns how to open what crosses the relay from then on, and not what somebody has recorded
//! long before. The number of a packet tells which key sealed it, so nothing is negotiated.

use bytes::BytesMut;

use super::keys::{PacketKey, PacketSecret};

/// How many packet numbers share a key.
const PACKETS: u64 = 1 << 16;
/// How many keys a packet may be ahead of all that have arrived: a million packets were lost in a row. It bounds what a forged
/// packet costs.
const AHEAD: u64 = 16;
/// How many keys the relay path stays behind the direct one, for packets that are late.
const BEHIND: u64 = 4;
/// How far behind the largest number a packet on the relay may be. The relay delivers in order but for posts that were
/// repeated, so a packet that is later than this is a replay.
pub(super) const WINDOW: u64 = 2048;

/// The index of the key that seals the packet with this number.
fn index(number: u64) -> u64 {
    number / PACKETS
}

/// A key, and the secret from which the next one follows.
#[derive(Clone, Debug)]
struct Generation {
    index: u64,
    secret: PacketSecret,
    key: PacketKey,
}

impl Generation {
    fn new(index: u64, secret: PacketSecret) -> Self {
        Self { index, key: secret.key(), secret }
    }

    /// Derives a later generation.
    fn at(&self, index: u64) -> Self {
        let mut secret = self.secret.clone();
        for _ in self.index..index {
            secret = secret.next();
        }
        Self::new(index, secret)
    }
}

/// The keys by which one side seals its packets.
#[derive(Clone, Debug)]
pub(super) struct SealingKeys(Generation);

impl SealingKeys {
    pub(super) fn new(secret: PacketSecret) -> Self {
        Self(Generation::new(0, secret))
    }

    /// Moves to the key of this number. Numbers only grow, whatever the path.
    pub(super) fn reach(&mut self, number: u64) {
        debug_assert!(index(number) >= self.0.index, "the key of this number is gone");
        if index(number) > self.0.index {
            self.0 = self.0.at(index(number));
        }
    }

    /// Encrypts what follows the header of this length, and appends the tag.
    pub(super) fn seal(&mut self, number: u64, header: usize, packet: &mut BytesMut) {
        self.reach(number);
        self.0.key.seal(number, header, packet);
    }
}

/// The keys by which the other side opens them.
#[derive(Clone, Debug)]
pub(super) struct OpeningKeys {
    current: Generation,
    /// The key before that, for packets that are late.
    previous: Option<PacketKey>,
    /// The index of the largest number that has arrived on either path.
    newest: u64,
}

impl OpeningKeys {
    pub(super) fn new(secret: PacketSecret) -> Self {
        Self { current: Generation::new(0, secret), previous: None, newest: 0 }
    }

    /// Decrypts what follows the header of this length, and removes the tag. `None` if the other side did not seal it; the
    /// contents are of no use then.
    pub(super) fn open(&mut self, number: u64, header: usize, packet: &mut BytesMut) -> Option<()> {
        let index = index(number);
        if index > self.current.index {
            // Only a packet that opens moves the keys: anybody can write a number.
            let later = (index <= self.newest + AHEAD).then(|| self.at(index))?;
            later.current.key.open(number, header, packet)?;
            *self = later;
        } else if index == self.current.index {
            self.current.key.open(number, header, packet)?;
        } else {
            let previous = self.previous.as_ref().filter(|_| index + 1 == self.current.index)?;
            return previous.open(number, header, packet);
        }
        if number % PACKETS >= WINDOW {
            self.previous = None;
        }
        Some(())
    }

    /// Seals as the other side does, for tests. Nobody opens a number that is too far ahead, whatever its key.
    pub(super) fn seal_as_peer(&self, number: u64, header: usize, packet: &mut BytesMut) {
        let index = index(number).clamp(self.current.index, self.newest + AHEAD);
        self.current.at(index).key.seal(number, header, packet);
    }

    /// Notes a packet of the direct path, whose numbers are of the same row. The keys follow at a distance.
    pub(super) fn arrived_directly(&mut self, number: u64) {
        let index = index(number);
        if index <= self.newest || index > self.newest + AHEAD {
            return;
        }
        self.newest = index;
        if index > self.current.index + BEHIND {
            *self = Self { previous: None, ..self.at(index - BEHIND) };
        }
    }

    /// Whether this number is so old that its key is gone.
    pub(super) fn have_lost(&self, number: u64) -> bool {
        index(number) + u64::from(self.previous.is_some()) < self.current.index
    }

    /// The same keys once a later generation is the current one.
    fn at(&self, index: u64) -> Self {
        let before = self.current.at(index - 1);
        Self { current: before.at(index), previous: Some(before.key), newest: self.newest.max(index) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{super::keys::SessionKeys, *};

    const HEADER: &[u8] = b"header";

    fn pair() -> (SealingKeys, OpeningKeys) {
        let secret = SessionKeys::fixed().client;
        (SealingKeys::new(secret.clone()), OpeningKeys::new(secret))
    }

    fn seal(keys: &mut SealingKeys, number: u64) -> BytesMut {
        let mut packet = BytesMut::from(&b"headercontents"[..]);
        keys.seal(number, HEADER.len(), &mut packet);
        packet
    }

    /// Whether the packet opens to what was sealed.
    fn opens(keys: &mut OpeningKeys, number: u64, packet: &BytesMut) -> bool {
        let mut packet = packet.clone();
        let opened = keys.open(number, HEADER.len(), &mut packet).is_some();
        assert!(!opened || packet == b"headercontents"[..]);
        opened
    }

    #[test]
    fn both_sides_renew_their_keys_at_the_same_number() {
        let (mut ours, mut theirs) = pair();
        let first = ours.clone();
        for number in [1, PACKETS - 1, PACKETS, PACKETS + 1, 2 * PACKETS, 5 * PACKETS - 1, 5 * PACKETS] {
            let packet = seal(&mut ours, number);
            assert!(opens(&mut theirs, number, &packet), "{number}");
            assert_eq!((ours.0.index, theirs.current.index), (index(number), index(number)));
        }
        // A key of before opens nothing now, and seals nothing that is taken.
        let number = 5 * PACKETS + 1;
        let packet = seal(&mut ours, number);
        assert!(first.0.key.open(number, HEADER.len(), &mut packet.clone()).is_none());
        let mut forged = BytesMut::from(&b"headercontents"[..]);
        first.0.key.seal(number, HEADER.len(), &mut forged);
        assert!(!opens(&mut theirs, number, &forged));
    }

    #[test]
    fn a_secret_tells_nothing_of_what_was_before() {
        let (mut ours, _) = pair();
        let old = seal(&mut ours, PACKETS - 1);
        let later = ours.0.at(1);
        assert_ne!(later.secret, ours.0.secret);
        assert!(!opens(&mut OpeningKeys::new(later.secret), PACKETS - 1, &old));
    }

    #[test]
    fn a_packet_that_is_late_opens_until_it_counts_as_a_replay() {
        let (mut ours, mut theirs) = pair();
        let late = [PACKETS - 3, PACKETS - 2, PACKETS - 1].map(|number| (number, seal(&mut ours, number)));
        let [next, far] = [PACKETS, PACKETS + WINDOW].map(|number| (number, seal(&mut ours, number)));
        assert!(opens(&mut theirs, late[0].0, &late[0].1));
        assert!(opens(&mut theirs, next.0, &next.1));
        assert!(opens(&mut theirs, late[1].0, &late[1].1));
        assert!(!theirs.have_lost(late[2].0));
        assert!(opens(&mut theirs, far.0, &far.1));
        assert!(theirs.previous.is_none() && theirs.have_lost(late[2].0) && !theirs.have_lost(next.0));
        assert!(!opens(&mut theirs, late[2].0, &late[2].1));
    }

    #[test]
    fn forged_numbers_move_nothing_and_cost_a_bounded_number_of_keys() {
        let (mut ours, mut theirs) = pair();
        for number in [PACKETS, AHEAD * PACKETS, (AHEAD + 1) * PACKETS, 1 << 48, u64::MAX] {
            assert!(!opens(&mut theirs, number, &BytesMut::from(&b"header, and nothing that was sealed"[..])));
            assert_eq!((theirs.current.index, theirs.newest), (0, 0), "{number}");
        }
        let number = AHEAD * PACKETS;
        let packet = seal(&mut ours, number);
        assert!(opens(&mut theirs, number, &packet), "that many were lost in a row");
        theirs.arrived_directly(u64::MAX);
        assert_eq!((theirs.current.index, theirs.newest), (AHEAD, AHEAD));
    }

    #[test]
    fn the_relay_path_follows_the_direct_one() {
        let (mut ours, mut theirs) = pair();
        let mut late = None;
        // Hours of the direct path alone.
        for number in (1..1000 * PACKETS).step_by(PACKETS as usize / 3) {
            ours.reach(number);
            theirs.arrived_directly(number);
            assert_eq!(ours.0.index, index(number));
            assert!(theirs.previous.is_none() && theirs.current.index + BEHIND >= index(number));
            if index(number) == BEHIND && late.is_none() {
                late = Some((number, seal(&mut ours, number)));
            }
            if let Some((late, packet)) = &late {
                let is_lost = index(number) > 2 * BEHIND;
                assert_eq!((opens(&mut theirs.clone(), *late, packet), theirs.have_lost(*late)), (!is_lost, is_lost));
            }
        }
        assert_eq!(theirs.current.index + BEHIND, theirs.newest);
        let packet = seal(&mut ours, 1000 * PACKETS);
        assert!(opens(&mut theirs, 1000 * PACKETS, &packet));
    }

    /// What becomes of a packet.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Lost,
        Direct,
        /// It crosses the relay, and this many others overtake it on the direct path.
        Relay(usize),
    }

    proptest! {
        /// Whatever is lost or late, a packet of the relay opens, unless it is too late.
        #[test]
        fn packets_open_in_every_order(
            packets in prop::collection::vec(
                (
                    prop_oneof![Just(Fate::Lost), Just(Fate::Direct), (0_usize..12).prop_map(Fate::Relay)],
                    prop_oneof![1_u64..5, WINDOW - 2..WINDOW + 2, PACKETS - 2..PACKETS + 2, 1..3 * PACKETS],
                ),
                1..200,
            ),
        ) {
            let (mut ours, mut theirs) = pair();
            let (mut number, mut lost, mut newest) = (0, 0, 0);
            let mut relay = VecDeque::new();
            for (at, (fate, step)) in packets.into_iter().enumerate() {
                // Fewer are lost in a row than the keys allow.
                let fate = if lost + 3 > AHEAD / 3 { Fate::Direct } else { fate };
                lost = if matches!(fate, Fate::Direct) { 0 } else { lost + 1 };
                number += step;
                match fate {
                    Fate::Lost => {}
                    Fate::Direct => {
                        ours.reach(number);
                        theirs.arrived_directly(number);
                        newest = number;
                    }
                    Fate::Relay(late) => relay.push_back((at + late, number, seal(&mut ours, number))),
                }
                // The relay keeps the order.
                while let Some((_, number, packet)) = relay.pop_front_if(|(due, ..)| *due <= at) {
                    let is_lost = theirs.have_lost(number);
                    prop_assert!(!is_lost || index(number) + BEHIND < index(newest), "not as late as that");
                    prop_assert_eq!(opens(&mut theirs, number, &packet), !is_lost);
                    newest = newest.max(number);
                }
            }
        }
    }
}
