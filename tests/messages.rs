//! Messages between apps: their delivery, their order, and the frame in which they are read.

mod support;

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link, wait_for_arrival},
};
use support::{PATIENCE, until};

fn received(app: &App) -> Vec<&UhstMessage> {
    let messages = TestLog::of(app).0.iter().filter_map(|event| match event {
        TestEvent::Message(message) => Some(message),
        _ => None,
    });
    messages.collect()
}

fn component<C: Component>(app: &mut App) -> &C {
    app.world_mut().query::<&C>().single(app.world()).expect("exactly one such component")
}

/// Starts a host and clients, and waits until all are connected.
fn session(network: &TestNetwork, clients: usize) -> (App, Vec<App>) {
    let mut host = network.host("game");
    let mut clients: Vec<_> = (0..clients).map(|_| network.join(&host)).collect();
    let count = clients.len();
    let mut apps: Vec<_> = std::iter::once(&mut host).chain(&mut clients).collect();
    until(&mut apps, |apps| {
        let connected = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Connected(_)));
        connected(apps[0]) == count && apps[1..].iter().all(|app| connected(app) == 1)
    });
    (host, clients)
}

#[test_log::test]
fn payloads_arrive_as_they_were_sent() {
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    let payloads: Vec<Payload> = vec![
        "text".into(),
        vec![0, 255, 10].into(),
        "".into(),
        Vec::<u8>::new().into(),
        "größe 🎲\u{0}".into(),
        vec![7; 1 << 20].into(),
    ];
    for payload in &payloads {
        component::<UhstClient>(&mut client).send(payload.clone()).unwrap();
    }
    until(&mut [&mut host, &mut client], |apps| received(apps[0]).len() == payloads.len());
    let got: Vec<_> = received(&host).into_iter().map(|message| message.payload.clone()).collect();
    assert!(got == payloads);
    assert!(received(&host).iter().all(|message| message.channel == UhstChannel::Reliable));
}

#[test_log::test]
fn an_echo_keeps_the_order_and_the_channel() {
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    host.add_systems(Update, |mut messages: MessageReader<UhstMessage>, peers: Query<&UhstPeer>| -> Result {
        for message in messages.read() {
            peers.get(message.peer)?.send_on(message.channel, message.payload.clone())?;
        }
        Ok(())
    });
    for number in 0..1000 {
        component::<UhstClient>(&mut client).send(number.to_string()).unwrap();
    }
    for channel in UhstChannel::ALL {
        component::<UhstClient>(&mut client).send_on(channel, vec![1]).unwrap();
    }
    until(&mut [&mut host, &mut client], |apps| received(apps[1]).len() == 1004);
    let numbers: Vec<_> = TestLog::of(&client).texts().into_iter().map(str::to_owned).collect();
    assert!(numbers.into_iter().eq((0..1000).map(|number| number.to_string())));
    let channels: std::collections::HashSet<_> =
        received(&client).iter().filter(|m| m.payload.as_text().is_none()).map(|m| m.channel).collect();
    assert_eq!(channels.len(), 4);
}

#[test_log::test]
fn a_broadcast_reaches_all_but_the_one_left_out() {
    let network = TestNetwork::memory();
    let (mut host, mut clients) = session(&network, 3);
    component::<UhstClient>(&mut clients[1]).send("hello").unwrap();
    until(&mut [&mut host], |apps| !received(apps[0]).is_empty());
    let speaker = received(&host)[0].peer;
    component::<UhstHost>(&mut host).broadcast_except(speaker, "somebody said hello");
    component::<UhstHost>(&mut host).broadcast("end");
    let mut apps: Vec<_> = clients.iter_mut().collect();
    until(&mut apps, |apps| apps.iter().all(|app| TestLog::of(app).texts().last() == Some(&"end")));
    assert_eq!(TestLog::of(&clients[0]).texts(), ["somebody said hello", "end"]);
    assert_eq!(TestLog::of(&clients[1]).texts(), ["end"]);
    assert_eq!(TestLog::of(&clients[2]).texts(), ["somebody said hello", "end"]);
}

#[test_log::test]
fn sending_to_a_peer_that_left_fails() {
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    let entity = client.world_mut().query_filtered::<Entity, With<UhstClient>>().single(client.world()).unwrap();
    client.world_mut().despawn(entity);
    let mut errors = Vec::new();
    until(&mut [&mut host, &mut client], |apps| {
        let world = apps[0].world_mut();
        errors.extend(world.query::<&UhstPeer>().iter(world).filter_map(|peer| peer.send("there?").err()));
        TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Disconnected(_)))
    });
    assert!(errors.iter().all(|error| *error == SendError::Disconnected));
    component::<UhstHost>(&mut host).broadcast("nobody listens");
}

#[test_log::test]
fn a_message_that_is_too_large_names_both_sizes() {
    let network = TestNetwork::memory();
    let config = ConnectionConfig { max_message: 2000, ..ConnectionConfig::default() };
    let mut host = network.host_with(UhstHost::new("game").connection(config));
    let mut client = network.join(&host);
    until(&mut [&mut host, &mut client], |apps| {
        apps.iter().all(|app| TestLog::of(app).has(|event| matches!(event, TestEvent::Connected(_))))
    });
    let error = component::<UhstPeer>(&mut host).send(vec![0; 2001]).unwrap_err();
    assert_eq!(error, SendError::TooLarge { size: 2001, limit: 2000 });
    let report = component::<UhstHost>(&mut host).broadcast(vec![0; 2001]);
    let cause = Some(SendError::TooLarge { size: 2001, limit: 2000 });
    assert_eq!(report, BroadcastReport { peers: 1, missed: 1, cause });
}

