//! What the network reports of a session, turned into components and events.

use bevy::{ecs::world::DeferredWorld, platform::time::Instant, prelude::*};
use bytes::Bytes;

use super::{
    JoinId, PeerOf, UhstConnected, UhstInterrupted, UhstJoinAbandoned, UhstJoinRequest, UhstPathChanged, UhstPeer,
    UhstReady, UhstRejoined, UhstResumed, UhstSession,
    admission::JoinResponder,
    deliver::deliver,
    network::{Kind, Network, Owner},
    peer_table::Remote,
    report::diagnose,
    session::{Phase, end_peer, finish, state, state_mut},
    typed::Inboxes,
};
use crate::{
    net::contract::{EventKind, PeerHandle, PeerKey},
    protocol::{EndReason, JoinLink, PublicKey},
};

/// Applies one event to the world. What observers ask for takes effect before the next one.
pub(super) fn dispatch(world: &mut World, inboxes: &mut Inboxes, owner: Owner, event: EventKind, now: Instant) {
    let session = owner.entity;
    match event {
        EventKind::Messages { peer, messages } => return deliver(world, inboxes, owner, peer, messages, now),
        EventKind::Ready { id, links } => ready(world, owner, id, links),
        EventKind::Links(links) => change_links(world, owner, links),
        EventKind::JoinRequest { peer, metadata, identity } => request(world, owner, (peer, identity), metadata),
        EventKind::JoinAbandoned { peer, reason } => {
            world.trigger(UhstJoinAbandoned { entity: session, join: JoinId((owner.key, peer)), reason });
        }
        EventKind::Connected { peer, handle, metadata } => connect(world, owner, peer, handle, metadata),
        EventKind::Rejoined { peer, former } => {
            if let Some(entity) = entity(world, owner, peer)
                && let Some(former) = self::entity(world, owner, former)
            {
                world.trigger(UhstRejoined { entity, session, former });
            }
        }
        EventKind::PathChanged { peer, path } => {
            if let Some(entity) = entity(world, owner, peer) {
                world.trigger(UhstPathChanged { entity, path });
            }
        }
        EventKind::Draining => {}
        EventKind::Interrupted { peer, reason } => {
            if let Some(entity) = entity(world, owner, peer) {
                world.trigger(UhstInterrupted { entity, session, reason });
            }
        }
        EventKind::Resumed { peer } => {
            if let Some(entity) = entity(world, owner, peer) {
                world.trigger(UhstResumed { entity, session });
            }
        }
        // Without its host, a client's session is over: between both ends, sending would fail for no reason to see.
        EventKind::Disconnected { reason, .. } if owner.kind == Kind::Client => finish(world, owner, &reason),
        EventKind::Disconnected { peer, reason } => disconnect(world, owner, peer, reason),
        EventKind::Diagnostic { peer, text } => {
            let peer = peer.and_then(|peer| entity(world, owner, peer));
            diagnose(world, session, peer, text);
        }
        EventKind::Ended { reason } => {
            finish(world, owner, &reason);
            world.resource_mut::<Network>().forget(owner.key);
        }
    }
    world.flush();
}

/// The entity of a connected peer.
fn entity(world: &World, owner: Owner, peer: PeerKey) -> Option<Entity> {
    Some(state(world, owner)?.peers.get(peer)?.entity)
}

fn ready(world: &mut World, owner: Owner, id: String, links: Vec<JoinLink>) {
    let Owner { key, kind, entity } = owner;
    let known = state_mut(&mut DeferredWorld::from(&mut *world), owner).map(|mut state| {
        state.phase = Phase::Ready;
        state.id = Some(id.clone());
        state.links.clone_from(&links);
    });
    if known.is_some() && kind == Kind::Host {
        // A host whose id the relay picked has no name yet.
        let name = Name::new(format!("host {id}"));
        world.entity_mut(entity).insert_if_new(name).insert(UhstSession::Ready);
    }
    world.trigger(UhstReady { entity, id: id.clone(), links: links.clone() });
    if kind == Kind::Host {
        // Unless an observer has just ended it.
        world.resource_mut::<Network>().host_is_ready(key, &id, &links);
    }
}

fn change_links(world: &mut World, owner: Owner, links: Vec<JoinLink>) {
    let mut world = DeferredWorld::from(world);
    let Some(mut state) = state_mut(&mut world, owner) else { return };
    // `Changed` is for changes alone.
    if state.bypass_change_detection().links != links {
        state.links = links;
    }
}

