//! What the network says, told to the app; and the end of a frame.

use std::time::Duration;

use bevy::{ecs::world::DeferredWorld, platform::time::Instant, prelude::*};

#[cfg(feature = "replicon")]
use super::replication::{self, ReplicationMessage};
use super::{
    PeerOf, UhstClient, UhstConnected, UhstDiagnostic, UhstHost, UhstInterrupted, UhstJoinRequest, UhstMessage,
    UhstPathChanged, UhstPeer, UhstReady, UhstResumed, UhstSession,
    admission::JoinResponder,
    network::{Ending, Kind, Network, Remote, Unread},
    session::{Phase, end_peer, end_session, runs_another, state_mut},
    typed::{DecodeError, Inboxes},
};
use crate::{
    net::contract::{Event, EventKind, PeerKey, Received, SessionKey, inbox_cost},
    protocol::{EndReason, Tag, shown},
};

/// What is told of a message that cannot be read, in bytes, at most.
const MAX_ERROR: usize = 200;
/// The longest diagnostic in bytes: what is longer is cut.
const LONGEST_DIAGNOSTIC: usize = 2000;

/// How long an end waits for systems to read what came before it: in `FixedUpdate`, they have to wait for a step, which
/// a paused app does not make.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// From when on it is reported that messages are kept for so long, and how many bytes of them.
const UNREAD_AGE: Duration = Duration::from_secs(5);
const UNREAD_BYTES: usize = 1 << 20;

/// Whether there is anything to receive, or to make room for: a look at empty queues.
pub(super) fn has_events(network: Res<Network>, inboxes: Res<Inboxes>) -> bool {
    !network.events().is_empty() || !network.ending.is_empty() || !inboxes.are_empty()
}

/// Tells the app what has come up until now. What comes up meanwhile waits for the next frame: a flood cannot hold it.
pub(super) fn receive(world: &mut World) {
    world.resource_scope(|world, mut inboxes: Mut<Inboxes>| {
        let now = Instant::now();
        inboxes.release(world);
        report_unread(world, &inboxes, now);
        let waiting = std::mem::take(&mut world.resource_mut::<Network>().ending);
        for Ending { event, since } in waiting {
            tell_or_wait(world, &mut inboxes, event, (since, now));
        }
        let events = world.resource::<Network>().events().clone();
        for _ in 0..events.len() {
            let Ok(event) = events.try_recv() else { break };
            tell_or_wait(world, &mut inboxes, event, (now, now));
        }
    });
}

/// Tells an event, unless it is an end whose last messages no system could read yet. `times`: when it came, and now.
fn tell_or_wait(world: &mut World, inboxes: &mut Inboxes, event: Event, times: (Instant, Instant)) {
    let (since, now) = times;
    let network = world.resource::<Network>();
    let Some(owner) = network.owner(event.session) else {
        // This side has ended it: only the network's last word counts.
        if let EventKind::Ended { .. } = event.kind {
            world.resource_mut::<Network>().forget(event.session);
        }
        return;
    };
    if now - since < MAX_WAIT && must_wait(world, inboxes, &event) {
        return world.resource_mut::<Network>().ending.push_back(Ending { event, since });
    }
    tell(world, inboxes, (event.session, owner, now), event.kind);
}

fn must_wait(world: &World, inboxes: &Inboxes, event: &Event) -> bool {
    let network = world.resource::<Network>();
    let awaits_readers = |remote: &Remote| {
        #[cfg(feature = "replicon")]
        if replication::has_messages_of(world, remote.entity) {
            return true;
        }
        inboxes.await_readers(world, &remote.handle)
    };
    match event.kind {
        EventKind::Disconnected { peer, .. } => network.peer(event.session, peer).is_some_and(awaits_readers),
        // Peers whose end waits are still among these.
        EventKind::Ended { .. } => network.peers_of(event.session).any(awaits_readers),
        _ => false,
    }
}

