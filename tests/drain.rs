//! Sessions move to another relay when theirs drains.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::{
    net::TcpStream,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::{RelayConfig, TlsFiles},
    test_app::{TestEvent, TestLog, TestNetwork, link, update_until},
};
use support::{PATIENCE, StandaloneRelay, connected, diagnostics, disconnected, ended, the_peer};

/// How long the former relay drains.
const DRAIN: Duration = Duration::from_secs(4);
/// The environment variable with the path of the certificate's key.
const KEY: &str = "DRAIN_TEST_KEY";

/// Runs a test in a process of its own, since its trusted certificates are in its environment.
#[test]
fn a_session_moves_to_the_relay_that_takes_over() {
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["with_a_certificate", "--ignored", "--test-threads=1"])
        .env("SSL_CERT_FILE", certificate)
        .env(KEY, key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A relay with the certificate of the environment, and its URL.
fn with_tls() -> (StandaloneRelay, RelayConfig, String) {
    let file = |name| std::env::var_os(name).map(PathBuf::from).expect("run by another test");
    let tls = TlsFiles { certificate: file("SSL_CERT_FILE"), key: file(KEY) };
    let config = RelayConfig { tls: Some(tls), ..RelayConfig::default() };
    let relay = StandaloneRelay::start_with(config.clone());
    let url = format!("https://{}/", relay.address());
    (relay, config, url)
}

/// A relay that drains in favour of the one at this URL, with a host and a client.
fn pair(to: &str, paths: PathPolicy) -> (StandaloneRelay, App, App) {
    let relay = StandaloneRelay::start_with(RelayConfig { moved_to: to.parse().ok(), ..RelayConfig::default() });
    let network = TestNetwork::loopback().paths(paths);
    let config = || ConnectionConfig { resume_timeout: Duration::from_secs(8), ..ConnectionConfig::default() };
    let mut host = network.host_with(UhstHost::new("drained").relay(relay.relay()).connection(config()));
    let mut client = network.join_with(UhstClient::join("drained").relay(relay.relay()).connection(config()));
    let both = update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1));
    assert!(both, "{:?}", TestLog::of(&client));
    (relay, host, client)
}

fn numbers(app: &App) -> Vec<u32> {
    TestLog::of(app).texts().iter().map(|text| text.parse().unwrap()).collect()
}

fn send(app: &mut App, number: u32) {
    let peer = the_peer(app);
    app.world().get::<UhstPeer>(peer).unwrap().send(number.to_string()).unwrap();
}

/// Lets both send a number in each frame until `done`. Returns the count of numbers.
fn talk(apps: &mut [&mut App; 2], mut sent: u32, done: impl Fn(&[&mut App]) -> bool) -> u32 {
    let since = Instant::now();
    while !done(apps) {
        for app in apps.iter_mut() {
            send(app, sent);
        }
        sent += 1;
        update_until(apps, Duration::from_millis(20), |_| false);
        assert!(since.elapsed() < PATIENCE, "{:?}\n{:?}", diagnostics(apps[0]), diagnostics(apps[1]));
    }
    sent
}

/// Returns how often its peer had no path, and had one again.
fn interruptions(app: &App) -> (usize, usize) {
    let log = TestLog::of(app);
    let interrupted = log.count(|event| matches!(event, TestEvent::Interrupted(_)));
    (interrupted, log.count(|event| matches!(event, TestEvent::Resumed(_))))
}

/// Checks that everything arrives once and in order, and that no session ends.
fn all_arrives(apps: &mut [&mut App; 2], sent: u32) {
    let all: Vec<u32> = (0..sent).collect();
    update_until(apps, PATIENCE, |apps| apps.iter().all(|app| numbers(app).len() >= all.len()));
    for app in apps.iter() {
        assert_eq!(numbers(app), all, "{:?}", diagnostics(app));
        assert_eq!((disconnected(app), ended(app)), (vec![], vec![]));
    }
}

fn is_back(app: &App) -> usize {
    diagnostics(app).iter().filter(|text| *text == "the relay is back").count()
}

fn moves(paths: PathPolicy) {
    let (mut next, config, url) = with_tls();
    let (mut relay, mut host, mut client) = pair(&url, paths);
    let apps = &mut [&mut host, &mut client];
    let sent = talk(apps, 0, |apps| apps.iter().all(|app| numbers(app).len() > 10));
    relay.drain(DRAIN);
    let since = Instant::now();
    let sent = talk(apps, sent, |apps| apps.iter().all(|app| is_back(app) == 1));
    println!("{paths:?}: both are at the other relay after {:?}", since.elapsed());
    // Once the former one is gone, too.
    let address = relay.address().parse().unwrap();
    let sent = talk(apps, sent, |_| TcpStream::connect_timeout(&address, PATIENCE).is_err());
    assert!(since.elapsed() < DRAIN + Duration::from_secs(2), "{:?}", since.elapsed());
    all_arrives(apps, sent);
    // On the relay alone there is no path for the moment that the move takes.
    let most = usize::from(paths == PathPolicy::RelayOnly);
    for app in apps.iter() {
        let (interrupted, resumed) = interruptions(app);
        assert!(interrupted == resumed && interrupted <= most, "{:?}", TestLog::of(app));
    }

    // The host's link leads others there, and what has moved comes back there, should that one break.
    assert_eq!(link(apps[0]).relay.unwrap().as_str(), url);
    let mut late = TestNetwork::loopback().paths(paths).join(apps[0]);
    assert!(update_until(&mut [apps[0], &mut late], PATIENCE, |apps| connected(apps[1]) == 1));
    drop(late);
    next.restart(config);
    update_until(apps, PATIENCE, |apps| apps.iter().all(|app| is_back(app) == 2));
    assert_eq!((is_back(apps[0]), is_back(apps[1])), (2, 2));
    assert_eq!((disconnected(apps[1]), ended(apps[1]), ended(apps[0])), (vec![], vec![], vec![]));
}

#[test]
#[ignore = "run by another test, with a certificate in its environment"]
fn with_a_certificate_on_the_relay_alone() {
    moves(PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by another test, with a certificate in its environment"]
fn with_a_certificate_on_direct_paths() {
    moves(PathPolicy::Automatic);
}

/// Another host has the id at the other relay.
#[test]
#[ignore = "run by another test, with a certificate in its environment"]
fn with_a_certificate_and_an_id_that_is_taken() {
    let (_next, _, url) = with_tls();
    let network = TestNetwork::loopback().paths(PathPolicy::RelayOnly);
    let _other = network.host_with(UhstHost::new("drained").relay(Relay::Url(url.clone())));
    let (mut relay, mut host, mut client) = pair(&url, PathPolicy::RelayOnly);
    relay.drain(DRAIN);
    let apps = &mut [&mut host, &mut client];
    let over = update_until(apps, 3 * PATIENCE, |apps| apps.iter().all(|app| !ended(app).is_empty()));
    assert!(over, "{:?}\n{:?}", TestLog::of(apps[0]), TestLog::of(apps[1]));
    assert_eq!((ended(apps[0]), disconnected(apps[0])), (vec![EndReason::HostIdInUse], vec![EndReason::TimedOut]));
    // The client has found a host that does not know it.
    assert_eq!(ended(apps[1]), [EndReason::HostRestarted]);
}