fn request(world: &mut World, owner: Owner, (peer, identity): (PeerKey, Option<PublicKey>), metadata: Bytes) {
    let commands = state(world, owner).and_then(|state| state.handle.as_ref()?.commands());
    let Some(commands) = commands else { return };
    let (join, responder) = (JoinId((owner.key, peer)), JoinResponder::new(peer, commands));
    world.trigger(UhstJoinRequest { entity: owner.entity, join, metadata, identity, responder });
}

fn connect(world: &mut World, owner: Owner, peer: PeerKey, handle: PeerHandle, metadata: Bytes) {
    let Some(state) = state(world, owner) else { return };
    if let Some(entity) = state.peers.get(peer).map(|known| known.entity) {
        // An original has turned out to be native, and the game knows it already, by the same handle.
        if let Some(mut component) = world.get_mut::<UhstPeer>(entity) {
            component.turn_native(metadata);
        }
        return;
    }
    let session = owner.entity;
    let name = match owner.kind {
        Kind::Host if handle.is_local() => Name::new("local peer"),
        Kind::Host => Name::new(format!("peer {}", peer.0)),
        Kind::Client => Name::new("host"),
    };
    let component = UhstPeer::new(owner.kind, (owner.key, peer), handle.clone(), metadata);
    let entity = world.spawn((component, PeerOf(session), name)).id();
    // Unless an observer of these components has just ended the session.
    let known = state_mut(&mut DeferredWorld::from(&mut *world), owner)
        .map(|mut state| state.peers.insert(Remote { key: peer, entity, handle }));
    if known.is_some() && owner.kind == Kind::Client {
        world.entity_mut(session).insert(UhstSession::Connected);
    }
    world.trigger(UhstConnected { entity, session });
}

fn disconnect(world: &mut World, owner: Owner, peer: PeerKey, reason: EndReason) {
    let mut deferred = DeferredWorld::from(&mut *world);
    let Some(mut state) = state_mut(&mut deferred, owner) else { return };
    let Some(remote) = state.bypass_change_detection().peers.remove(peer) else { return };
    state.set_changed();
    end_peer(&mut deferred, remote.entity, owner.entity, reason);
    world.resource_mut::<Network>().pending_despawn.peers.push(remote.entity);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        UhstHost,
        connection::Path,
        ecs::network::fake::{app, connect, log, push, started},
        net::contract::SessionCommand,
        test_app::{TestEvent, TestLog},
    };

    #[test]
    fn nobody_is_abandoned_after_the_end_of_the_session() {
        let mut app = app();
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        let key = started(&app).key;
        let abandoned = || EventKind::JoinAbandoned { peer: PeerKey(7), reason: EndReason::Left };
        push(&app, key, abandoned());
        app.update();
        assert_eq!(log(&mut app), ["abandoned: the other side left"]);
        app.world_mut().despawn(session);
        push(&app, key, abandoned());
        app.update();
        assert_eq!(log(&mut app), ["ended: this side left"]);
    }

    #[test]
    fn a_join_request_can_be_answered_in_a_later_frame() {
        let mut app = app();
        app.world_mut().spawn(UhstHost::any_id());
        let mut started = started(&app);
        push(
            &app,
            started.key,
            EventKind::JoinRequest { peer: PeerKey(7), metadata: Bytes::from_static(b"Ann"), identity: None },
        );
        app.update();
        assert!(started.commands.try_recv().is_err());
        let TestEvent::JoinRequest(request) = &TestLog::of(&app).0[0] else { panic!("{:?}", TestLog::of(&app)) };
        assert_eq!(&*request.metadata, b"Ann");
        request.responder().accept();
        assert!(matches!(
            started.commands.try_recv(),
            Ok(SessionCommand::Decide { peer: PeerKey(7), decision: Ok(()) })
        ));
    }

    #[test]
    fn events_name_their_entities() {
        let mut app = app();
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        let key = started(&app).key;
        let (peer, _commands) = connect(&mut app, key, 1);
        app.world_mut().resource_mut::<TestLog>().0.clear();
        push(&app, key, EventKind::PathChanged { peer: PeerKey(1), path: Path::Direct });
        push(&app, key, EventKind::Diagnostic { peer: Some(PeerKey(1)), text: "a".to_owned() });
        push(&app, key, EventKind::Diagnostic { peer: Some(PeerKey(2)), text: "b".to_owned() });
        app.update();
        let events = &TestLog::of(&app).0;
        assert!(matches!(&events[0], TestEvent::PathChanged(event) if event.entity == peer));
        assert!(
            matches!(&events[1], TestEvent::Diagnostic(event) if event.entity == session && event.peer == Some(peer))
        );
        assert!(matches!(&events[2], TestEvent::Diagnostic(event) if event.peer.is_none()));
    }
}
