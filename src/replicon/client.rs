//! Replicon's client over a [`UhstClient`].

use bevy::{ecs::query::QueryFilter, prelude::*};
use bevy_replicon::{
    prelude::*,
    shared::backend::{channels::ServerChannel, connected_client::NetworkId},
};

use super::{
    channels,
    inbox::ReplicationInbox,
    session::{Handed, RepliconSession, Role, add_role},
    stats::{network_id, renew},
};
use crate::{UhstClient, UhstPeer, UhstSystems, ecs::report_unknown_tag, net::contract::SessionKey, protocol::Tag};

/// Makes a [`UhstClient`] replicon's client. Part of [`RepliconUhstPlugins`](super::RepliconUhstPlugins).
#[derive(Debug)]
pub struct RepliconUhstClientPlugin;

impl Plugin for RepliconUhstClientPlugin {
    fn build(&self, app: &mut App) {
        add_role(app, Role::Client);
        app.configure_sets(PreUpdate, ClientSystems::ReceivePackets.after(UhstSystems::Receive))
            .add_systems(PreUpdate, (receive, introduce, measure).chain().in_set(ClientSystems::ReceivePackets))
            .add_systems(PostUpdate, send.in_set(ClientSystems::SendPackets));
    }
}

#[expect(clippy::too_many_arguments, reason = "each is a part of replicon's contract or of ours")]
fn receive(
    session: Res<RepliconSession>,
    mut inbox: ResMut<ReplicationInbox>,
    channels: Res<RepliconChannels>,
    mut messages: ResMut<ClientMessages>,
    state: Res<State<ClientState>>,
    mut next: ResMut<NextState<ClientState>>,
    clients: Query<&UhstClient>,
    mut last: Local<Option<SessionKey>>,
    mut handed: MessageWriter<Handed>,
    mut commands: Commands,
) {
    let now = match session.of(Role::Client).and_then(|session| clients.get(session.entity).ok()) {
        Some(client) if client.is_connected() => {
            *last = client.session_key();
            ClientState::Connected
        }
        // A client that was connected before is about to end.
        Some(client) if client.is_running() && *last != client.session_key() => ClientState::Connecting,
        _ => ClientState::Disconnected,
    };
    if *state.get() != now {
        next.set(now);
    }
    for message in session.take(Role::Client, &mut inbox) {
        if usize::from(message.channel) >= channels.server_channels().len() {
            let tag = Tag::Replication(message.channel);
            commands.queue(move |world: &mut World| report_unknown_tag(world, message.peer, tag));
        } else if now == ClientState::Connected || *state.get() == ClientState::Connected {
            messages.insert_received(usize::from(message.channel), message.bytes);
            if usize::from(message.channel) > ServerChannel::Mutations as usize {
                handed.write(Handed(message.held));
            }
        }
    }
}

/// On its host's entity, a client finds its own number.
fn introduce(
    session: Res<RepliconSession>,
    clients: Query<&UhstClient>,
    hosts: Query<&UhstPeer, Without<NetworkId>>,
    mut commands: Commands,
) {
    if let Some((entity, host)) = host(&session, &clients, &hosts)
        && let Some(id) = network_id(host)
    {
        commands.entity(entity).try_insert(id);
    }
}

fn measure(
    session: Res<RepliconSession>,
    clients: Query<&UhstClient>,
    hosts: Query<&UhstPeer>,
    mut stats: ResMut<ClientStats>,
) {
    if let Some((_, host)) = host(&session, &clients, &hosts)
        && renew(stats.bypass_change_detection(), host)
    {
        stats.set_changed();
    }
}

fn send(
    session: Res<RepliconSession>,
    channels: Res<RepliconChannels>,
    mut messages: ResMut<ClientMessages>,
    clients: Query<&UhstClient>,
    hosts: Query<&UhstPeer>,
) {
    let host = host(&session, &clients, &hosts);
    for (id, message) in messages.drain_sent() {
        // Messages for a host that is gone are lost with it.
        let Some((_, host)) = host else { continue };
        if let Err(error) = channels::send(host, channels.client_channels(), id, message, false) {
            tracing::error!("leaving, since replication cannot go on: {error}");
            host.disconnect();
            break;
        }
    }
}

/// The host that replicon's client is connected to.
fn host<'w, F: QueryFilter>(
    session: &RepliconSession,
    clients: &Query<&UhstClient>,
    hosts: &'w Query<&UhstPeer, F>,
) -> Option<(Entity, &'w UhstPeer)> {
    let entity = clients.get(session.of(Role::Client)?.entity).ok()?.host()?;
    Some((entity, hosts.get(entity).ok()?))
}
