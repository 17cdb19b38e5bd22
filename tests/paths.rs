//! A connection outlives its paths: relays that die and come back, strangers who take a place meanwhile, processes
//! that are killed. On the relay alone; with a direct path beside it, see `direct.rs`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod original;
mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    connection::{Connection, ConnectionEvent, Credentials, Lane, Path, Timestamp},
    prelude::*,
    protocol::{Body, GameId, NATIVE_VERSION, frame::HandshakeKind},
    relay::RelayConfig,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use bytes::Bytes;
use original::{Heard, Original};
use support::{StandaloneRelay, address, connected, diagnostics, disconnected, ended, the_peer};

const PATIENCE: Duration = Duration::from_secs(20);
/// Messages each way while the relay dies.
const MESSAGES: u32 = 1000;

/// Real sockets, but no direct path.
fn relay_only() -> TestNetwork {
    TestNetwork::loopback().paths(PathPolicy::RelayOnly)
}

/// A host and a client, connected through this relay.
fn pair(relay: &StandaloneRelay) -> (App, App) {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("paths").relay(relay.relay()));
    let mut client = network.join_with(UhstClient::join("paths").relay(relay.relay()));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));
    (host, client)
}

fn numbers(app: &App) -> Vec<u32> {
    let number = |event: &TestEvent| match event {
        TestEvent::Message(message) => Some(u32::from_be_bytes(message.payload.as_bytes().try_into().unwrap())),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(number).collect()
}

fn send(app: &mut App, numbers: std::ops::Range<u32>) {
    let peer = the_peer(app);
    let peer = app.world().get::<UhstPeer>(peer).unwrap();
    for number in numbers {
        peer.send(number.to_be_bytes()).unwrap();
    }
}

/// A relay that is gone for this long in the middle of numbered messages each way.
fn relay_dies(away: Duration, secret: Option<&str>) {
    let config = || RelayConfig { secret: secret.map(str::to_owned), ..RelayConfig::default() };
    let mut relay = StandaloneRelay::start_with(config());
    let (mut host, mut client) = pair(&relay);
    let apps = &mut [&mut host, &mut client];

    let quarter = MESSAGES / 4;
    for app in apps.iter_mut() {
        send(app, 0..quarter);
    }
    // Some of them are on their way while it dies.
    update_until(apps, PATIENCE, |apps| apps.iter().all(|app| numbers(app).len() > 10));
    for app in apps.iter_mut() {
        send(app, quarter..2 * quarter);
    }
    relay.kill();
    let mut sent = 2 * quarter;
    let since = Instant::now();
    update_until(apps, away, |apps| {
        let due = 2 * quarter + (f64::from(quarter) * since.elapsed().as_secs_f64() / away.as_secs_f64()) as u32;
        for app in apps.iter_mut() {
            send(app, sent..due.min(3 * quarter).max(sent));
        }
        sent = sent.max(due.min(3 * quarter));
        false
    });
    relay.restart(config());
    for app in apps.iter_mut() {
        send(app, sent..MESSAGES);
    }
    let all = update_until(apps, PATIENCE, |apps| apps.iter().all(|app| numbers(app).len() >= MESSAGES as usize));
    for app in apps.iter() {
        let numbers = numbers(app);
        assert!(all, "{} of {MESSAGES} arrived; {:?} {:?}", numbers.len(), diagnostics(app), disconnected(app));
        assert!(numbers.into_iter().eq(0..MESSAGES));
        assert_eq!((connected(app), disconnected(app).len(), ended(app).len()), (1, 0, 0));
    }
}

#[test]
fn nothing_is_lost_when_the_relay_dies_for_ten_seconds_and_forgets_its_secret() {
    relay_dies(Duration::from_secs(10), None);
}

#[test]
fn nothing_is_lost_when_the_relay_dies_for_ten_seconds_and_keeps_its_secret() {
    relay_dies(Duration::from_secs(10), Some("a secret that is kept"));
}

#[test]
fn nothing_is_lost_when_the_relay_dies_for_a_moment() {
    relay_dies(Duration::from_millis(50), None);
}

#[test]
fn a_stranger_who_took_the_id_gets_nothing_and_the_client_is_told() {
    let mut relay = StandaloneRelay::start();
    let (mut host, mut client) = pair(&relay);
    relay.kill();
    let lost = |app: &App| diagnostics(app).iter().any(|text| text.contains("lost"));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| lost(app))));
    let reachable = |app: &mut App| {
        let world = app.world_mut();
        world.query::<&UhstPeer>().single(world).unwrap().is_reachable()
    };
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| !apps.iter_mut().any(|app| reachable(app))));

    // The relay comes back with no memory, and somebody else is there first.
    let network = TestNetwork::memory();
    let address: std::net::SocketAddr = relay.address().parse().unwrap();
    let mut stranger = {
        // Nobody reaches the relay before the stranger does, for the others are not updated, but their networks are
        // awake: so try until it is the stranger who has the id.
        let mut attempts = 0;
        loop {
            relay.restart(RelayConfig { hold: Duration::ZERO, ..RelayConfig::default() });
            assert_eq!(relay.address(), address.to_string());
            let mut app = network.app();
            app.world_mut().spawn(UhstHost::new("paths").relay(relay.relay()));
            let ready = |app: &App| TestLog::of(app).has(|event| matches!(event, TestEvent::Ready(_)));
            update_until(&mut [&mut app], PATIENCE, |apps| ready(apps[0]) || !ended(apps[0]).is_empty());
            if ready(&app) {
                break app;
            }
            attempts += 1;
            assert!(attempts < 50, "the true host was always faster");
        }
    };
    // The client comes back and finds the stranger, who cannot prove to be its host, and says that it knows nothing of it.
    send(&mut client, 0..10);
    let told = |app: &App| disconnected(app) == [EndReason::HostRestarted];
    assert!(
        update_until(&mut [&mut client, &mut stranger], PATIENCE, |apps| told(apps[0])),
        "{:?} {:?}",
        disconnected(&client),
        diagnostics(&client)
    );
    assert_eq!((connected(&stranger), numbers(&stranger)), (0, vec![]));
}

