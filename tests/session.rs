//! Sessions of several apps: their beginning, and their single end.

mod support;

use std::time::Duration;

use bevy::{app::AppExit, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use support::{connected, disconnected, ended, until};

fn has_requests(app: &App) -> bool {
    TestLog::of(app).has(|event| matches!(event, TestEvent::JoinRequest(_)))
}

/// Waits until all events of ended sessions have arrived: in each of these apps, another session begins, is joined, left
/// and ended after them. Its events are removed from the log.
#[track_caller]
fn settle(network: &TestNetwork, apps: &mut [&mut App]) {
    for number in 0..apps.len() {
        let session = apps[number].world_mut().spawn(UhstHost::any_id()).id();
        let mut id = None;
        until(apps, |apps| {
            id = apps[number].world().get::<UhstHost>(session).and_then(UhstHost::id).map(str::to_owned);
            id.is_some()
        });
        let mut guest = network.join_with(UhstClient::join(id.expect("an id")));
        let mut all: Vec<&mut App> = apps.iter_mut().map(|app| &mut **app).collect();
        all.push(&mut guest);
        until(&mut all, |apps| connected(apps.last().expect("the guest")) == 1);
        drop(guest);
        let gone = |event: &TestEvent| matches!(event, TestEvent::Disconnected(event) if event.session == session);
        until(apps, |apps| TestLog::of(apps[number]).has(gone));
        apps[number].world().get::<UhstHost>(session).expect("a host").leave();
        let over = |event: &TestEvent| matches!(event, TestEvent::Ended(event) if event.entity == session);
        until(apps, |apps| TestLog::of(apps[number]).has(over));
        apps[number].world_mut().resource_mut::<TestLog>().0.retain(|event| match event {
            TestEvent::Connected(event) => event.session != session,
            TestEvent::Disconnected(event) => event.session != session,
            TestEvent::Ended(event) => event.entity != session,
            _ => true,
        });
    }
}

fn session<C: Component>(app: &mut App) -> Entity {
    app.world_mut().query_filtered::<Entity, With<C>>().single(app.world()).expect("one session")
}

fn peer(app: &mut App) -> Entity {
    session::<UhstPeer>(app)
}

#[test_log::test]
fn a_client_that_is_despawned_has_left() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    let entity = session::<UhstClient>(&mut client);
    client.world_mut().despawn(entity);
    assert_eq!((disconnected(&client), ended(&client)), (vec![EndReason::EndedLocally], vec![EndReason::EndedLocally]));
    until(&mut [&mut host, &mut client], |apps| !disconnected(apps[0]).is_empty());
    settle(&network, &mut [&mut host, &mut client]);
    assert_eq!((disconnected(&host), ended(&host)), (vec![EndReason::Left], vec![]));
    assert_eq!((disconnected(&client).len(), ended(&client).len()), (1, 1));
    assert_eq!(host.world_mut().query::<&UhstPeer>().iter(host.world()).count(), 0);
}

#[test_log::test]
fn a_host_that_leaves_ends_the_sessions_of_its_peers() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    let mut other = network.join(&host);
    until(&mut [&mut host, &mut client, &mut other], |apps| connected(apps[0]) == 2 && connected(apps[2]) == 1);
    let entity = session::<UhstHost>(&mut host);
    host.world().get::<UhstHost>(entity).unwrap().leave();
    until(&mut [&mut host, &mut client, &mut other], |apps| apps.iter().all(|app| !ended(app).is_empty()));
    settle(&network, &mut [&mut host, &mut client, &mut other]);
    assert_eq!((disconnected(&host), ended(&host)), (vec![EndReason::EndedLocally; 2], vec![EndReason::EndedLocally]));
    for app in [&client, &other] {
        assert_eq!((disconnected(app), ended(app)), (vec![EndReason::Left], vec![EndReason::Left]));
    }
    assert!(host.world().get_entity(entity).is_err());
}

