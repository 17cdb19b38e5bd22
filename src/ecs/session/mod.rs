//! The state of a session, and its end: the same for a host and for a client.

use bevy::{ecs::world::DeferredWorld, prelude::*};

use super::{
    Peers, UhstClient, UhstDisconnected, UhstEnded, UhstHost, UhstPeer, UhstSession,
    network::{Kind, Network, Owner},
    peer_table::PeerTable,
    rates::add,
};
use crate::{
    net::contract::{SessionHandle, SessionKey},
    protocol::{EndReason, JoinLink},
};

/// A session as its component sees it.
#[derive(Debug, Default)]
pub(super) struct SessionState {
    pub key: Option<SessionKey>,
    /// Dropping it leaves.
    pub handle: Option<SessionHandle>,
    pub phase: Phase,
    /// As the relay gave it.
    pub id: Option<String>,
    pub links: Vec<JoinLink>,
    pub peers: PeerTable,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not inserted yet, or the plugin is missing.
    #[default]
    Idle,
    Starting,
    Ready,
    Over,
}

impl SessionState {
    pub fn started((key, handle): (SessionKey, Option<SessionHandle>)) -> Self {
        SessionState { key: Some(key), handle, phase: Phase::Starting, ..Default::default() }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Ready)
    }
}

/// The state of this very session, unless its component is gone or runs another one.
pub(super) fn state(world: &World, owner: Owner) -> Option<&SessionState> {
    let state = match owner.kind {
        Kind::Host => &world.get::<UhstHost>(owner.entity)?.state,
        Kind::Client => &world.get::<UhstClient>(owner.entity)?.state,
    };
    (state.key == Some(owner.key)).then_some(state)
}

/// As [`state`], to change it.
pub(super) fn state_mut<'w>(world: &'w mut DeferredWorld, owner: Owner) -> Option<Mut<'w, SessionState>> {
    let state = match owner.kind {
        Kind::Host => world.get_mut::<UhstHost>(owner.entity)?.map_unchanged(|host| &mut host.state),
        Kind::Client => world.get_mut::<UhstClient>(owner.entity)?.map_unchanged(|client| &mut client.state),
    };
    (state.key == Some(owner.key)).then_some(state)
}

/// Whether a session was told to leave, and nothing is on its way that another session of the same player would cut.
pub(super) fn has_left(world: &World, owner: Owner) -> bool {
    let leaves = state(world, owner).and_then(|state| state.handle.as_ref()).is_some_and(SessionHandle::leaves);
    let delivers = |peer: Entity| world.get::<UhstPeer>(peer).is_some_and(|peer| peer.queued() > 0 && peer.has_path());
    leaves && !peers_of(world, owner).into_iter().any(delivers)
}

/// The entities of the peers of a session.
fn peers_of(world: &World, owner: Owner) -> Vec<Entity> {
    match state(world, owner) {
        Some(state) => state.peers.iter().map(|peer| peer.entity).collect(),
        // The component was assigned to: its table is gone, and the peers are still there.
        None => {
            let peers = world.get::<Peers>(owner.entity).into_iter().flat_map(|peers| &**peers).copied();
            peers.filter(|peer| world.get::<UhstPeer>(*peer).is_some_and(|peer| peer.key().0 == owner.key)).collect()
        }
    }
}

/// Ends a session that has not ended: triggers the events of its peers first, then its own. Returns its owner and its
/// peers.
///
/// The caller despawns their entities, after the commands that this queues have run.
pub(super) fn end_session(
    world: &mut DeferredWorld,
    key: SessionKey,
    reason: &EndReason,
) -> Option<(Owner, Vec<Entity>)> {
    let owner = world.get_resource_mut::<Network>()?.end(key, reason)?;
    let peers = peers_of(world, owner);
    if let Some(mut state) = state_mut(world, owner) {
        state.phase = Phase::Over;
        state.handle = None;
        state.peers = PeerTable::default();
    }
    for peer in &peers {
        end_peer(world, *peer, owner.entity, reason.clone());
    }
    world.trigger(UhstEnded { entity: owner.entity, reason: reason.clone() });
    Some((owner, peers))
}

/// Ends a session and has its entity despawned at the end of the frame.
pub(super) fn finish(world: &mut World, owner: Owner, reason: &EndReason) {
    let Owner { key, entity, .. } = owner;
    // Before the events, whose observers look at it.
    if world.resource::<Network>().owner(key).is_some()
        && !runs_another(world, entity, key)
        && let Ok(mut session) = world.get_entity_mut(entity)
    {
        session.insert(UhstSession::Ended);
    }
    let Some((owner, peers)) = end_session(&mut DeferredWorld::from(&mut *world), key, reason) else { return };
    let pending = &mut world.resource_mut::<Network>().pending_despawn;
    pending.peers.extend(peers);
    pending.sessions.push(owner);
}

/// Triggers the event of a peer's end, once.
pub(super) fn end_peer(world: &mut DeferredWorld, peer: Entity, session: Entity, reason: EndReason) {
    if let Some(unconfirmed) = close_peer(world, peer) {
        world.trigger(UhstDisconnected { entity: peer, session, reason, unconfirmed });
    }
}

/// Marks a peer as ended: nothing can be sent to it any more. Returns the bytes that its goodbye did not wait for, or
/// none if it was marked before.
pub(super) fn close_peer(world: &mut DeferredWorld, peer: Entity) -> Option<usize> {
    let mut component = world.get_mut::<UhstPeer>(peer)?;
    let closed = component.close()?;
    if let Some(mut network) = world.get_resource_mut::<Network>() {
        add(&mut network.departed, closed.uncounted);
    }
    Some(closed.unconfirmed)
}

/// Whether this entity runs a session other than this one.
pub(super) fn runs_another(world: &World, entity: Entity, key: SessionKey) -> bool {
    let Ok(entity) = world.get_entity(entity) else { return false };
    let host = entity.get::<UhstHost>().map(|host| &host.state);
    let client = entity.get::<UhstClient>().map(|client| &client.state);
    host.into_iter().chain(client).any(|state| state.key != Some(key) && state.is_running())
}

/// For hooks of a component that runs this session: it is being despawned, removed or replaced.
pub(super) fn leave(world: &mut DeferredWorld, entity: Entity, key: Option<SessionKey>) {
    world.commands().entity(entity).queue_silenced(|mut entity: EntityWorldMut| {
        if !entity.contains::<UhstHost>() && !entity.contains::<UhstClient>() {
            entity.remove::<UhstSession>();
        }
    });
    let ended = key.and_then(|key| end_session(world, key, &EndReason::EndedLocally));
    for peer in ended.into_iter().flat_map(|(_, peers)| peers) {
        world.commands().entity(peer).try_despawn();
    }
}

#[cfg(test)]
mod tests;
