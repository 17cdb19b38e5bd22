//! Receiving: events of the network are dispatched in the order in which they came.

use std::time::Duration;

use bevy::{platform::time::Instant, prelude::*};

use super::{
    dispatch::dispatch,
    network::{DeferredEnd, Network},
    session,
    typed::Inboxes,
};
use crate::net::contract::{Event, EventKind};

/// How long an end waits for systems to read what came before it: in `FixedUpdate`, they have to wait for a step, which
/// a paused app does not make.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// From when on it is reported that messages are kept for so long, and how many bytes of them.
const UNREAD_AGE: Duration = Duration::from_secs(5);
const UNREAD_BYTES: usize = 1 << 20;

/// Whether there is anything to receive, or to make room for: a look at empty queues.
pub(super) fn has_events(network: Res<Network>, inboxes: Res<Inboxes>) -> bool {
    !network.events().is_empty() || !network.deferred_ends.is_empty() || !inboxes.are_empty()
}

/// Dispatches what has come until now. What comes meanwhile waits for the next frame: a flood cannot hold this one.
pub(super) fn receive(world: &mut World) {
    world.resource_scope(|world, mut inboxes: Mut<Inboxes>| {
        let now = Instant::now();
        inboxes.release(world);
        report_unread(world, &inboxes, now);
        let deferred = std::mem::take(&mut world.resource_mut::<Network>().deferred_ends);
        for DeferredEnd { event, since } in deferred {
            dispatch_or_defer(world, &mut inboxes, event, since, now);
        }
        let events = world.resource::<Network>().events().clone();
        for _ in 0..events.len() {
            let Ok(event) = events.try_recv() else { break };
            dispatch_or_defer(world, &mut inboxes, event, now, now);
        }
    });
}

/// Dispatches an event that came at `since`, unless it is an end before which systems have messages to read.
fn dispatch_or_defer(world: &mut World, inboxes: &mut Inboxes, event: Event, since: Instant, now: Instant) {
    let Some(owner) = world.resource::<Network>().owner(event.session) else {
        // This side has ended it: only the network's last event counts.
        if let EventKind::Ended { .. } = event.kind {
            world.resource_mut::<Network>().forget(event.session);
        }
        return;
    };
    if now - since < MAX_WAIT && awaits_readers(world, inboxes, &event) {
        return world.resource_mut::<Network>().deferred_ends.push_back(DeferredEnd { event, since });
    }
    dispatch(world, inboxes, owner, event.kind, now);
}

/// Whether an event is an end before which systems have messages to read.
fn awaits_readers(world: &World, inboxes: &Inboxes, event: &Event) -> bool {
    if !matches!(event.kind, EventKind::Disconnected { .. } | EventKind::Ended { .. }) {
        return false;
    }
    let owner = world.resource::<Network>().owner(event.session);
    let Some(state) = owner.and_then(|owner| session::state(world, owner)) else { return false };
    match event.kind {
        EventKind::Disconnected { peer, .. } => {
            state.peers.get(peer).is_some_and(|peer| inboxes.await_readers(world, peer))
        }
        // Peers whose end is deferred are still among these.
        _ => state.peers.iter().any(|peer| inboxes.await_readers(world, peer)),
    }
}

/// Reports, once, that messages are kept and not read: in the end, nothing more is received.
fn report_unread(world: &mut World, inboxes: &Inboxes, now: Instant) {
    if world.resource::<Network>().reported_unread || inboxes.older_than(UNREAD_AGE, now) < UNREAD_BYTES {
        return;
    }
    world.resource_mut::<Network>().reported_unread = true;
    tracing::warn!(
        "Bevy keeps messages of peers since {UNREAD_AGE:?}: it drops none while `Time<Virtual>` is paused. A peer whose \
         receive buffer they fill is not heard until they are dropped: to read in a paused app, drain \
         `ResMut<Messages<UhstMessage>>`"
    );
}

#[cfg(test)]
mod tests {
    use bevy::{
        ecs::{schedule::ScheduleLabel, system::ScheduleSystem},
        time::TimeUpdateStrategy,
    };
    use bytes::Bytes;