#[test_log::test]
fn a_client_that_is_despawned_while_it_joins_leaves_nothing_behind() {
    let network = TestNetwork::memory();
    let mut host = network.host("game");
    let mut client = network.app();
    for frames in 0..20 {
        let entity = client.world_mut().spawn(UhstClient::from(link(&host))).id();
        for _ in 0..frames {
            client.update();
            host.update();
            std::thread::sleep(Duration::from_micros(100));
        }
        client.world_mut().despawn(entity);
    }
    until(&mut [&mut host, &mut client], |apps| connected(apps[0]) == disconnected(apps[0]).len());
    settle(&network, &mut [&mut host, &mut client]);
    assert_eq!(connected(&host), disconnected(&host).len());
    assert_eq!(connected(&client), disconnected(&client).len());
    assert_eq!(ended(&client), vec![EndReason::EndedLocally; 20]);
}

#[test_log::test]
fn an_id_is_hosted_once() {
    let network = TestNetwork::memory();
    let mut first = network.host("game");
    let mut second = network.app();
    second.world_mut().spawn(UhstHost::new("game"));
    until(&mut [&mut first, &mut second], |apps| !ended(apps[1]).is_empty());
    assert_eq!(ended(&second), [EndReason::HostIdInUse]);
    assert!(ended(&first).is_empty());

    // The place is free again once the first player has left.
    let entity = session::<UhstHost>(&mut first);
    first.world_mut().despawn(entity);
    until(&mut [&mut first, &mut second], |apps| {
        if !TestLog::of(apps[1]).has(|event| matches!(event, TestEvent::Ready(_))) {
            let hosts = apps[1].world_mut().query::<&UhstHost>().iter(apps[1].world()).count();
            if hosts == 0 {
                apps[1].world_mut().spawn(UhstHost::new("game"));
            }
            return false;
        }
        true
    });
}

#[test_log::test]
fn a_host_without_an_id_gets_one_that_can_be_joined() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::any_id());
    let entity = session::<UhstHost>(&mut host);
    let id = host.world().get::<UhstHost>(entity).unwrap().id().unwrap().to_owned();
    assert_eq!(id.len(), 6);
    let mut client = network.join_with(UhstClient::join(id));
    until(&mut [&mut host, &mut client], |apps| connected(apps[1]) == 1);
}

#[test_log::test]
fn joining_nobody_ends_with_the_reason() {
    let network = TestNetwork::memory();
    let mut client = network.join_with(UhstClient::join("nobody"));
    until(&mut [&mut client], |apps| !ended(apps[0]).is_empty());
    assert_eq!((ended(&client), connected(&client)), (vec![EndReason::NoSuchHost], 0));
}

#[test_log::test]
fn a_kicked_player_is_told_why() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    let (entity, player) = (session::<UhstHost>(&mut host), peer(&mut host));
    host.world().get::<UhstHost>(entity).unwrap().kick(player, "cheating").unwrap();
    until(&mut [&mut host, &mut client], |apps| !ended(apps[1]).is_empty() && !disconnected(apps[0]).is_empty());
    let kicked = EndReason::Kicked("cheating".to_owned());
    assert_eq!((disconnected(&client), ended(&client)), (vec![kicked.clone()], vec![kicked]));
    settle(&network, &mut [&mut host, &mut client]);
    assert_eq!((disconnected(&host).len(), ended(&host).len()), (1, 0));
}

#[test_log::test]
fn a_host_that_despawns_a_peer_disconnects_it() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    let player = peer(&mut host);
    host.world_mut().despawn(player);
    until(&mut [&mut host, &mut client], |apps| !ended(apps[1]).is_empty());
    settle(&network, &mut [&mut host, &mut client]);
    assert_eq!((disconnected(&host), ended(&host)), (vec![EndReason::EndedLocally], vec![]));
    assert_eq!((disconnected(&client), ended(&client)), (vec![EndReason::Left], vec![EndReason::Left]));
}

#[test_log::test]
fn a_client_that_despawns_its_host_has_left() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    let server = peer(&mut client);
    client.world_mut().despawn(server);
    until(&mut [&mut host, &mut client], |apps| !ended(apps[1]).is_empty() && !disconnected(apps[0]).is_empty());
    settle(&network, &mut [&mut host, &mut client]);
    assert_eq!((disconnected(&client), ended(&client)), (vec![EndReason::EndedLocally], vec![EndReason::EndedLocally]));
    assert_eq!(disconnected(&host), [EndReason::Left]);
}

