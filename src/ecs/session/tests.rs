//! Tests of how sessions begin and end, with a network that the tests play.

use bevy::app::AppExit;

use super::*;
use crate::{
    ecs::{
        PeerOf, Peers, UhstReady,
        network::fake::{Started, app, connect, log, push, push_ready, push_texts, started},
    },
    net::contract::{EventKind, PeerCommand, PeerKey, SessionCommand},
};

fn end(app: &App, session: SessionKey, reason: EndReason) {
    push(app, session, EventKind::Ended { reason });
}

fn host_with_two_peers() -> (App, Entity, Started, [Entity; 2]) {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    let started = started(&app);
    push_ready(&app, started.key);
    let (first, _) = connect(&mut app, started.key, 1);
    let (second, _) = connect(&mut app, started.key, 2);
    assert_eq!(log(&mut app), ["ready 483920", "connected", "connected"]);
    (app, session, started, [first, second])
}

#[test]
fn a_session_shows_what_it_is() {
    let (app, session, started, peers) = host_with_two_peers();
    let host = app.world().get::<UhstHost>(session).unwrap();
    assert_eq!((host.id(), host.peer_count(), host.is_ready()), (Some("483920"), 2, true));
    assert_eq!(app.world().get::<Name>(session).unwrap().as_str(), "host 483920");
    assert_eq!(**app.world().get::<Peers>(session).unwrap(), peers);
    assert_eq!(app.world().get::<PeerOf>(peers[1]), Some(&PeerOf(session)));
    assert_eq!(app.world().get::<Name>(peers[1]).unwrap().as_str(), "peer 2");
    drop(started);
}

#[test]
fn despawning_a_session_ends_it_and_its_peers_once() {
    let (mut app, session, mut started, peers) = host_with_two_peers();
    app.add_observer(|end: On<UhstDisconnected>, peers: Query<&PeerOf, With<UhstPeer>>| {
        assert_eq!(peers.get(end.entity), Ok(&PeerOf(end.session)));
    });
    app.world_mut().despawn(session);
    assert_eq!(
        log(&mut app),
        ["disconnected: this side left", "disconnected: this side left", "ended: this side left"]
    );
    assert!(matches!(started.commands.try_recv(), Ok(SessionCommand::Leave)));
    assert!(peers.iter().all(|peer| app.world().get_entity(*peer).is_err()));

    // Whatever the network still says.
    push_texts(&app, started.key, 1, &["late"]);
    push(&app, started.key, EventKind::Disconnected { peer: PeerKey(1), reason: EndReason::EndedLocally });
    end(&app, started.key, EndReason::TimedOut);
    app.update();
    assert!(log(&mut app).is_empty());
    assert!(app.world().resource::<Network>().is_idle());
}

/// The network ends the session and both of its peers, and observers see each end once.
fn both_peers_leave_with(app: &mut App, started: &Started) {
    for peer in [1, 2] {
        push(app, started.key, EventKind::Disconnected { peer: PeerKey(peer), reason: EndReason::EndedLocally });
    }
    end(app, started.key, EndReason::EndedLocally);
    app.update();
    assert_eq!(log(app), ["disconnected: this side left", "disconnected: this side left", "ended: this side left"]);
}

#[test]
fn leaving_lets_observers_see_the_entities() {
    let (mut app, session, mut started, peers) = host_with_two_peers();
    app.add_observer(|end: On<UhstDisconnected>, peers: Query<&UhstPeer>| assert!(peers.contains(end.entity)));
    app.add_observer(|end: On<UhstEnded>, hosts: Query<&UhstHost>| assert!(hosts.contains(end.entity)));
    app.world().get::<UhstHost>(session).unwrap().leave();
    assert!(matches!(started.commands.try_recv(), Ok(SessionCommand::Leave)));
    both_peers_leave_with(&mut app, &started);
    assert!([session, peers[0], peers[1]].iter().all(|entity| app.world().get_entity(*entity).is_err()));
}

#[test]
fn observers_of_one_entity_see_its_end_when_it_is_despawned() {
    #[derive(Resource, Default)]
    struct Seen(usize);
    let mut app = app();
    app.init_resource::<Seen>();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    app.world_mut().entity_mut(session).observe(|_: On<UhstEnded>, mut seen: ResMut<Seen>| seen.0 += 1);
    let key = started(&app).key;
    for number in [1, 2] {
        let (peer, _) = connect(&mut app, key, number);
        app.world_mut().entity_mut(peer).observe(|_: On<UhstDisconnected>, mut seen: ResMut<Seen>| seen.0 += 1);
        if number == 1 {
            app.world_mut().despawn(peer);
        }
    }
    app.world_mut().despawn(session);
    assert_eq!(app.world().resource::<Seen>().0, 3);
}