    use super::*;
    use crate::{
        PeerOf, UhstClient, UhstDisconnected, UhstEnded, UhstHost, UhstMessage, UhstPeer,
        ecs::network::fake::{LIMITS, app, connect, push, push_texts, started},
        net::contract::{PeerHandle, PeerKey, SessionKey, inbox_cost},
        protocol::EndReason,
        test_app::{TestEvent, TestLog},
    };

    /// What systems and observers saw, in order.
    #[derive(Resource, Default)]
    struct Seen(Vec<String>);

    /// An app that notes what its systems read, in a schedule or when they may, and what is told of its peers.
    fn reading<M>(schedule: impl ScheduleLabel, reader: impl IntoScheduleConfigs<ScheduleSystem, M>) -> App {
        let mut app = app();
        app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(5)))
            .init_resource::<Seen>()
            .add_observer(|end: On<UhstDisconnected>, mut seen: ResMut<Seen>| {
                seen.0.push(format!("disconnected: {}", end.reason));
            })
            .add_observer(|end: On<UhstEnded>, mut seen: ResMut<Seen>| seen.0.push(format!("ended: {}", end.reason)))
            .add_systems(schedule, reader);
        app
    }

    /// Looks up each peer that a message comes from.
    fn read(mut messages: MessageReader<UhstMessage>, peers: Query<(&UhstPeer, &PeerOf)>, mut seen: ResMut<Seen>) {
        for message in messages.read() {
            let (peer, of) = peers.get(message.peer).unwrap();
            assert_eq!((&**peer.metadata(), of.0), (&b"me"[..], message.session));
            assert_eq!(peer.send("still a peer"), Ok(()));
            seen.0.push(message.payload.as_text().unwrap().to_owned());
        }
    }

    /// A peer that connects, sends and leaves within one frame, then updates until nothing more is to come.
    fn comes_and_goes(app: &mut App, key: SessionKey) {
        let (handle, commands) = PeerHandle::new(LIMITS);
        // Its task is over.
        drop(commands);
        push(app, key, EventKind::Connected { peer: PeerKey(1), handle, metadata: Bytes::from_static(b"me") });
        push_texts(app, key, 1, &["one", "two"]);
        push_texts(app, key, 1, &["three"]);
        push(app, key, EventKind::Disconnected { peer: PeerKey(1), reason: EndReason::TimedOut });
        for _ in 0..20 {
            app.update();
        }
        assert_eq!(app.world_mut().query::<&UhstPeer>().iter(app.world()).count(), 0);
    }

    #[test]
    fn the_last_messages_of_a_peer_are_read_before_its_end() {
        for mut app in [reading(Update, read), reading(FixedUpdate, read), reading(PostUpdate, read)] {
            app.world_mut().spawn(UhstHost::any_id());
            let key = started(&app).key;
            comes_and_goes(&mut app, key);
            let seen = &app.world().resource::<Seen>().0;
            assert_eq!(*seen, ["one", "two", "three", "disconnected: the other side stopped answering"]);
        }
    }

    #[test]
    fn a_client_and_its_host_end_at_once_after_the_last_messages() {
        for mut app in [reading(Update, read), reading(FixedUpdate, read)] {
            app.world_mut().spawn(UhstClient::join("1"));
            let key = started(&app).key;
            comes_and_goes(&mut app, key);
            // What the network says of the session comes later, and is no news.
            push(&app, key, EventKind::Ended { reason: EndReason::Left });
            app.update();
            let (why, seen) = ("the other side stopped answering", &app.world().resource::<Seen>().0);
            let ends = [format!("disconnected: {why}"), format!("ended: {why}")];
            assert_eq!((&seen[..3], &seen[3..]), (&["one", "two", "three"].map(str::to_owned)[..], &ends[..]));
            assert!(app.world().resource::<Network>().is_idle());
        }
    }

    #[test]
    fn the_end_of_a_session_waits_for_the_last_messages_of_its_peers() {
        let mut app = reading(Update, read);
        app.world_mut().spawn(UhstHost::any_id());
        let key = started(&app).key;
        let (handle, _commands) = PeerHandle::new(LIMITS);
        push(&app, key, EventKind::Connected { peer: PeerKey(1), handle, metadata: Bytes::from_static(b"me") });
        push_texts(&app, key, 1, &["one"]);
        push(&app, key, EventKind::Ended { reason: EndReason::Left });
        for _ in 0..20 {
            app.update();
        }
        assert_eq!(
            app.world().resource::<Seen>().0,
            ["one", "disconnected: the other side left", "ended: the other side left"]
        );
    }

    #[test]
    fn an_end_waits_for_no_fixed_step_of_a_paused_app() {
        let mut app = reading(Update, read);
        // A first fixed step: from then on, Bevy drops messages after steps alone.
        for _ in 0..10 {
            app.update();
        }
        app.world_mut().resource_mut::<Time<Virtual>>().pause();
        app.world_mut().spawn(UhstHost::any_id());
        let key = started(&app).key;
        let (handle, _commands) = PeerHandle::new(LIMITS);
        push(&app, key, EventKind::Connected { peer: PeerKey(1), handle, metadata: Bytes::from_static(b"me") });
        push_texts(&app, key, 1, &["one"]);
        push(&app, key, EventKind::Disconnected { peer: PeerKey(1), reason: EndReason::Left });
        let begun = Instant::now();
        while app.world().resource::<Seen>().0.len() < 2 {
            app.update();
            assert!(begun.elapsed() < Duration::from_secs(20), "it is never told");
        }
        assert_eq!(app.world().resource::<Seen>().0, ["one", "disconnected: the other side left"]);
    }

    #[test]
    fn what_bevy_drops_makes_room_for_more() {
        let mut app = reading(Update, read);
        for _ in 0..10 {
            app.update();
        }
        app.world_mut().spawn(UhstHost::any_id());
        let key = started(&app).key;
        let (handle, _commands) = PeerHandle::new(LIMITS);
        let shared = handle.shared().clone();
        let me = Bytes::from_static(b"me");
        push(&app, key, EventKind::Connected { peer: PeerKey(1), handle, metadata: me });
        app.update();
        let cost = inbox_cost(&"one".into());
        let send = |app: &mut App| {
            shared.delivered(cost);
            push_texts(app, key, 1, &["one"]);
            app.update();
            shared.inbox()
        };
        app.world_mut().resource_mut::<Time<Virtual>>().pause();
        assert_eq!([send(&mut app), send(&mut app)], [cost, 2 * cost]);
        // A game that drains them has read them.
        assert_eq!(app.world_mut().resource_mut::<Messages<UhstMessage>>().drain().count(), 2);
        assert_eq!(send(&mut app), cost);
        app.world_mut().resource_mut::<Time<Virtual>>().unpause();
        for _ in 0..20 {
            app.update();
        }
        assert_eq!(shared.inbox(), 0);
        assert!(app.world().resource::<Inboxes>().are_empty());
    }

    #[test]
    fn sessions_of_one_app_do_not_mix() {
        let mut app = app();
        let host = app.world_mut().spawn(UhstHost::any_id()).id();
        let of_host = started(&app);
        let client = app.world_mut().spawn(UhstClient::join("1")).id();
        let of_client = started(&app);
        // The same number for two peers: it counts within a session.
        let (peer, mut to_peer) = connect(&mut app, of_host.key, 1);
        let (server, mut to_server) = connect(&mut app, of_client.key, 1);
        push_texts(&app, of_client.key, 1, &["from the server"]);
        push_texts(&app, of_host.key, 1, &["from the peer"]);
        app.update();
        let from: Vec<_> = TestLog::of(&app)
            .0
            .iter()
            .filter_map(|event| match event {
                TestEvent::Message(message) => Some((message.session, message.peer)),
                _ => None,
            })
            .collect();
        assert_eq!(from, [(client, server), (host, peer)]);

        app.world().get::<UhstHost>(host).unwrap().broadcast("to the peer");
        assert!(to_peer.try_recv().is_ok() && to_server.try_recv().is_err());
        app.world().get::<UhstClient>(client).unwrap().send("to the server").unwrap();
        assert!(to_peer.try_recv().is_err() && to_server.try_recv().is_ok());
        app.world_mut().despawn(client);
        assert_eq!(app.world().get::<UhstHost>(host).unwrap().peer_count(), 1);
    }
}