#[test_log::test]
fn a_full_session_turns_others_away() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").max_peers(1));
    let mut first = network.join(&host);
    until(&mut [&mut host, &mut first], |apps| connected(apps[1]) == 1 && connected(apps[0]) == 1);
    let mut second = network.join(&host);
    until(&mut [&mut host, &mut first, &mut second], |apps| !ended(apps[2]).is_empty());
    assert_eq!((ended(&second), connected(&second)), (vec![EndReason::Full], 0));
    assert_eq!((connected(&host), ended(&first).len()), (1, 0));

    let entity = session::<UhstClient>(&mut first);
    first.world_mut().despawn(entity);
    until(&mut [&mut host, &mut first], |apps| !disconnected(apps[0]).is_empty());
    let mut third = network.join(&host);
    until(&mut [&mut host, &mut third], |apps| connected(apps[1]) == 1);
}

#[test_log::test]
fn a_password_lets_in_who_knows_it() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").password("swordfish"));
    let mut wrong = network.join_with(UhstClient::from(link(&host)).password("trout"));
    let mut none = network.join(&host);
    let mut right = network.join_with(UhstClient::from(link(&host)).password("swordfish"));
    until(&mut [&mut host, &mut wrong, &mut none, &mut right], |apps| {
        !ended(apps[1]).is_empty() && !ended(apps[2]).is_empty() && connected(apps[3]) == 1 && connected(apps[0]) == 1
    });
    for app in [&wrong, &none] {
        assert_eq!((ended(app), connected(app)), (vec![EndReason::WrongPassword], 0));
    }
    settle(&network, &mut [&mut host, &mut right]);
    assert_eq!((connected(&host), ended(&right).len()), (1, 0));
}

#[test_log::test]
fn a_host_that_is_asked_accepts_or_refuses() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").admission(Admission::Ask).metadata(&b"the host"[..]));
    host.add_observer(|request: On<UhstJoinRequest>| match &*request.metadata {
        b"Ann" => request.accept(),
        name => request.refuse(format!("no {}", String::from_utf8_lossy(name))),
    });
    let mut ann = network.join_with(UhstClient::from(link(&host)).metadata(&b"Ann"[..]));
    let mut bob = network.join_with(UhstClient::from(link(&host)).metadata(&b"Bob"[..]));
    until(&mut [&mut host, &mut ann, &mut bob], |apps| connected(apps[1]) == 1 && !ended(apps[2]).is_empty());
    assert_eq!((ended(&bob), connected(&bob)), (vec![EndReason::Refused("no Bob".to_owned())], 0));
    until(&mut [&mut host], |apps| connected(apps[0]) == 1);
    let (player, server) = (peer(&mut host), peer(&mut ann));
    assert_eq!(&**host.world().get::<UhstPeer>(player).unwrap().metadata(), b"Ann");
    assert_eq!(&**ann.world().get::<UhstPeer>(server).unwrap().metadata(), b"the host");
}

#[test_log::test]
fn a_host_may_take_its_time_to_answer() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").admission(Admission::Ask));
    let mut client = network.join(&host);
    until(&mut [&mut host, &mut client], |apps| has_requests(apps[0]));
    settle(&network, &mut [&mut host, &mut client]);
    assert_eq!((connected(&client), ended(&client).len()), (0, 0));
    let responder = TestLog::of(&host).0.iter().find_map(|event| match event {
        TestEvent::JoinRequest(request) => Some(request.responder()),
        _ => None,
    });
    responder.unwrap().accept();
    until(&mut [&mut host, &mut client], |apps| connected(apps[0]) == 1 && connected(apps[1]) == 1);
}

#[test_log::test]
fn an_app_may_host_and_join_at_once() {
    let network = TestNetwork::memory();
    let mut far = network.host("far");
    let (mut near, mut guest) = network.pair("near");
    near.world_mut().spawn(UhstClient::from(link(&far)));
    until(&mut [&mut far, &mut near, &mut guest], |apps| connected(apps[0]) == 1 && connected(apps[1]) == 2);
    let hosting = session::<UhstHost>(&mut near);
    let joined = session::<UhstClient>(&mut near);
    near.world().get::<UhstHost>(hosting).unwrap().broadcast("to the guest");
    near.world().get::<UhstClient>(joined).unwrap().send("to the far host").unwrap();
    until(&mut [&mut far, &mut near, &mut guest], |apps| {
        !TestLog::of(apps[0]).texts().is_empty() && !TestLog::of(apps[2]).texts().is_empty()
    });
    assert_eq!(TestLog::of(&far).texts(), ["to the far host"]);
    assert_eq!(TestLog::of(&guest).texts(), ["to the guest"]);

    near.world_mut().despawn(joined);
    until(&mut [&mut far, &mut near, &mut guest], |apps| !disconnected(apps[0]).is_empty());
    assert_eq!(near.world().get::<UhstHost>(hosting).unwrap().peer_count(), 1);
    assert!(ended(&guest).is_empty());
}

