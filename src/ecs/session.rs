//! What the sessions of a host and of a client have in common.

use bevy::{ecs::world::DeferredWorld, prelude::*};

use super::{
    UhstClient, UhstDisconnected, UhstEnded, UhstHost, UhstPeer,
    network::{Kind, Network},
};
use crate::{
    net::contract::{PeerHandle, SessionHandle, SessionKey},
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
    /// At most one on a client.
    pub peers: Vec<(Entity, PeerHandle)>,
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

    pub fn remove_peer(&mut self, peer: Entity) {
        self.peers.retain(|(entity, _)| *entity != peer);
    }
}

/// The state of this very session, unless its component is gone or runs another one.
pub(super) fn state_mut<'w>(
    world: &'w mut DeferredWorld,
    (kind, entity): (Kind, Entity),
    key: SessionKey,
) -> Option<Mut<'w, SessionState>> {
    let state = match kind {
        Kind::Host => world.get_mut::<UhstHost>(entity)?.map_unchanged(|host| &mut host.state),
        Kind::Client => world.get_mut::<UhstClient>(entity)?.map_unchanged(|client| &mut client.state),
    };
    (state.key == Some(key)).then_some(state)
}

/// Ends a session that has not ended: tells its peers' observers first, then its own.
///
/// Returns whose it was. The entities live on until the end of the frame, or until whoever removes them has done so.
pub(super) fn end_session(world: &mut DeferredWorld, key: SessionKey, reason: &EndReason) -> Option<(Kind, Entity)> {
    let ended = world.get_resource_mut::<Network>()?.end(key)?;
    let owner = (ended.kind, ended.entity);
    if let Some(mut state) = state_mut(world, owner, key) {
        state.phase = Phase::Over;
        state.handle = None;
        state.peers.clear();
    }
    for peer in ended.peers {
        end_peer(world, peer, ended.entity, reason.clone());
    }
    if world.get_entity(ended.entity).is_ok() {
        world.trigger(UhstEnded { entity: ended.entity, reason: reason.clone() });
    }
    Some(owner)
}

/// Tells observers of a peer's end, once, and has its entity despawned at the end of the frame.
pub(super) fn end_peer(world: &mut DeferredWorld, peer: Entity, session: Entity, reason: EndReason) {
    let Some(mut component) = world.get_mut::<UhstPeer>(peer) else { return };
    if component.end() {
        world.resource_mut::<Network>().leftovers.peers.push(peer);
        world.trigger(UhstDisconnected { entity: peer, session, reason });
    }
}

/// The end of a session that starts another one on the same entity, or of one that the user removes.
pub(super) fn on_discard(world: &mut DeferredWorld, key: Option<SessionKey>) {
    if let Some(key) = key {
        end_session(world, key, &EndReason::Left);
    }
}
