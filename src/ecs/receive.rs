//! What the network says, told to the app; and the end of a frame.

use bevy::{ecs::world::DeferredWorld, prelude::*};

use super::{
    PeerOf, UhstConnected, UhstDiagnostic, UhstJoinRequest, UhstMessage, UhstPathChanged, UhstPeer, UhstReady,
    admission::JoinResponder,
    network::{Kind, Network},
    session::{Phase, end_peer, end_session, state_mut},
};
use crate::{
    net::contract::{Event, EventKind, PeerKey, Received, SessionKey, inbox_cost},
    protocol::EndReason,
};

/// How long an app that exits waits for its goodbyes.
#[cfg(not(target_family = "wasm"))]
const EXIT_PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// Whether there is anything to receive: one look at an empty queue.
pub(super) fn has_events(network: Res<Network>) -> bool {
    !network.events().is_empty()
}

/// Tells the app what has come up until now. What comes up meanwhile waits for the next frame: a flood cannot hold it.
pub(super) fn receive(world: &mut World) {
    let events = world.resource::<Network>().events().clone();
    for _ in 0..events.len() {
        let Ok(Event { session: key, kind }) = events.try_recv() else { break };
        let Some(owner) = world.resource::<Network>().owner(key) else {
            // This side has ended it: only the network's last word counts.
            if let EventKind::Ended { .. } = kind {
                world.resource_mut::<Network>().forget(key);
            }
            continue;
        };
        tell(world, key, owner, kind);
    }
}

fn tell(world: &mut World, key: SessionKey, owner: (Kind, Entity), event: EventKind) {
    let (kind, session) = owner;
    match event {
        EventKind::Messages { peer, messages } => write_messages(world, key, session, peer, messages),
        EventKind::Ready { id, links } => {
            if let Some(mut state) = state_mut(&mut DeferredWorld::from(&mut *world), owner, key) {
                state.phase = Phase::Ready;
                state.id = Some(id.clone());
                state.links.clone_from(&links);
            }
            if kind == Kind::Host
                && let Ok(mut entity) = world.get_entity_mut(session)
            {
                // A host whose id the relay picked has no name yet.
                entity.insert_if_new(Name::new(format!("host {id}")));
            }
            world.trigger(UhstReady { entity: session, id, links });
        }
        EventKind::JoinRequest { peer, metadata } => {
            let mut deferred = DeferredWorld::from(&mut *world);
            let Some(state) = state_mut(&mut deferred, owner, key) else { return };
            let Some(handle) = &state.handle else { return };
            let responder = JoinResponder::new(peer, handle.commands());
            world.trigger(UhstJoinRequest { entity: session, metadata, responder });
        }
        EventKind::Connected { peer, handle, metadata } => {
            if world.get_entity(session).is_err() {
                return;
            }
            let name = match kind {
                Kind::Host => Name::new(format!("peer {}", peer.0)),
                Kind::Client => Name::new("host"),
            };
            let component = UhstPeer::new(kind, (key, peer), handle.clone(), metadata);
            let entity = world.spawn((component, PeerOf(session), name)).id();
            world.resource_mut::<Network>().insert_peer(key, peer, entity, handle.clone());
            if let Some(mut state) = state_mut(&mut DeferredWorld::from(&mut *world), owner, key) {
                state.peers.push((entity, handle));
            }
            world.trigger(UhstConnected { entity, session });
        }
        EventKind::PathChanged { peer, path } => {
            let Some(entity) = world.resource::<Network>().peer(key, peer).map(|remote| remote.entity) else { return };
            world.trigger(UhstPathChanged { entity, path });
        }
        EventKind::Disconnected { peer, reason } => {
            let Some(entity) = world.resource_mut::<Network>().remove_peer(key, peer) else { return };
            let mut deferred = DeferredWorld::from(&mut *world);
            if let Some(mut state) = state_mut(&mut deferred, owner, key) {
                state.remove_peer(entity);
            }
            end_peer(&mut deferred, entity, session, reason);
        }
        EventKind::Diagnostic { peer, text } => {
            tracing::warn!("{text}");
            let peer = peer.and_then(|peer| Some(world.resource::<Network>().peer(key, peer)?.entity));
            world.trigger(UhstDiagnostic { entity: session, peer, text });
        }
        EventKind::Ended { reason } => {
            finish(world, key, &reason);
            world.resource_mut::<Network>().forget(key);
        }
    }
    // What observers asked for takes effect before the next event.
    world.flush();
}

fn write_messages(world: &mut World, key: SessionKey, session: Entity, peer: PeerKey, messages: Vec<Received>) {
    // One that the user has despawned says nothing more.
    let Some(remote) = world.resource::<Network>().peer(key, peer) else { return };
    remote.handle.taken(messages.iter().map(|message| inbox_cost(&message.payload)).sum());
    let peer = remote.entity;
    world.resource_mut::<Messages<UhstMessage>>().write_batch(
        messages.into_iter().map(|Received { channel, payload }| UhstMessage { session, peer, channel, payload }),
    );
}

/// Ends a session and has its entity despawned at the end of the frame.
fn finish(world: &mut World, key: SessionKey, reason: &EndReason) {
    let owner = end_session(&mut DeferredWorld::from(&mut *world), key, reason);
    if let Some((kind, entity)) = owner {
        world.resource_mut::<Network>().leftovers.sessions.push((key, kind, entity));
    }
}

/// Says goodbye in every session of an app that exits, and waits until it is said.
pub(super) fn leave_on_exit(world: &mut World) {
    let sessions: Vec<SessionKey> = world.resource::<Network>().owners().collect();
    for key in sessions {
        finish(world, key, &EndReason::Left);
    }
    world.flush();
    #[cfg(not(target_family = "wasm"))]
    {
        let mut network = world.resource_mut::<Network>();
        let deadline = std::time::Instant::now() + EXIT_PATIENCE;
        while !network.is_idle() {
            let Ok(event) = network.events().recv_deadline(deadline) else {
                tracing::warn!("left without a goodbye: the network did not answer in time");
                break;
            };
            if let EventKind::Ended { .. } = event.kind {
                network.forget(event.session);
            }
        }
    }
}

/// Whether anything has ended in this frame.
pub(super) fn has_leftovers(network: Res<Network>) -> bool {
    !network.leftovers.is_empty()
}

/// Despawns what has ended in this frame, now that every system could look at it once more.
pub(super) fn despawn_leftovers(world: &mut World) {
    let leftovers = std::mem::take(&mut world.resource_mut::<Network>().leftovers);
    for peer in leftovers.peers {
        // Unless the user has.
        if let Ok(peer) = world.get_entity_mut(peer) {
            peer.despawn();
        }
    }
    for (key, kind, entity) in leftovers.sessions {
        let mut deferred = DeferredWorld::from(&mut *world);
        // Unless the user has, or has put a new session there.
        if state_mut(&mut deferred, (kind, entity), key).is_none() {
            continue;
        }
        let replaced = match kind {
            Kind::Host => world.get::<super::UhstClient>(entity).is_some_and(super::UhstClient::is_running),
            Kind::Client => world.get::<super::UhstHost>(entity).is_some_and(super::UhstHost::is_running),
        };
        match kind {
            _ if !replaced => drop(world.despawn(entity)),
            Kind::Host => drop(world.entity_mut(entity).remove::<super::UhstHost>()),
            Kind::Client => drop(world.entity_mut(entity).remove::<super::UhstClient>()),
        }
    }
}