#[test]
fn removing_the_component_is_leaving_too() {
    let (mut app, session, mut started, peers) = host_with_two_peers();
    app.world_mut().entity_mut(session).remove::<UhstHost>();
    assert_eq!(
        log(&mut app),
        ["disconnected: this side left", "disconnected: this side left", "ended: this side left"]
    );
    assert!(matches!(started.commands.try_recv(), Ok(SessionCommand::Leave)));
    app.update();
    assert!(app.world().get_entity(session).is_ok());
    assert!(peers.iter().all(|peer| app.world().get_entity(*peer).is_err()));
}

#[test]
fn inserting_again_ends_the_old_session_first() {
    let (mut app, session, mut old, _) = host_with_two_peers();
    app.world_mut().entity_mut(session).insert(UhstHost::any_id());
    assert_eq!(
        log(&mut app),
        ["disconnected: this side left", "disconnected: this side left", "ended: this side left"]
    );
    assert!(matches!(old.commands.try_recv(), Ok(SessionCommand::Leave)));

    let new = started(&app);
    end(&app, old.key, EndReason::EndedLocally);
    push_ready(&app, new.key);
    connect(&mut app, new.key, 1);
    assert_eq!(log(&mut app), ["ready 483920", "connected"]);
    assert_eq!(app.world().get::<UhstHost>(session).unwrap().peer_count(), 1);
    assert_eq!(app.world().get::<Peers>(session).unwrap().len(), 1);
}

#[test]
fn a_client_takes_the_place_of_a_host_on_its_entity() {
    let (mut app, session, mut old, _) = host_with_two_peers();
    app.world_mut().entity_mut(session).insert(UhstClient::join("1"));
    assert!(!app.world().entity(session).contains::<UhstHost>());
    assert!(matches!(old.commands.try_recv(), Ok(SessionCommand::Leave)));
    assert_eq!(
        log(&mut app),
        ["disconnected: this side left", "disconnected: this side left", "ended: this side left"]
    );

    let new = started(&app);
    connect(&mut app, new.key, 1);
    assert!(app.world().get::<UhstClient>(session).unwrap().is_connected());
}

#[test]
fn a_session_that_the_network_ends_is_despawned_at_the_end_of_the_frame() {
    let (mut app, session, started, peers) = host_with_two_peers();
    app.add_systems(Update, move |hosts: Query<&UhstHost>, peers: Query<&UhstPeer>| {
        assert!(hosts.get(session).is_ok_and(|host| !host.is_running() && host.peer_count() == 0));
        assert_eq!(peers.iter().len(), 2);
    });
    push(&app, started.key, EventKind::Disconnected { peer: PeerKey(1), reason: EndReason::TimedOut });
    // One that the network forgot to report.
    end(&app, started.key, EndReason::TimedOut);
    app.update();
    let why = EndReason::TimedOut;
    assert_eq!(
        log(&mut app),
        [format!("disconnected: {why}"), format!("disconnected: {why}"), format!("ended: {why}")]
    );
    assert!([session, peers[0], peers[1]].iter().all(|entity| app.world().get_entity(*entity).is_err()));
}

/// The connection knows its own end, and the session may know another name for the same cause.
#[test]
fn a_client_hears_one_reason_for_its_host_and_its_session() {
    let reasons = [
        EndReason::EndedLocally,
        EndReason::Kicked("bye".to_owned()),
        EndReason::TimedOut,
        EndReason::HostRestarted,
        EndReason::Replaced,
        EndReason::TooMuchData,
    ];
    let later =
        [EndReason::EndedLocally, EndReason::TimedOut, EndReason::RelayUnreachable("http://192.0.2.1".to_owned())];
    for (why, session) in reasons.iter().flat_map(|why| later.iter().map(move |later| (why, later))) {
        let mut app = app();
        app.world_mut().spawn(UhstClient::join("1"));
        let started = started(&app);
        connect(&mut app, started.key, 1);
        log(&mut app);
        push(&app, started.key, EventKind::Disconnected { peer: PeerKey(1), reason: why.clone() });
        end(&app, started.key, session.clone());
        app.update();
        assert_eq!(log(&mut app), [format!("disconnected: {why}"), format!("ended: {why}")], "{session:?}");
    }
}

#[test]
fn an_observer_of_the_end_can_try_again_on_the_same_entity() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstClient::join("1")).id();
    app.add_observer(|end: On<UhstEnded>, mut commands: Commands| {
        if end.reason == EndReason::NoSuchHost {
            commands.entity(end.entity).insert(UhstClient::join("2"));
        }
    });
    let first = started(&app);
    end(&app, first.key, EndReason::NoSuchHost);
    app.update();
    assert_eq!(log(&mut app), [format!("ended: {}", EndReason::NoSuchHost)]);
    let second = started(&app);
    connect(&mut app, second.key, 1);
    assert_eq!(log(&mut app), ["connected"]);
    assert!(app.world().get::<UhstClient>(session).unwrap().is_connected());

    app.world_mut().despawn(session);
    assert_eq!(log(&mut app), ["disconnected: this side left", "ended: this side left"]);
}

