//! The end of a frame: what has ended is despawned, and an app that exits leaves.

use bevy::{platform::time::Instant, prelude::*};

use super::{
    UhstClient, UhstHost,
    dispatch::dispatch,
    network::{DeferredEnd, Kind, Network, Owner},
    session::{finish, runs_another, state},
    typed::Inboxes,
};
use crate::protocol::EndReason;

/// Ends every session of an app that exits, and waits until its goodbyes are confirmed.
pub(super) fn leave_on_exit(world: &mut World) {
    dispatch_deferred_ends(world);
    let owners: Vec<Owner> = world.resource::<Network>().owners().collect();
    for owner in owners {
        finish(world, owner, &EndReason::EndedLocally);
    }
    world.flush();
    super::goodbye::leave_and_wait(&mut world.resource_mut::<Network>());
}

/// Dispatches the ends that still wait for readers: an app that exits has no other frame for them.
fn dispatch_deferred_ends(world: &mut World) {
    world.resource_scope(|world, mut inboxes: Mut<Inboxes>| {
        let now = Instant::now();
        let waiting = std::mem::take(&mut world.resource_mut::<Network>().deferred_ends);
        for DeferredEnd { event, .. } in waiting {
            if let Some(owner) = world.resource::<Network>().owner(event.session) {
                dispatch(world, &mut inboxes, owner, event.kind, now);
            }
        }
    });
}

/// Whether anything has ended in this frame.
pub(super) fn something_has_ended(network: Res<Network>) -> bool {
    !network.pending_despawn.is_empty()
}

/// Despawns what has ended in this frame, now that every system could look at it once more.
pub(super) fn despawn_ended(world: &mut World) {
    let pending = std::mem::take(&mut world.resource_mut::<Network>().pending_despawn);
    for peer in pending.peers {
        // Unless the user has.
        if let Ok(peer) = world.get_entity_mut(peer) {
            peer.despawn();
        }
    }
    for owner in pending.sessions {
        let Ok(mut session) = world.get_entity_mut(owner.entity) else { continue };
        // Unless a new session was put there.
        if !runs_another(session.world(), owner.entity, owner.key) {
            session.despawn();
        } else if state(session.world(), owner).is_some() {
            // A new one of the other kind.
            match owner.kind {
                Kind::Host => drop(session.remove::<UhstHost>()),
                Kind::Client => drop(session.remove::<UhstClient>()),
            }
        }
    }
}
