//! The connected peers of one session.

use bevy::prelude::*;

use crate::net::contract::{PeerHandle, PeerKey};

/// A connected peer: who it is to the network and to the app, and how to reach it.
#[derive(Debug)]
pub(super) struct Remote {
    pub key: PeerKey,
    pub entity: Entity,
    pub handle: PeerHandle,
}

/// The connected peers of one session, ordered by key. At most one on a client.
///
/// The network numbers its peers as they come, so that a new one is appended, and one is found by a binary search.
#[derive(Debug, Default)]
pub(super) struct PeerTable(Vec<Remote>);

impl PeerTable {
    /// Adds a peer whose key is new.
    pub fn insert(&mut self, remote: Remote) {
        let place = self.0.partition_point(|known| known.key < remote.key);
        self.0.insert(place, remote);
    }

    pub fn get(&self, key: PeerKey) -> Option<&Remote> {
        self.place(key).map(|place| &self.0[place])
    }

    pub fn remove(&mut self, key: PeerKey) -> Option<Remote> {
        self.place(key).map(|place| self.0.remove(place))
    }

    fn place(&self, key: PeerKey) -> Option<usize> {
        self.0.binary_search_by_key(&key, |remote| remote.key).ok()
    }

    /// The handle of the peer with this entity.
    pub fn handle(&self, entity: Entity) -> Option<&PeerHandle> {
        self.0.iter().find(|remote| remote.entity == entity).map(|remote| &remote.handle)
    }

    /// The peer that joined first: on a client, its host.
    pub fn first(&self) -> Option<&Remote> {
        self.0.first()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Remote> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::network::fake::LIMITS;

    #[test]
    fn peers_are_found_by_key_whatever_the_order_in_which_they_come() {
        let mut table = PeerTable::default();
        let entity = |number| Entity::from_raw_u32(number).unwrap();
        for number in [5, 1, 9, 3] {
            let handle = PeerHandle::new(LIMITS).0;
            table.insert(Remote { key: PeerKey(number.into()), entity: entity(number), handle });
        }
        let found = |table: &PeerTable| -> Vec<_> {
            (0..10).filter_map(|key| Some((key, table.get(PeerKey(key))?.entity))).collect()
        };
        assert_eq!(found(&table), [1, 3, 5, 9].map(|number| (number.into(), entity(number))));
        assert!(table.remove(PeerKey(2)).is_none() && table.remove(PeerKey(1)).is_some());
        assert_eq!(found(&table), [3, 5, 9].map(|number| (number.into(), entity(number))));
        assert!(table.handle(entity(9)).is_some() && table.handle(entity(1)).is_none());
        assert_eq!((table.len(), table.first().map(|remote| remote.entity)), (3, Some(entity(3))));
    }
}