#[test]
fn assigning_to_the_component_ends_the_session() {
    let (mut app, session, mut started, _) = host_with_two_peers();
    *app.world_mut().get_mut::<UhstHost>(session).unwrap() = UhstHost::new("other");
    assert!(matches!(started.commands.try_recv(), Ok(SessionCommand::Leave)));
    both_peers_leave_with(&mut app, &started);
    assert!(app.world().get_entity(session).is_err());
}

#[test]
fn a_client_may_become_a_host_when_it_ends() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstClient::join("1")).id();
    app.add_observer(|end: On<UhstEnded>, mut commands: Commands| {
        commands.entity(end.entity).insert(UhstHost::any_id());
    });
    end(&app, started(&app).key, EndReason::NoSuchHost);
    app.update();
    app.update();
    let entity = app.world().entity(session);
    assert!(entity.get::<UhstHost>().is_some_and(UhstHost::is_running) && !entity.contains::<UhstClient>());
    assert_eq!(log(&mut app), [format!("ended: {}", EndReason::NoSuchHost)]);
}

#[test]
fn a_spawn_that_is_taken_back_at_once_begins_and_ends() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    app.world_mut().despawn(session);
    assert_eq!(log(&mut app), ["ended: this side left"]);
    assert!(matches!(started(&app).commands.try_recv(), Ok(SessionCommand::Leave)));
}

#[test]
fn a_session_that_an_observer_despawns_tells_nothing_more() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    app.add_observer(|ready: On<UhstReady>, mut commands: Commands| commands.entity(ready.entity).despawn());
    let started = started(&app);
    push_ready(&app, started.key);
    push(&app, started.key, EventKind::Diagnostic { peer: None, text: "late".to_owned() });
    app.update();
    assert_eq!(log(&mut app), ["ready 483920", "ended: this side left"]);
    assert!(app.world().get_entity(session).is_err());
}

#[test]
fn despawning_a_peer_disconnects_it() {
    let mut app = app();
    let session = app.world_mut().spawn(UhstHost::any_id()).id();
    let started = started(&app);
    let (peer, mut commands) = connect(&mut app, started.key, 1);
    log(&mut app);
    app.world_mut().despawn(peer);
    assert_eq!(log(&mut app), ["disconnected: this side left"]);
    assert!(matches!(commands.try_recv(), Ok(PeerCommand::Disconnect(EndReason::EndedLocally))));
    assert_eq!(app.world().get::<UhstHost>(session).unwrap().peer_count(), 0);

    push_texts(&app, started.key, 1, &["late"]);
    push(&app, started.key, EventKind::Disconnected { peer: PeerKey(1), reason: EndReason::EndedLocally });
    app.update();
    assert!(log(&mut app).is_empty());
}

#[test]
fn a_link_that_names_no_session_ends_in_the_next_frame_with_the_reason() {
    let mut app = app();
    app.world_mut().resource_mut::<Network>().fake = None;
    let session = app.world_mut().spawn(UhstClient::join("http://192.168.1.5:3000/")).id();
    assert!(log(&mut app).is_empty());
    app.update();
    assert_eq!(
        log(&mut app),
        ["ended: could not start: this link has no session id: copy it again, with everything after the #"]
    );
    assert!(app.world().get_entity(session).is_err());
    assert!(app.world().resource::<Network>().is_idle());
}

#[test]
fn an_app_that_exits_says_goodbye_and_waits_for_it() {
    let (mut app, session, mut started, _) = host_with_two_peers();
    let sender = app.world().resource::<Network>().sender();
    let network = std::thread::spawn(move || {
        while !matches!(started.commands.blocking_recv(), Some(SessionCommand::Leave)) {}
        std::thread::sleep(std::time::Duration::from_millis(50));
        let kind = EventKind::Ended { reason: EndReason::EndedLocally };
        sender.send(crate::net::contract::Event { session: started.key, kind }).unwrap();
    });
    app.world_mut().write_message(AppExit::Success);
    app.update();
    assert!(app.world().resource::<Network>().is_idle(), "it did not wait");
    network.join().unwrap();
    assert_eq!(
        log(&mut app),
        ["disconnected: this side left", "disconnected: this side left", "ended: this side left"]
    );
    assert!(app.world().get_entity(session).is_err());
}

#[test]
fn an_app_that_exits_waits_a_second_at_most_for_a_silent_network() {
    let (mut app, _, _started, _) = host_with_two_peers();
    app.world_mut().write_message(AppExit::Success);
    let before = std::time::Instant::now();
    app.update();
    assert!(before.elapsed() < std::time::Duration::from_secs(2));
}

#[test]
fn without_the_plugin_nothing_happens() {
    let mut world = World::new();
    let host = world.spawn(UhstHost::any_id()).id();
    let client = world.spawn(UhstClient::join("1")).id();
    world.despawn(host);
    world.despawn(client);
}
