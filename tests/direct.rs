//! The direct path: connections move to it as soon as possible, and back to the relay when it fails.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::RelayConfig,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use support::{PATIENCE, StandaloneRelay, connected, diagnostics, disconnected, ended, the_peer};

fn is_direct(app: &App) -> bool {
    let path = |event: &TestEvent| match event {
        TestEvent::PathChanged(event) => Some(event.path),
        _ => None,
    };
    TestLog::of(app).0.iter().rev().find_map(path) == Some(Path::Direct)
}

fn numbers(app: &App) -> Vec<u32> {
    let number = |event: &TestEvent| match event {
        TestEvent::Message(message) => Some(u32::from_be_bytes(message.payload.as_bytes()[..4].try_into().unwrap())),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(number).collect()
}

fn received(app: &App) -> usize {
    TestLog::of(app).count(|event| matches!(event, TestEvent::Message(_)))
}

/// A host and a client, connected over this relay, and directly if they may.
fn pair(relay: &StandaloneRelay, paths: PathPolicy) -> (App, App) {
    let network = TestNetwork::loopback().paths(paths);
    let mut host = network.host_with(UhstHost::new("direct").relay(relay.relay()));
    let mut client = network.join_with(UhstClient::join("direct").relay(relay.relay()));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));
    (host, client)
}

fn become_direct(host: &mut App, client: &mut App) {
    assert!(
        update_until(&mut [host, client], PATIENCE, |apps| apps.iter().all(|app| is_direct(app))),
        "{:?} {:?}",
        diagnostics(host),
        diagnostics(client)
    );
}

#[test]
fn a_connection_becomes_direct_and_loses_nothing_on_the_way() {
    const MESSAGES: u32 = 100_000;
    let relay = StandaloneRelay::start();
    let (mut host, mut client) = pair(&relay, PathPolicy::Automatic);
    let peer = the_peer(&mut client);
    let mut sent = 0;
    let all = update_until(&mut [&mut host, &mut client], 2 * PATIENCE, |apps| {
        let peer = apps[1].world().get::<UhstPeer>(peer).unwrap();
        while sent < MESSAGES && peer.send(sent.to_be_bytes()).is_ok() {
            sent += 1;
            // Messages cross the change only if there are some left by then.
            if sent % (MESSAGES / 100) == 0 && !is_direct(apps[1]) {
                break;
            }
        }
        received(apps[0]) >= MESSAGES as usize
    });
    assert!(all, "{} of {MESSAGES}: {:?}", received(&host), diagnostics(&host));
    assert!(numbers(&host).into_iter().eq(0..MESSAGES));
    become_direct(&mut host, &mut client);
    assert!(client.world().get::<UhstPeer>(peer).unwrap().path() == Path::Direct);
}

#[test]
fn every_size_arrives_whole_on_every_path() {
    let relay = StandaloneRelay::start();
    for (paths, direct) in [(PathPolicy::Automatic, true), (PathPolicy::RelayOnly, false)] {
        let (mut host, mut client) = pair(&relay, paths);
        if direct {
            become_direct(&mut host, &mut client);
        }
        let peer = the_peer(&mut client);
        let limit = client.world().get::<UhstPeer>(peer).unwrap().max_message();
        let sizes = [0, 1, 16 << 10, 256 << 10, 1 << 20, limit];
        for (count, size) in sizes.into_iter().enumerate() {
            let message: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            client.world().get::<UhstPeer>(peer).unwrap().send(message.clone()).unwrap();
            assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| received(apps[0]) > count));
            let Some(TestEvent::Message(last)) = TestLog::of(&host).0.last() else { panic!("no message") };
            assert!(last.payload.as_bytes() == message, "{size} bytes");
        }
        let error = client.world().get::<UhstPeer>(peer).unwrap().send(vec![0; limit + 1]);
        assert_eq!(error, Err(SendError::TooLarge { size: limit + 1, limit }));
        assert_eq!(is_direct(&client), direct);
    }
}