/// The relay says that the host's stream has ended, and the next host under its id that it knows nobody. Silence would
/// take longer than this test waits.
#[test]
fn a_host_that_is_started_anew_on_a_relay_of_others_says_so_at_once() {
    let relay = StandaloneRelay::start_with(RelayConfig { hold: Duration::ZERO, ..RelayConfig::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = ConnectionConfig { timeout: 2 * PATIENCE, ..default() };
    let plugin = || UhstPlugin::default().relay(relay.relay()).paths(PathPolicy::RelayOnly).connection(config.clone());
    let app = |plugin: UhstPlugin| {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, plugin));
        bevy_uhst::test_app::record(&mut app);
        app
    };
    let ready = |app: &App| TestLog::of(app).has(|event| matches!(event, TestEvent::Ready(_)));
    let mut host = app(plugin().runtime(runtime.handle().clone()));
    host.world_mut().spawn(UhstHost::new("paths"));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| ready(apps[0])));
    let mut client = app(plugin());
    client.world_mut().spawn(UhstClient::join("paths"));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));

    // As a process that is killed: without a word.
    runtime.shutdown_background();
    let missed = |app: &App| TestLog::of(app).has(|event| matches!(event, TestEvent::Interrupted(_)));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| missed(apps[0])));
    let mut anew = app(plugin());
    anew.world_mut().spawn(UhstHost::new("paths"));
    assert!(update_until(&mut [&mut anew], PATIENCE, |apps| ready(apps[0])));
    let told = |app: &App| disconnected(app) == [EndReason::HostRestarted];
    assert!(update_until(&mut [&mut client, &mut anew], PATIENCE, |apps| told(apps[0])), "{:?}", TestLog::of(&client));
    assert_eq!(connected(&anew), 0);
}