/// The host broadcasts each message that it receives, as in the first example of the crate.
#[test_log::test]
fn a_peer_that_never_reads_costs_the_others_nothing() {
    const SAID: usize = 400;
    let network = TestNetwork::memory();
    let config = ConnectionConfig {
        max_message: 2000,
        send_buffer: 20_000,
        receive_buffer: 20_000,
        catch_up_timeout: Duration::from_millis(300),
        ..ConnectionConfig::default()
    };
    let mut host = network.host_with(UhstHost::new("game").connection(config.clone()));
    host.add_systems(Update, |mut messages: MessageReader<UhstMessage>, host: Single<&UhstHost>| {
        for message in messages.read() {
            host.broadcast(message.payload.clone());
        }
    });
    let join = || UhstClient::from(link(&host)).connection(config.clone());
    let mut clients: Vec<App> = (0..8).map(|_| network.join_with(join())).collect();
    let connected = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Connected(_)));
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut clients).collect();
    until(&mut apps, |apps| apps[1..].iter().all(|app| connected(app) == 1));
    // From here on, the last client's app is not updated, so it reads nothing.
    let _sleeper = clients.pop();
    for number in 0..SAID {
        let text = format!("{number:0>400}");
        // At most eight messages are in flight, so that the queues of the other clients never fill up.
        let say = |apps: &mut [&mut App]| {
            apps[1..].iter().all(|app| TestLog::of(app).texts().len() + 8 > number)
                && component::<UhstClient>(apps[1]).send(text.clone()).is_ok()
        };
        let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut clients).collect();
        until(&mut apps, say);
    }
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut clients).collect();
    until(&mut apps, |apps| apps[1..].iter().all(|app| TestLog::of(app).texts().len() == SAID));
    for client in &clients {
        let numbers = TestLog::of(client).texts().into_iter().map(|text| text.parse::<usize>().unwrap());
        assert!(numbers.eq(0..SAID));
    }
    let slow = |event: &TestEvent| matches!(event, TestEvent::Diagnostic(event) if event.text.contains("too slow"));
    assert_eq!(TestLog::of(&host).count(slow), 1);
    // The slow peer is disconnected at the next broadcast that it misses.
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut clients).collect();
    until(&mut apps, |apps| {
        component::<UhstHost>(apps[0]).broadcast("still there?");
        let too_slow = |event: &TestEvent| {
            matches!(event, TestEvent::Disconnected(UhstDisconnected { reason: EndReason::TooSlow, .. }))
        };
        TestLog::of(apps[0]).count(too_slow) == 1
    });
}

#[test_log::test]
fn a_queue_that_is_full_is_an_error_until_it_drains() {
    let network = TestNetwork::memory();
    let config = ConnectionConfig { send_buffer: 100_000, ..ConnectionConfig::default() };
    let mut host = network.host_with(UhstHost::new("game").connection(config));
    let mut client = network.join(&host);
    until(&mut [&mut host, &mut client], |apps| {
        apps.iter().all(|app| TestLog::of(app).has(|event| matches!(event, TestEvent::Connected(_))))
    });
    let peer = component::<UhstPeer>(&mut host);
    let mut sent = 0;
    let error = loop {
        match peer.send(vec![0; 10_000]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "the queue has no limit");
    };
    assert!(matches!(error, SendError::QueueFull { limit: 100_000, .. }), "{error}");
    until(&mut [&mut host, &mut client], |apps| received(apps[1]).len() == sent);
    until(&mut [&mut host, &mut client], |apps| component::<UhstPeer>(apps[0]).queued() == 0);
    component::<UhstPeer>(&mut host).send("again").unwrap();
    until(&mut [&mut host, &mut client], |apps| TestLog::of(apps[1]).texts() == ["again"]);
}

/// A message is transmitted in the frame that sends it, and `Update` reads it in the first frame after its arrival.
#[test_log::test]
fn no_frame_is_lost_on_either_side() {
    #[derive(Resource, Default)]
    struct Read(usize);
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    host.init_resource::<Read>().add_systems(
        Update,
        |mut messages: MessageReader<UhstMessage>, mut read: ResMut<Read>| {
            read.0 += messages.read().count();
        },
    );
    client.add_systems(Update, |client: Single<&UhstClient>| -> Result { Ok(client.send("now")?) });
    for frame in 1..=20 {
        // The client runs one frame. Then the host runs a frame for each arrival.
        client.update();
        while host.world().resource::<Read>().0 < frame {
            let news = TestLog::of(&host).0.len();
            assert!(wait_for_arrival(&host, PATIENCE));
            host.update();
            assert!(TestLog::of(&host).0.len() > news, "a frame after an arrival has no event");
        }
        assert_eq!((host.world().resource::<Read>().0, received(&host).len()), (frame, frame));
    }
}

#[test_log::test]
fn numbers_show_what_goes_on() {
    let (mut host, mut client) = TestNetwork::memory().pair("game");
    for _ in 0..10 {
        component::<UhstClient>(&mut client).send(vec![0; 100]).unwrap();
    }
    until(&mut [&mut host, &mut client], |apps| {
        let peer = component::<UhstPeer>(apps[0]);
        peer.traffic().received_messages == 10 && peer.rtt().is_some()
    });
    let peer = component::<UhstPeer>(&mut host);
    assert!(peer.traffic().received_bytes >= 1000 && peer.is_native() && peer.is_open());
    until(&mut [&mut host, &mut client], |apps| {
        let store = apps[0].world().resource::<bevy::diagnostic::DiagnosticsStore>();
        let last = |path| store.get(&path).and_then(|diagnostic| diagnostic.value());
        last(bevy_uhst::UhstDiagnostics::PEERS) == Some(1.0)
            && store.get(&bevy_uhst::UhstDiagnostics::RECEIVED_MESSAGES).unwrap().values().any(|rate| *rate > 0.0)
    });
}