#[test]
fn the_direct_path_carries_on_while_the_relay_is_gone() {
    let mut relay = StandaloneRelay::start();
    let (mut host, mut client) = pair(&relay, PathPolicy::Automatic);
    become_direct(&mut host, &mut client);
    relay.kill();
    let lost = |app: &App| diagnostics(app).iter().any(|text| text.contains("lost"));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| lost(app))));
    for number in 0..100_u32 {
        for app in [&mut host, &mut client] {
            let peer = the_peer(app);
            app.world().get::<UhstPeer>(peer).unwrap().send(number.to_be_bytes()).unwrap();
        }
        // Each arrives while the relay is away.
        assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
            apps.iter().all(|app| received(app) > number as usize)
        }));
    }
    // The host gets its id back, and others can join it again.
    relay.restart(RelayConfig::default());
    let back = |app: &App| diagnostics(app).iter().any(|text| text.contains("back"));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| back(app))));
    let mut late = TestNetwork::loopback().join_with(UhstClient::join("direct").relay(relay.relay()));
    assert!(update_until(&mut [&mut host, &mut client, &mut late], PATIENCE, |apps| connected(apps[2]) == 1));
    for app in [&host, &client] {
        assert_eq!((disconnected(app), ended(app)), (vec![], vec![]));
    }
}

#[test]
fn a_policy_keeps_a_connection_on_the_relay() {
    let relay = StandaloneRelay::start();
    for (host_paths, client_paths) in
        [(PathPolicy::RelayOnly, PathPolicy::Automatic), (PathPolicy::Automatic, PathPolicy::RelayOnly)]
    {
        let network = TestNetwork::loopback();
        let mut host = network.host_with(UhstHost::new("direct").relay(relay.relay()).paths(host_paths));
        let client = UhstClient::join("direct").relay(relay.relay()).paths(client_paths);
        let mut client = network.join_with(client);
        assert!(!update_until(&mut [&mut host, &mut client], Duration::from_secs(2), |apps| {
            apps.iter().any(|app| is_direct(app))
        }));
        assert_eq!((connected(&host), disconnected(&host).len()), (1, 0));
    }
}

#[test]
fn a_connection_that_allows_direct_paths_only_is_connected_once_it_is_direct() {
    let relay = StandaloneRelay::start();
    for (host_paths, client_paths) in
        [(PathPolicy::DirectOnly, PathPolicy::DirectOnly), (PathPolicy::Automatic, PathPolicy::DirectOnly)]
    {
        let network = TestNetwork::loopback();
        let mut host = network.host_with(UhstHost::new("direct").relay(relay.relay()).paths(host_paths));
        let client = UhstClient::join("direct").relay(relay.relay()).paths(client_paths);
        let mut client = network.join_with(client);
        become_direct(&mut host, &mut client);
        for app in [&mut host, &mut client] {
            let peer = the_peer(app);
            app.world().get::<UhstPeer>(peer).unwrap().send(7_u32.to_be_bytes()).unwrap();
        }
        assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
            apps.iter().all(|app| numbers(app) == [7])
        }));
    }
}

#[test]
fn policies_that_exclude_each_other_end_at_once_with_a_reason() {
    let relay = StandaloneRelay::start();
    for (host_paths, client_paths) in
        [(PathPolicy::DirectOnly, PathPolicy::RelayOnly), (PathPolicy::RelayOnly, PathPolicy::DirectOnly)]
    {
        let network = TestNetwork::loopback();
        let mut host = network.host_with(UhstHost::new("direct").relay(relay.relay()).paths(host_paths));
        let client = UhstClient::join("direct").relay(relay.relay()).paths(client_paths);
        let mut client = network.join_with(client);
        assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| !ended(apps[1]).is_empty()));
        assert!(matches!(ended(&client)[..], [EndReason::NoDirectPath(_)]), "{:?}", ended(&client));
        assert_eq!((connected(&host), ended(&host).len()), (0, 0));
    }
}

#[test]
fn many_join_at_once_all_direct_and_leave() {
    const CLIENTS: usize = 8;
    let network = TestNetwork::loopback();
    let mut host = network.host("direct");
    let mut clients: Vec<App> = (0..CLIENTS).map(|_| network.join(&host)).collect();
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut clients).collect();
    assert!(update_until(&mut apps, PATIENCE, |apps| apps[1..].iter().all(|app| is_direct(app))));
    for client in &mut clients {
        client.world_mut().write_message(AppExit::Success);
        client.update();
    }
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| disconnected(apps[0]).len() == CLIENTS));
    assert!(disconnected(&host).iter().all(|reason| *reason == EndReason::Left), "{:?}", disconnected(&host));
}
