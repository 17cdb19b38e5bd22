//! What remains without any feature: hosting and joining by a relay that others run, and that knows nothing of this
//! crate.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "../support/mod.rs"]
mod support;

mod relay;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, record},
};
use support::until;

/// An app whose sessions use this relay.
fn app(relay: &str, paths: PathPolicy) -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        UhstPlugin::default().relay(Relay::Url(relay.to_owned())).paths(paths).ice_servers([]),
    ));
    record(&mut app);
    app
}

fn peer(app: &mut App) -> &UhstPeer {
    app.world_mut().query::<&UhstPeer>().single(app.world()).unwrap()
}

fn payloads(app: &App) -> Vec<Payload> {
    let payload = |event: &TestEvent| match event {
        TestEvent::Message(message) => Some(message.payload.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(payload).collect()
}

fn ends(app: &App) -> Vec<EndReason> {
    let reason = |event: &TestEvent| match event {
        TestEvent::Disconnected(end) => Some(end.reason.clone()),
        TestEvent::Ended(end) => Some(end.reason.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(reason).collect()
}

/// A host and a client that found it by its bare code, connected.
fn pair(paths: PathPolicy) -> (App, App) {
    let relay = relay::start();
    let (mut host, mut client) = (app(&relay, paths), app(&relay, paths));
    host.world_mut().spawn(UhstHost::new("over there"));
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
    client.world_mut().spawn(UhstClient::join("over there"));
    until(&mut [&mut host, &mut client], |apps| {
        apps.iter().all(|app| TestLog::of(app).has(|event| matches!(event, TestEvent::Connected(_))))
    });
    (host, client)
}

/// Text and bytes, in order, there and back.
fn talk(host: &mut App, client: &mut App) {
    let sent: Vec<Payload> =
        (0..20).flat_map(|i| [Payload::from(format!("text {i}")), Payload::from(vec![0, 255, i])]).collect();
    for payload in &sent {
        peer(host).send(payload.clone()).unwrap();
        peer(client).send(payload.clone()).unwrap();
    }
    until(&mut [host, client], |apps| apps.iter().all(|app| payloads(app).len() >= sent.len()));
    assert_eq!(payloads(host), sent);
    assert_eq!(payloads(client), sent);
}

#[test_log::test]
fn a_relay_of_others_carries_text_and_bytes_of_native_peers() {
    let (mut host, mut client) = pair(PathPolicy::RelayOnly);
    // No hint of the relay says so: the first message does.
    assert!(peer(&mut host).is_native() && peer(&mut client).is_native());
    talk(&mut host, &mut client);
    assert_eq!((peer(&mut host).path(), peer(&mut client).path()), (Path::Relay, Path::Relay));

    client.world_mut().query::<&UhstClient>().single(client.world()).unwrap().leave();
    until(&mut [&mut host, &mut client], |apps| ends(apps[0]).len() == 1 && ends(apps[1]).len() == 2);
    assert_eq!((ends(&host), ends(&client)), (vec![EndReason::Left], vec![EndReason::EndedLocally; 2]));
}

#[test_log::test]
fn a_relay_of_others_introduces_peers_that_then_talk_directly() {
    let (mut host, mut client) = pair(PathPolicy::DirectOnly);
    assert_eq!((peer(&mut host).path(), peer(&mut client).path()), (Path::Direct, Path::Direct));
    talk(&mut host, &mut client);

    host.world_mut().query::<&UhstHost>().single(host.world()).unwrap().leave();
    until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| ends(app).len() == 2));
    assert_eq!((ends(&host), ends(&client)), (vec![EndReason::EndedLocally; 2], vec![EndReason::Left; 2]));
}

#[cfg(not(feature = "relay"))]
#[test_log::test]
fn a_host_without_the_embedded_relay_says_what_it_needs() {
    let mut host = App::new();
    host.add_plugins((MinimalPlugins, UhstPlugin::host("over there")));
    record(&mut host);
    until(&mut [&mut host], |apps| !ends(apps[0]).is_empty());
    let [EndReason::RelayUnreachable(words)] = &ends(&host)[..] else { panic!("{:?}", ends(&host)) };
    assert!(words.contains("feature `relay`"), "{words}");
}