/// A client whose relay is lost between the host letting it in and its hearing of that, by hand: it joins again, with the
/// hello it began with, and is the player it was.
#[test]
fn a_joiner_whose_welcome_is_lost_with_the_relay_is_no_second_player() {
    let mut host = relay_only().host("paths");
    let credentials = Credentials { host_id: "paths".to_owned(), password: None, game: GameId::default() };
    let config = ConnectionConfig::default();
    let mut connection = Connection::connect(config, &credentials, Bytes::new(), [7; 32], Timestamp::ZERO).unwrap();
    let began = Instant::now();
    // Deaf: it hears nothing more once it has sent its proof.
    let mut meet = |host: &mut App, wire: &Original, deaf: bool| {
        connection.path_up(Path::Relay, began.elapsed());
        let mut proven = false;
        update_until(&mut [host], PATIENCE, |apps| {
            let now = began.elapsed();
            connection.handle_timeout(now);
            while let Some(packet) = connection.poll_transmit(Lane::Relay, 64 << 10, now) {
                proven |= HandshakeKind::peek(&packet) != HandshakeKind::Hello;
                let body = Body::Native { version: NATIVE_VERSION, packet }.to_json();
                assert_eq!(wire.send_json(&wire.token, &body), 200);
            }
            if deaf && proven {
                return connected(apps[0]) == 1;
            }
            while let Some(Heard::Message { body, .. }) = wire.next_within(Duration::ZERO) {
                if let Ok(Body::Native { packet, .. }) = Body::parse(&body.to_string()) {
                    connection.receive(Lane::Relay, packet, now);
                }
            }
            std::iter::from_fn(|| connection.poll_event())
                .any(|event| matches!(event, ConnectionEvent::Connected { .. }))
        })
    };
    let first = Original::join(&address(&host), "paths");
    assert!(meet(&mut host, &first, true));
    first.close();
    let second = Original::join(&address(&host), "paths");
    assert!(meet(&mut host, &second, false));
    assert_eq!((connected(&host), disconnected(&host)), (1, vec![]));
    send(&mut host, 0..1);
    assert!(update_until(&mut [&mut host], PATIENCE, |_| {
        while let Some(Heard::Message { body, .. }) = second.next_within(Duration::ZERO) {
            if let Ok(Body::Native { packet, .. }) = Body::parse(&body.to_string()) {
                connection.receive(Lane::Relay, packet, began.elapsed());
            }
        }
        std::iter::from_fn(|| connection.poll_event()).any(|event| matches!(event, ConnectionEvent::Message { .. }))
    }));
}

#[test]
fn a_stranger_who_claims_the_place_of_a_client_is_refused() {
    let mut host = relay_only().host("paths");
    let mut client = relay_only().join(&host);
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));
    // Whatever it says, it cannot have the proof: here it does not even try.
    let stranger = Original::join(&address(&host), "paths");
    for packet in ["", "AA==", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "////////////////////"] {
        let body = format!(r#"{{"type":"string","payload":"","uhst":{{"v":1,"p":"{packet}"}}}}"#);
        assert_eq!(stranger.send_json(&stranger.token, &body), 200);
    }
    send(&mut client, 0..10);
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| numbers(apps[0]).into_iter().eq(0..10)));
    assert_eq!((connected(&host), disconnected(&host).len()), (1, 0));
}

/// The process that the tests below kill or close: a client that says when it is connected. Not a test of its own.
#[test]
#[ignore = "the other side of the tests that kill a process; run by them"]
fn client_process() {
    let Ok(link) = std::env::var("BEVY_UHST_TEST_LINK") else { return };
    let mut client = TestNetwork::memory().join_with(UhstClient::join(link));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| connected(apps[0]) == 1));
    println!("connected");
    if std::env::var("BEVY_UHST_TEST_EXIT").is_ok() {
        client.world_mut().write_message(AppExit::Success);
        client.update();
        return;
    }
    update_until(&mut [&mut client], Duration::from_secs(60), |_| false);
}

fn client_in_a_process(host: &App, exits: bool) -> std::process::Child {
    let link = bevy_uhst::test_app::link(host).to_string();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "client_process", "--ignored", "--nocapture"]).env("BEVY_UHST_TEST_LINK", link);
    if exits {
        command.env("BEVY_UHST_TEST_EXIT", "1");
    }
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn await_line(child: &mut std::process::Child, text: &str) {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the process ended too soon");
    }
    child.stdout = Some(output.into_inner());
}

#[test]
fn a_killed_client_is_seen_within_the_timeout() {
    let timeout = Duration::from_secs(2);
    let resume_timeout = Duration::from_secs(1);
    let config = ConnectionConfig { timeout, resume_timeout, ..ConnectionConfig::default() };
    let mut host = relay_only().host_with(UhstHost::new("paths").connection(config));
    let mut child = client_in_a_process(&host, false);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| connected(apps[0]) == 1));
    await_line(&mut child, "connected");
    child.kill().unwrap();
    child.wait().unwrap();
    let silent = |event: &TestEvent| {
        matches!(event, TestEvent::Interrupted(UhstInterrupted { reason: Interruption::Silent, .. }))
    };
    assert!(update_until(&mut [&mut host], 2 * timeout, |apps| TestLog::of(apps[0]).has(silent)));
    assert_eq!(disconnected(&host), []);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| disconnected(apps[0]) == [EndReason::TimedOut]));
}

#[test]
fn a_client_that_exits_is_seen_by_its_goodbye() {
    let mut host = relay_only().host("paths");
    let mut child = client_in_a_process(&host, true);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| connected(apps[0]) == 1));
    // Only a goodbye says so: silence, or its closed stream, would be a timeout.
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| disconnected(apps[0]) == [EndReason::Left]));
    assert!(child.wait().unwrap().success());
}
