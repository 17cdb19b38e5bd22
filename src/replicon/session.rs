//! Which session is replicon's.

use bevy::prelude::*;

use super::inbox::{ReplicationInbox, Replicon};
use crate::{
    UhstClient, UhstHost, UhstPlugin, UhstSystems,
    ecs::{BackendMessage, Inboxes},
    net::contract::{Held, SessionKey},
};

/// On a session: it is not for replicon. Put it there with the session, as in
/// `commands.spawn((UhstHost::new("chat"), WithoutReplication))`; added later, replicon stops.
#[derive(Component, Reflect, Clone, Copy, Debug, Default)]
#[reflect(Component, Debug, Default)]
pub struct WithoutReplication;

/// The role of replicon in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// A session that replicon may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub role: Role,
    pub entity: Entity,
    pub key: SessionKey,
}

/// The session that is replicon's.
#[derive(Resource, Debug, Default)]
pub(super) struct RepliconSession {
    /// Which plugins were added.
    roles: Vec<Role>,
    current: Option<Session>,
    /// Whether replicon knows that the session before has ended.
    settled: bool,
}

impl RepliconSession {
    /// The session, if it is of this role and nothing of another one is left.
    pub fn of(&self, role: Role) -> Option<Session> {
        self.current.filter(|session| self.settled && session.role == role)
    }

    /// Takes the messages for this role. Those of a new session wait until replicon has forgotten the old one.
    pub fn take(&self, role: Role, inbox: &mut ReplicationInbox) -> Vec<BackendMessage> {
        self.of(role).map(|_| std::mem::take(&mut inbox.messages)).unwrap_or_default()
    }
}

/// The share of the peer's receive buffer that replicon's messages for the game take, for as long as Bevy keeps them.
#[derive(Message, Debug)]
pub(super) struct Handed(#[expect(dead_code, reason = "dropping it makes room")] pub Held);

/// Adds the parts that both plugins need.
struct SessionPlugin;

/// Lets replicon take sessions of this role.
pub(super) fn add_role(app: &mut App, role: Role) {
    if !app.is_plugin_added::<SessionPlugin>() {
        app.add_plugins(SessionPlugin);
    }
    app.world_mut().resource_mut::<RepliconSession>().roles.push(role);
}

impl Plugin for SessionPlugin {
    fn build(&self, app: &mut App) {
        app.world_mut().get_resource_or_init::<Inboxes>().set_backend(Replicon);
        app.init_resource::<RepliconSession>()
            .init_resource::<ReplicationInbox>()
            .add_message::<Handed>()
            .register_type::<WithoutReplication>()
            .add_systems(PreUpdate, choose.before(UhstSystems::Receive));
    }

    fn finish(&self, app: &mut App) {
        if !app.is_plugin_added::<UhstPlugin>() {
            tracing::error!("RepliconUhstPlugins do nothing: add UhstPlugin to the app");
        }
    }
}

/// Keeps the session for as long as it runs, then chooses the running one that was started first. A host that already
/// has peers is not chosen: their first messages for replicon are lost.
fn choose(
    mut session: ResMut<RepliconSession>,
    mut inbox: ResMut<ReplicationInbox>,
    hosts: Query<(Entity, &UhstHost), Without<WithoutReplication>>,
    clients: Query<(Entity, &UhstClient), Without<WithoutReplication>>,
) {
    let session = &mut *session;
    let hosts = hosts.iter().filter(|(_, host)| host.is_running()).filter_map(|(entity, host)| {
        Some((Session { role: Role::Server, entity, key: host.session_key()? }, host.peer_count() == 0))
    });
    let clients = clients.iter().filter(|(_, client)| client.is_running()).filter_map(|(entity, client)| {
        Some((Session { role: Role::Client, entity, key: client.session_key()? }, true))
    });
    let mut first: Option<Session> = None;
    for (candidate, fresh) in hosts.chain(clients).filter(|(candidate, _)| session.roles.contains(&candidate.role)) {
        if session.current == Some(candidate) {
            session.settled = true;
            return;
        }
        if fresh && first.is_none_or(|first| candidate.key < first.key) {
            first = Some(candidate);
        }
    }
    // One frame between two sessions, in which replicon forgets the first.
    session.settled = session.current.is_none();
    session.current = first;
    inbox.session = first.map(|session| session.key);
    inbox.messages.clear();
}
