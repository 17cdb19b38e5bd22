//! Replicon's server over a [`UhstHost`].

use std::time::Duration;

use bevy::{ecs::entity::EntityHashSet, platform::time::Instant, prelude::*};
use bevy_replicon::{
    prelude::*,
    server::server_tick::ServerTick,
    shared::backend::{channels::ClientChannel, connected_client::NetworkId},
};

use super::{
    channels::{self, PACKET},
    inbox::ReplicationInbox,
    session::{Handed, RepliconSession, Role, add_role},
    stats::{network_id, renew},
};
use crate::{PeerOf, UhstHost, UhstPeer, UhstSystems, ecs::report_unknown_tag, protocol::Tag};

/// How long a request to disconnect waits for a tick, which takes the last messages along.
const TICK_PATIENCE: Duration = Duration::from_secs(1);

/// Makes a [`UhstHost`] replicon's server. Part of [`RepliconUhstPlugins`](super::RepliconUhstPlugins).
#[derive(Debug)]
pub struct RepliconUhstServerPlugin;

impl Plugin for RepliconUhstServerPlugin {
    fn build(&self, app: &mut App) {
        add_role(app, Role::Server);
        app.configure_sets(PreUpdate, ServerSystems::ReceivePackets.after(UhstSystems::Receive))
            .add_systems(
                PreUpdate,
                (
                    (receive, measure).chain().in_set(ServerSystems::ReceivePackets),
                    release_all.after(ServerSystems::Receive).run_if(is_stopping),
                ),
            )
            .add_systems(PostUpdate, send.in_set(ServerSystems::SendPackets));
        app.world_mut().register_component_hooks::<UhstPeer>().on_remove(|mut world, gone| {
            world.commands().entity(gone.entity).queue_silenced(release);
        });
    }
}

#[expect(clippy::too_many_arguments, reason = "each is a part of replicon's contract or of ours")]
fn receive(
    session: Res<RepliconSession>,
    mut inbox: ResMut<ReplicationInbox>,
    channels: Res<RepliconChannels>,
    mut messages: ResMut<ServerMessages>,
    state: Res<State<ServerState>>,
    mut next: ResMut<NextState<ServerState>>,
    hosts: Query<&UhstHost>,
    peers: Query<(Entity, &UhstPeer, &PeerOf, Has<ConnectedClient>)>,
    mut handed: MessageWriter<Handed>,
    mut commands: Commands,
) {
    let host = session.of(Role::Server).filter(|session| hosts.get(session.entity).is_ok_and(UhstHost::is_ready));
    let now = if host.is_some() { ServerState::Running } else { ServerState::Stopped };
    if *state.get() != now {
        next.set(now);
    }
    let mut newcomers = EntityHashSet::default();
    if let Some(host) = host {
        for (entity, peer, of, is_client) in &peers {
            if is_client || of.0 != host.entity || peer.key().0 != host.key || !peer.is_open() {
                continue;
            }
            let Some(id) = network_id(peer) else { continue };
            let max_size = peer.max_message().min(PACKET);
            commands.entity(entity).try_insert((ConnectedClient { max_size }, id));
            newcomers.insert(entity);
        }
    }
    for message in session.take(Role::Server, &mut inbox) {
        let Ok((client, _, _, is_client)) = peers.get(message.peer) else { continue };
        if usize::from(message.channel) >= channels.client_channels().len() {
            let tag = Tag::Replication(message.channel);
            commands.queue(move |world: &mut World| report_unknown_tag(world, client, tag));
        } else if is_client || newcomers.contains(&client) {
            messages.insert_received(client, usize::from(message.channel), message.bytes);
            if usize::from(message.channel) > ClientChannel::MutationAcks as usize {
                handed.write(Handed(message.held));
            }
        }
    }
}

fn measure(mut clients: Query<(&UhstPeer, &mut ConnectedClientStats)>) {
    for (peer, mut stats) in &mut clients {
        if renew(stats.bypass_change_detection(), peer) {
            stats.set_changed();
        }
    }
}

fn is_stopping(state: Res<State<ServerState>>, next: Res<NextState<ServerState>>) -> bool {
    *state.get() == ServerState::Running && matches!(*next, NextState::Pending(ServerState::Stopped))
}

/// Replicon despawns its clients when it stops, but peers live until the end of the frame they leave in.
fn release_all(clients: Query<Entity, (With<ConnectedClient>, With<UhstPeer>)>, mut commands: Commands) {
    for client in &clients {
        commands.entity(client).queue_silenced(release);
    }
}

/// A peer that is no client of replicon's any more.
fn release(mut peer: EntityWorldMut) {
    peer.remove::<(ConnectedClient, ConnectedClientStats, NetworkId)>();
    peer.remove_with_requires::<AuthorizedClient>();
}

/// A client that is to go, and since when.
struct Leaving {
    client: Entity,
    since: Instant,
}

fn send(
    tick: Res<ServerTick>,
    channels: Res<RepliconChannels>,
    mut messages: ResMut<ServerMessages>,
    mut requests: MessageReader<DisconnectRequest>,
    mut leaving: Local<Vec<Leaving>>,
    clients: Query<&UhstPeer, With<ConnectedClient>>,
    mut commands: Commands,
) {
    leaving.extend(requests.read().map(|request| Leaving { client: request.client, since: Instant::now() }));
    let mut failed = EntityHashSet::default();
    for (client, id, message) in messages.drain_sent() {
        // A client that has left meanwhile, or one whose messages cannot be kept in order any more.
        let Ok(peer) = clients.get(client) else { continue };
        if failed.contains(&client) {
            continue;
        }
        let last = leaving.iter().any(|leaving| leaving.client == client);
        if let Err(error) = channels::send(peer, channels.server_channels(), id, message, last) {
            tracing::error!("disconnecting client `{client}`, since replication cannot go on: {error}");
            failed.insert(client);
            let _ = peer.kick(format!("replication cannot go on: {error}"));
            commands.entity(client).queue_silenced(release);
        }
    }
    leaving.retain(|leaving| {
        // Between ticks replicon keeps back what was written before the request.
        if !tick.is_changed() && leaving.since.elapsed() < TICK_PATIENCE {
            return true;
        }
        if let Ok(peer) = clients.get(leaving.client) {
            let _ = peer.kick("the game has ended the connection");
            commands.entity(leaving.client).queue_silenced(release);
        }
        false
    });
}
