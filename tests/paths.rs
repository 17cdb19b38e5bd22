//! A connection outlives its relay path: relays that die and come back, strangers who take a place meanwhile, and
//! processes that are killed. `direct.rs` has the tests with a direct path.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod by_hand;
mod original;
mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::RelayConfig,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use by_hand::ByHand;
use bytes::Bytes;
use original::Original;
use support::{PATIENCE, StandaloneRelay, address, connected, diagnostics, disconnected, ended, the_peer};
use uhst_proto::{connection::ConnectionEvent, protocol::frame::HandshakeKind};

/// Where the counter of a resumption is: behind a zero, its kind and the name of its connection.
const COUNTER: usize = 18;
/// The number of messages each way while the relay dies.
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

/// Kills the relay for this time in the middle of numbered messages each way.
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
    assert!(update_until(apps, PATIENCE, |apps| apps.iter().all(|app| numbers(app).len() > 10)));
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

    // The host ends like a killed process, without a goodbye.
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
    let mut client = ByHand::new(Original::join(&address(&host), "paths"), [7; 32]);
    // The client reads nothing more once it has sent its proof.
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| {
        client.speak();
        if client.sent.iter().any(|packet| HandshakeKind::peek(packet) != HandshakeKind::Hello) {
            return connected(apps[0]) == 1;
        }
        client.hear();
        false
    }));
    client.over(Original::join(&address(&host), "paths"), false);
    let is_connected = |event: &ConnectionEvent| matches!(event, ConnectionEvent::Connected { .. });
    assert!(hears(&mut host, &mut client, is_connected));
    assert_eq!((connected(&host), disconnected(&host)), (1, vec![]));
    send(&mut host, 0..1);
    assert!(hears(&mut host, &mut client, |event| matches!(event, ConnectionEvent::Message(_))));
}

/// Waits for such an event of a client by hand. Returns whether it came in time.
fn hears(host: &mut App, client: &mut ByHand, such: impl Fn(&ConnectionEvent) -> bool) -> bool {
    update_until(&mut [host], PATIENCE, |_| {
        client.speak();
        client.hear().iter().any(&such)
    })
}

/// It knows the name of the connection and all that the client has sent, as the relay does.
#[test]
fn a_stranger_who_claims_the_place_of_a_client_is_refused() {
    let mut host = relay_only().host("paths");
    let relay = address(&host);
    let join = || Original::join(&relay, "paths");
    let mut client = ByHand::new(join(), [7; 32]);
    assert!(hears(&mut host, &mut client, |event| matches!(event, ConnectionEvent::Connected { .. })));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| connected(apps[0]) == 1));
    // The client comes back over another wire, so that its resumptions can be seen.
    client.over(join(), true);
    send(&mut host, 0..1);
    assert!(hears(&mut host, &mut client, |event| matches!(event, ConnectionEvent::Message(_))));
    let resumptions: Vec<Bytes> = client
        .sent
        .iter()
        .filter(|packet| matches!(HandshakeKind::peek(packet), HandshakeKind::Resume(_)))
        .cloned()
        .collect();
    assert!(resumptions.len() >= 2, "one is challenged, and one answers that: {resumptions:?}");

    // A copy of the last one is answered until the host sees that the client has the answer.
    let says = |host: &mut App, client: &mut ByHand, number: u32| {
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        client.connection.send(UhstChannel::Reliable, Payload::Binary(payload)).unwrap();
        update_until(&mut [host], PATIENCE, |apps| {
            client.speak();
            client.hear();
            numbers(apps[0]).last() == Some(&number)
        })
    };
    assert!(says(&mut host, &mut client, 0));
    let stranger = join();
    for packet in &resumptions {
        // The resumption as it was, of a later time, with another nonce, and without the proof.
        for change in [None, Some(COUNTER), Some(COUNTER + 1), Some(packet.len() - 1)] {
            let mut claim = packet.to_vec();
            change.into_iter().for_each(|at| claim[at] ^= 0x20);
            assert!(matches!(HandshakeKind::peek(&claim), HandshakeKind::Resume(_)));
            assert_eq!(stranger.send_json(&stranger.token, &by_hand::body(claim.into())), 200);
        }
    }
    // What comes after the claims is the client's, and goes to the client.
    assert!(says(&mut host, &mut client, 1));
    send(&mut host, 1..10);
    let mut heard = 0;
    assert!(update_until(&mut [&mut host], PATIENCE, |_| {
        client.speak();
        heard += client.hear().iter().filter(|event| matches!(event, ConnectionEvent::Message(_))).count();
        heard == 9
    }));
    assert!(by_hand::packets(&stranger).is_empty());
    assert_eq!((connected(&host), disconnected(&host).len()), (1, 0));
    assert!(!TestLog::of(&host).has(|event| matches!(event, TestEvent::Interrupted(_))));
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
