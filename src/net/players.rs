//! The players of a host, by their keys: one that comes back takes the place of its former self.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{contract::PeerKey, slots::Slot};
use crate::protocol::PublicKey;

/// The players that hold a slot. Locked when one joins, never for a message.
#[derive(Debug, Default)]
pub(super) struct Players(Mutex<HashMap<PublicKey, Player>>);

/// A player, as the last of its peers have come. They may be gone.
#[derive(Debug)]
struct Player {
    slot: Weak<OwnedSemaphorePermit>,
    /// The peer that waits to be admitted.
    joining: Option<PeerKey>,
    /// The peer that the game knows.
    connected: Option<PeerKey>,
}

impl Players {
    /// The slot that this player has already, for its next peer: both hold it until the former one has ended.
    pub fn slot(&self, player: &PublicKey) -> Option<Slot> {
        self.lock().get(player)?.slot.upgrade()
    }

    /// Notes that a player joins as this peer, with this slot, and returns another attempt of it to join.
    pub fn join(&self, player: PublicKey, peer: PeerKey, slot: &Slot) -> Option<PeerKey> {
        let mut players = self.lock();
        // Those whose last peer is gone, with its slot.
        players.retain(|_, player| player.slot.strong_count() > 0);
        let entry = players.entry(player).or_insert(Player { slot: Weak::new(), joining: None, connected: None });
        entry.slot = Arc::downgrade(slot);
        entry.joining.replace(peer).filter(|former| *former != peer)
    }

    /// Notes that a player is connected as this peer, and returns the one that it was before.
    pub fn connect(&self, player: &PublicKey, peer: PeerKey) -> Option<PeerKey> {
        let mut players = self.lock();
        let entry = players.get_mut(player)?;
        entry.joining = entry.joining.filter(|joining| *joining != peer);
        entry.connected.replace(peer).filter(|former| *former != peer)
    }

    /// Whether a player is connected.
    pub fn is_connected(&self, player: &PublicKey) -> bool {
        self.lock().get(player).is_some_and(|player| player.connected.is_some())
    }

    /// Whether a player is joining.
    pub fn is_joining(&self, player: &PublicKey) -> bool {
        self.lock().get(player).is_some_and(|player| player.joining.is_some())
    }

    /// Notes that the game has sent this player away, who is still this peer: it has no place to come back to. Returns its
    /// attempt to join again.
    pub fn dismiss(&self, player: &PublicKey, peer: PeerKey) -> Option<PeerKey> {
        let mut players = self.lock();
        let entry = players.get_mut(player).filter(|entry| entry.connected == Some(peer))?;
        entry.connected = None;
        let joining = entry.joining;
        if joining.is_none() {
            players.remove(player);
        }
        joining
    }

    /// Notes that a player is no longer this peer.
    pub fn leave(&self, player: &PublicKey, peer: PeerKey) {
        if let Some(player) = self.lock().get_mut(player) {
            player.joining = player.joining.filter(|joining| *joining != peer);
            player.connected = player.connected.filter(|connected| *connected != peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Player>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    const ANN: PublicKey = PublicKey::from_bytes([1; 32]);
    const BOB: PublicKey = PublicKey::from_bytes([2; 32]);

    fn slots<const N: usize>() -> [Slot; N] {
        let all = Arc::new(Semaphore::new(N));
        [(); N].map(|()| Arc::new(all.clone().try_acquire_owned().unwrap()))
    }

    #[test]
    fn a_player_that_comes_back_finds_its_slot_and_its_former_self() {
        let players = Players::default();
        let [slot, other] = slots();
        assert!(players.slot(&ANN).is_none());
        assert_eq!(players.join(ANN, PeerKey(1), &slot), None);
        assert_eq!(players.connect(&ANN, PeerKey(1)), None);
        assert_eq!(players.join(BOB, PeerKey(2), &other), None);
        assert_eq!(players.connect(&BOB, PeerKey(2)), None);

        let again = players.slot(&ANN).unwrap();
        assert!(Arc::ptr_eq(&again, &slot));
        assert_eq!(players.join(ANN, PeerKey(3), &again), None);
        // It gives up, and another attempt follows.
        assert_eq!(players.join(ANN, PeerKey(4), &again), Some(PeerKey(3)));
        assert!(players.is_connected(&ANN) && players.is_connected(&BOB));
        assert!(players.is_joining(&ANN) && !players.is_joining(&BOB));
        assert_eq!(players.connect(&ANN, PeerKey(4)), Some(PeerKey(1)));
        assert!(!players.is_joining(&ANN));
        assert_eq!(players.connect(&BOB, PeerKey(2)), None);

        // It gives up again, and one that has ended before was nobody.
        assert_eq!(players.join(ANN, PeerKey(5), &again), None);
        players.leave(&ANN, PeerKey(5));
        assert!(!players.is_joining(&ANN));
        players.leave(&ANN, PeerKey(4));
        assert!(!players.is_connected(&ANN));
        assert_eq!(players.join(ANN, PeerKey(6), &again), None);
        assert_eq!(players.connect(&ANN, PeerKey(6)), None);
    }

    #[test]
    fn who_is_sent_away_has_no_place_to_come_back_to() {
        let players = Players::default();
        let [slot] = slots();
        players.join(ANN, PeerKey(1), &slot);
        players.connect(&ANN, PeerKey(1));
        assert_eq!(players.dismiss(&ANN, PeerKey(7)), None);
        assert!(players.is_connected(&ANN), "another one was meant");
        assert_eq!(players.dismiss(&ANN, PeerKey(1)), None);
        assert!(!players.is_connected(&ANN) && players.slot(&ANN).is_none(), "though its goodbye takes a while");

        // An attempt of before goes on, as a new player.
        players.join(ANN, PeerKey(2), &slot);
        players.connect(&ANN, PeerKey(2));
        players.join(ANN, PeerKey(3), &slot);
        assert_eq!(players.dismiss(&ANN, PeerKey(2)), Some(PeerKey(3)));
        assert!(players.is_joining(&ANN) && !players.is_connected(&ANN) && players.slot(&ANN).is_some());
        assert_eq!(players.connect(&ANN, PeerKey(3)), None);
    }

    #[test]
    fn a_slot_is_free_once_the_last_peer_of_its_player_is_gone() {
        let players = Players::default();
        let [slot, other] = slots();
        players.join(ANN, PeerKey(1), &slot);
        let again = players.slot(&ANN).unwrap();
        drop(slot);
        assert!(players.slot(&ANN).is_some());
        drop(again);
        assert!(players.slot(&ANN).is_none());
        players.join(BOB, PeerKey(2), &other);
        assert_eq!(players.lock().len(), 1, "those who are gone are forgotten");
    }
}