/// Tells the ends that still wait, of an app that exits.
fn tell_endings(world: &mut World) {
    world.resource_scope(|world, mut inboxes: Mut<Inboxes>| {
        let now = Instant::now();
        let waiting = std::mem::take(&mut world.resource_mut::<Network>().ending);
        for Ending { event, .. } in waiting {
            if let Some(owner) = world.resource::<Network>().owner(event.session) {
                tell(world, &mut inboxes, (event.session, owner, now), event.kind);
            }
        }
    });
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

/// `about`: the session, its owner, and the time.
fn tell(world: &mut World, inboxes: &mut Inboxes, about: (SessionKey, (Kind, Entity), Instant), event: EventKind) {
    let (key, owner, now) = about;
    let (kind, session) = owner;
    match event {
        EventKind::Messages { peer, messages } => {
            return write_messages(world, inboxes, (key, session, now), peer, messages);
        }
        EventKind::Ready { id, links } => {
            let begun = state_mut(&mut DeferredWorld::from(&mut *world), owner, key).map(|mut state| {
                state.phase = Phase::Ready;
                state.id = Some(id.clone());
                state.links.clone_from(&links);
            });
            if begun.is_some() && kind == Kind::Host {
                // A host whose id the relay picked has no name yet.
                let name = Name::new(format!("host {id}"));
                world.entity_mut(session).insert_if_new(name).insert(UhstSession::Ready);
            }
            world.trigger(UhstReady { entity: session, id: id.clone(), links: links.clone() });
            if kind == Kind::Host {
                // Unless an observer has just ended it.
                world.resource_mut::<Network>().host_is_ready(key, &id, &links);
            }
        }
        EventKind::Links(links) => {
            let mut deferred = DeferredWorld::from(&mut *world);
            let Some(mut state) = state_mut(&mut deferred, owner, key) else { return };
            // `Changed` is for changes alone.
            if state.bypass_change_detection().links != links {
                state.links = links;
            }
        }
        EventKind::JoinRequest { peer, metadata } => {
            let mut deferred = DeferredWorld::from(&mut *world);
            let Some(state) = state_mut(&mut deferred, owner, key) else { return };
            let Some(handle) = &state.handle else { return };
            let Some(commands) = handle.commands() else { return };
            let responder = JoinResponder::new(peer, commands);
            world.trigger(UhstJoinRequest { entity: session, metadata, responder });
        }
        EventKind::Connected { peer, handle, metadata } => {
            if world.get_entity(session).is_err() {
                return;
            }
            if let Some(entity) = world.resource_mut::<Network>().replace_handle(key, peer, &handle) {
                // An original that turned out to be native.
                if let Some(mut component) = world.get_mut::<UhstPeer>(entity) {
                    component.replace_handle(handle.clone(), metadata);
                }
                if let Some(mut state) = state_mut(&mut DeferredWorld::from(&mut *world), owner, key)
                    && let Some((_, known)) =
                        state.bypass_change_detection().peers.iter_mut().find(|(known, _)| *known == entity)
                {
                    *known = handle;
                }
                return;
            }
            let name = match kind {
                Kind::Host if handle.is_local() => Name::new("local peer"),
                Kind::Host => Name::new(format!("peer {}", peer.0)),
                Kind::Client => Name::new("host"),
            };
            let component = UhstPeer::new(kind, (key, peer), handle.clone(), metadata);
            let entity = world.spawn((component, PeerOf(session), name)).id();
            world.resource_mut::<Network>().insert_peer(key, peer, entity, handle.clone());
            let connected = state_mut(&mut DeferredWorld::from(&mut *world), owner, key)
                .map(|mut state| state.peers.push((entity, handle)));
            if connected.is_some() && kind == Kind::Client {
                world.entity_mut(session).insert(UhstSession::Connected);
            }
            world.trigger(UhstConnected { entity, session });
        }
        EventKind::PathChanged { peer, path } => {
            let Some(entity) = world.resource::<Network>().peer(key, peer).map(|remote| remote.entity) else { return };
            world.trigger(UhstPathChanged { entity, path });
        }
        EventKind::Draining => {}
        EventKind::Interrupted { peer, reason } => {
            let Some(entity) = world.resource::<Network>().peer(key, peer).map(|remote| remote.entity) else { return };
            world.trigger(UhstInterrupted { entity, session, reason });
        }
        EventKind::Resumed { peer } => {
            let Some(entity) = world.resource::<Network>().peer(key, peer).map(|remote| remote.entity) else { return };
            world.trigger(UhstResumed { entity, session });
        }
        // Without its host, a client's session is over: between both ends, sending would fail for no reason to see.
        EventKind::Disconnected { reason, .. } if kind == Kind::Client => finish(world, key, &reason),
        EventKind::Disconnected { peer, reason } => {
            let Some(entity) = world.resource_mut::<Network>().remove_peer(key, peer) else { return };
            let mut deferred = DeferredWorld::from(&mut *world);
            if let Some(mut state) = state_mut(&mut deferred, owner, key) {
                state.remove_peer(entity);
            }
            end_peer(&mut deferred, entity, session, reason);
            world.resource_mut::<Network>().leftovers.peers.push(entity);
        }
        EventKind::Diagnostic { peer, text } => {
            let peer = peer.and_then(|peer| Some(world.resource::<Network>().peer(key, peer)?.entity));
            diagnose(world, session, peer, text);
        }
        EventKind::Ended { reason } => {
            finish(world, key, &reason);
            world.resource_mut::<Network>().forget(key);
        }
    }
    // What observers asked for takes effect before the next event.
    world.flush();
}

fn write_messages(
    world: &mut World,
    inboxes: &mut Inboxes,
    (key, session, now): (SessionKey, Entity, Instant),
    from: PeerKey,
    messages: Vec<Received>,
) {
    // One that the user has despawned says nothing more.
    let Some(remote) = world.resource::<Network>().peer(key, from) else { return };
    let cost = |messages: &[Received]| messages.iter().map(|message| inbox_cost(&message.payload)).sum();
    let mut held = remote.handle.hold(cost(&messages));
    let peer = remote.entity;
    #[cfg(feature = "replicon")]
    let (replicating, mut replicated) = (replication::listens_to(world, key), Vec::new());
    let mut unread: Vec<(Unread, String)> = Vec::new();
    let mut report = |kind, text: &dyn Fn() -> String| {
        if !unread.iter().any(|(known, _)| *known == kind) {
            unread.push((kind, text()));
        }
    };
    let told = |Received { channel, payload, .. }| UhstMessage { session, peer, channel, payload };
    let mut messages = messages.into_iter();
    while let Some(tag) = messages.as_slice().first().map(|message| whose(inboxes, message)) {
        let run = messages.as_slice().iter().take_while(|message| whose(inboxes, message) == tag).count();
        let kept = held.split(cost(&messages.as_slice()[..run]));
        match tag {
            Tag::Untyped => {
                world.resource_mut::<Messages<UhstMessage>>().write_batch(messages.by_ref().take(run).map(told));
                inboxes.keep(world, None, kept, now);
                continue;
            }
            #[cfg(feature = "replicon")]
            Tag::Replication(channel) if replicating => {
                let mut kept = kept;
                replicated.extend(messages.by_ref().take(run).map(|message| {
                    let held = kept.split(inbox_cost(&message.payload));
                    ReplicationMessage { peer, channel, bytes: message.payload.into_bytes(), held }
                }));
                continue;
            }
            Tag::Replication(_) => report(Unread::Stray, &|| stray(tag)),
            Tag::Typed(index) => {
                let mut texts = Vec::new();
                let mut refuse = |message: &Received, error: DecodeError| {
                    report(Unread::Undecoded(index), &|| {
                        let name = inboxes.name(index).unwrap_or_default();
                        // It may quote the peer, at any length.
                        let why = error.to_string();
                        format!("a message is no `{name}`: {}", &why[..why.floor_char_boundary(MAX_ERROR)])
                    });
                    // A text that only looks like one may mean something else.
                    if message.tag == Tag::Untyped {
                        texts.push(told(message.clone()));
                    }
                };
                if !inboxes.write(index, world, (session, peer), &messages.as_slice()[..run], &mut refuse) {
                    report(Unread::Stray, &|| stray(tag));
                }
                let kind = texts.is_empty().then_some(index);
                if !texts.is_empty() {
                    world.resource_mut::<Messages<UhstMessage>>().write_batch(texts);
                }
                inboxes.keep(world, kind, kept, now);
            }
        }
        messages.by_ref().take(run).for_each(drop);
    }
    #[cfg(feature = "replicon")]
    replication::deliver(world, replicated);
    for (kind, text) in unread {
        if world.resource_mut::<Network>().is_news(key, from, kind) {
            diagnose(world, session, Some(peer), text);
        }
    }
}

fn whose(inboxes: &Inboxes, message: &Received) -> Tag {
    match message.tag {
        // A text may say itself what it is.
        Tag::Untyped => inboxes.of_text(&message.payload).map_or(Tag::Untyped, Tag::Typed),
        tag => tag,
    }
}

fn stray(tag: Tag) -> String {
    format!("a message for {tag:?}, which this app does not know, was dropped")
}

/// Says once for each peer that nobody here takes such a message.
#[cfg(feature = "replicon")]
pub(super) fn report_stray(world: &mut World, (key, from): (SessionKey, PeerKey), tag: Tag) {
    let mut network = world.resource_mut::<Network>();
    let Some((_, session)) = network.owner(key) else { return };
    let Some(peer) = network.peer(key, from).map(|remote| remote.entity) else { return };
    if network.is_news(key, from, Unread::Stray) {
        diagnose(world, session, Some(peer), stray(tag));
    }
}

fn diagnose(world: &mut World, session: Entity, peer: Option<Entity>, text: String) {
    // Some of it may be in a peer's or a relay's own words.
    let text = shown(&text, LONGEST_DIAGNOSTIC);
    tracing::warn!("{text}");
    world.trigger(UhstDiagnostic { entity: session, peer, text });
    world.flush();
}

/// Ends a session and has its entity despawned at the end of the frame.
fn finish(world: &mut World, key: SessionKey, reason: &EndReason) {
    // Before the events, whose observers look at it.
    if let Some((_, session)) = world.resource::<Network>().owner(key)
        && !runs_another(world, session, key)
        && let Ok(mut session) = world.get_entity_mut(session)
    {
        session.insert(UhstSession::Ended);
    }
    let Some(ended) = end_session(&mut DeferredWorld::from(&mut *world), key, reason) else { return };
    let leftovers = &mut world.resource_mut::<Network>().leftovers;
    leftovers.peers.extend(ended.peers);
    leftovers.sessions.push((key, ended.kind, ended.entity));
}

/// Says goodbye in every session of an app that exits, and waits until it is said.
pub(super) fn leave_on_exit(world: &mut World) {
    tell_endings(world);
    let sessions: Vec<SessionKey> = world.resource::<Network>().owners().collect();
    for key in sessions {
        finish(world, key, &EndReason::EndedLocally);
    }
    world.flush();
    #[cfg(not(target_family = "wasm"))]
    super::goodbye::say(&mut world.resource_mut::<Network>());
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
        if world.get_entity(entity).is_err() {
            continue;
        }
        // Unless a new session was put there.
        if !runs_another(world, entity, key) {
            world.despawn(entity);
        } else if state_mut(&mut DeferredWorld::from(&mut *world), (kind, entity), key).is_some() {
            // A new one of the other kind.
            match kind {
                Kind::Host => drop(world.entity_mut(entity).remove::<UhstHost>()),
                Kind::Client => drop(world.entity_mut(entity).remove::<UhstClient>()),
            }
        }
    }
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
        UhstDisconnected, UhstEnded,
        connection::Path,
        ecs::network::fake::{LIMITS, app, connect, push, push_texts, started},
        net::contract::{PeerHandle, SessionCommand},
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

    #[test]
    fn a_join_request_can_be_answered_in_a_later_frame() {
        let mut app = app();
        app.world_mut().spawn(UhstHost::any_id());
        let mut started = started(&app);
        push(&app, started.key, EventKind::JoinRequest { peer: PeerKey(7), metadata: Bytes::from_static(b"Ann") });
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

    #[test]
    fn what_others_say_is_cut_and_moves_no_cursor() {
        let mut app = app();
        app.world_mut().spawn(UhstHost::any_id());
        let text = format!("the relay sent an unknown relay event: \u{1b}[2J\n\u{9b}31m{}", "ö".repeat(10_000));
        push(&app, started(&app).key, EventKind::Diagnostic { peer: None, text });
        app.update();
        let TestEvent::Diagnostic(event) = &TestLog::of(&app).0[0] else { panic!("{:?}", TestLog::of(&app)) };
        assert!(event.text.starts_with("the relay sent an unknown relay event:  [2J  31mö"), "{}", event.text);
        assert!(event.text.len() <= LONGEST_DIAGNOSTIC && !event.text.contains(char::is_control));
    }
}
