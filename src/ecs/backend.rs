//! Where messages go that are for a replication backend and not for the game.

use bevy::prelude::*;
use bytes::Bytes;

use crate::net::contract::{Held, SessionKey};

/// Takes the messages with [`Tag::Replication`](crate::protocol::Tag::Replication). Without one, nobody knows them.
pub(crate) trait Backend: Send + Sync {
    /// Whether it takes messages of this session.
    fn listens_to(&self, world: &World, session: SessionKey) -> bool;
    /// Takes messages in the order in which they came.
    fn take(&self, world: &mut World, messages: &mut dyn Iterator<Item = BackendMessage>);
    /// Whether it has yet to handle messages of this peer.
    fn has_messages_of(&self, world: &World, peer: Entity) -> bool;
}

/// A message for the backend.
#[derive(Debug)]
#[cfg_attr(not(feature = "replicon"), expect(dead_code, reason = "no backend reads it"))]
pub(crate) struct BackendMessage {
    /// From whom.
    pub peer: Entity,
    /// On which of the backend's channels; whether it has so many is not known yet.
    pub channel: u16,
    /// Its content, from a peer that may be anyone.
    pub bytes: Bytes,
    /// Its part of the peer's receive buffer.
    pub held: Held,
}
