//! Where the messages of a replication backend wait for it.

use bevy::prelude::*;
use bytes::Bytes;

use super::{UhstPeer, receive};
use crate::{
    net::contract::{Held, SessionKey},
    protocol::Tag,
};

/// What has arrived for the backend in this frame. Without this resource there is no backend, and its messages are
/// strays.
#[derive(Resource, Debug, Default)]
pub(crate) struct ReplicationInbox {
    /// The one session that it listens to.
    pub session: Option<SessionKey>,
    /// In the order in which they came. The backend takes them in every frame.
    pub messages: Vec<ReplicationMessage>,
}

/// A message for the backend.
#[derive(Debug)]
pub(crate) struct ReplicationMessage {
    /// From whom.
    pub peer: Entity,
    /// On which of the backend's channels; whether it has so many is not known yet.
    pub channel: u16,
    /// Its content, from a peer that may be anyone.
    pub bytes: Bytes,
    /// Its part of the peer's receive buffer.
    pub held: Held,
}

/// Whether the backend has yet to take messages of this peer.
pub(super) fn has_messages_of(world: &World, peer: Entity) -> bool {
    let inbox = world.get_resource::<ReplicationInbox>();
    inbox.is_some_and(|inbox| inbox.messages.iter().any(|message| message.peer == peer))
}

/// Whether the backend takes messages of this session.
pub(super) fn listens_to(world: &World, session: SessionKey) -> bool {
    world.get_resource::<ReplicationInbox>().is_some_and(|inbox| inbox.session == Some(session))
}

pub(super) fn deliver(world: &mut World, messages: Vec<ReplicationMessage>) {
    if let Some(mut inbox) = world.get_resource_mut::<ReplicationInbox>().filter(|_| !messages.is_empty()) {
        inbox.messages.extend(messages);
    }
}

/// Says once for each peer that it sends on a channel that the backend does not have.
pub(crate) fn report_stray(world: &mut World, peer: Entity, channel: u16) {
    let Some(key) = world.get::<UhstPeer>(peer).map(UhstPeer::key) else { return };
    receive::report_stray(world, key, Tag::Replication(channel));
}