#[test_log::test]
fn an_app_that_exits_says_goodbye() {
    let network = TestNetwork::memory();
    let (mut host, mut client) = network.pair("game");
    host.world_mut().write_message(AppExit::Success);
    host.update();
    assert_eq!((disconnected(&host), ended(&host)), (vec![EndReason::EndedLocally], vec![EndReason::EndedLocally]));
    drop(host);
    until(&mut [&mut client], |apps| !ended(apps[0]).is_empty());
    assert_eq!(ended(&client), [EndReason::Left]);
}

#[test_log::test]
fn an_app_that_is_dropped_is_noticed() {
    let (host, mut client) = TestNetwork::memory().pair("game");
    drop(host);
    until(&mut [&mut client], |apps| !ended(apps[0]).is_empty());
    assert_eq!((disconnected(&client).len(), ended(&client).len()), (1, 1));
}

#[test_log::test]
fn the_runtime_may_be_the_apps_own() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let network = TestNetwork::memory();
    let mut host = App::new();
    let plugin = UhstPlugin::host("game").relay(network.relay()).runtime(runtime.handle().clone());
    host.add_plugins((MinimalPlugins, plugin));
    bevy_uhst::test_app::record(&mut host);
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
    let mut client = network.join(&host);
    until(&mut [&mut host, &mut client], |apps| connected(apps[1]) == 1);
}

#[test_log::test]
fn conditions_follow_the_sessions() {
    use bevy::ecs::system::RunSystemOnce;
    type Now = (bool, bool, bool, bool);
    fn now(app: &mut App) -> Now {
        let world = app.world_mut();
        (
            world.run_system_once(bevy_uhst::hosting).unwrap(),
            world.run_system_once(bevy_uhst::joining).unwrap(),
            world.run_system_once(bevy_uhst::connected).unwrap(),
            world.run_system_once(bevy_uhst::offline).unwrap(),
        )
    }
    let network = TestNetwork::memory();
    assert_eq!(now(&mut network.app()), (false, false, false, true));
    let mut host = network.host("game");
    assert_eq!(now(&mut host), (true, false, false, false));
    let mut client = network.join(&host);
    assert_eq!(now(&mut client), (false, true, false, false));
    until(&mut [&mut host, &mut client], |apps| connected(apps[1]) == 1);
    assert_eq!(now(&mut client), (false, false, true, false));
    let entity = session::<UhstHost>(&mut host);
    host.world_mut().despawn(entity);
    assert_eq!(now(&mut host), (false, false, false, true));
    until(&mut [&mut host, &mut client], |apps| !ended(apps[1]).is_empty());
    assert_eq!(now(&mut client), (false, false, false, true));
}

#[cfg(feature = "relay")]
#[test_log::test]
fn apps_meet_over_a_real_relay() {
    let (mut host, mut client) = TestNetwork::loopback().pair("game");
    let entity = session::<UhstClient>(&mut client);
    client.world().get::<UhstClient>(entity).unwrap().send("hello").unwrap();
    until(&mut [&mut host, &mut client], |apps| TestLog::of(apps[0]).texts() == ["hello"]);
    let player = peer(&mut host);
    host.world().get::<UhstPeer>(player).unwrap().send("welcome").unwrap();
    until(&mut [&mut host, &mut client], |apps| TestLog::of(apps[1]).texts() == ["welcome"]);
    host.world_mut().write_message(AppExit::Success);
    host.update();
    until(&mut [&mut client], |apps| !ended(apps[0]).is_empty());
    assert_eq!(ended(&client), [EndReason::Left]);
}
