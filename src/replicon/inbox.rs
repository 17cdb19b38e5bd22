//! Where messages wait for replicon.

use bevy::prelude::*;

use crate::{
    ecs::{Backend, BackendMessage},
    net::contract::SessionKey,
};

/// What has arrived for replicon in this frame.
#[derive(Resource, Debug, Default)]
pub(super) struct ReplicationInbox {
    /// The one session that it listens to.
    pub session: Option<SessionKey>,
    /// In the order in which they came. Replicon takes them in every frame.
    pub messages: Vec<BackendMessage>,
}

/// Fills the inbox.
pub(super) struct Replicon;

impl Backend for Replicon {
    fn listens_to(&self, world: &World, session: SessionKey) -> bool {
        world.get_resource::<ReplicationInbox>().is_some_and(|inbox| inbox.session == Some(session))
    }

    fn take(&self, world: &mut World, messages: &mut dyn Iterator<Item = BackendMessage>) {
        if let Some(mut inbox) = world.get_resource_mut::<ReplicationInbox>() {
            inbox.messages.extend(messages);
        }
    }

    fn has_messages_of(&self, world: &World, peer: Entity) -> bool {
        let inbox = world.get_resource::<ReplicationInbox>();
        inbox.is_some_and(|inbox| inbox.messages.iter().any(|message| message.peer == peer))
    }
}
