//! Every pairing of npm's `uhst` 3.3.0 with this crate and with itself: in node and in Chromium, over the relay and
//! over WebRTC, through `uhst-relay` and through npm's relay. The result is the table in the README.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "pairings/peer.rs"]
mod peer;
mod support;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use peer::Peer;
use serde_json::{Value, json};
use support::{CHROMIUM, Driver, NpmRelay, StandaloneRelay, connected, disconnected, the_peer};

const PATIENCE: Duration = Duration::from_secs(120);
/// The number of pairings that run in parallel.
const WORKERS: usize = 6;
/// The number of texts in each direction.
const TEXTS: usize = 20;
/// The size of the largest message over WebRTC, in bytes.
const LARGEST: usize = 262_144;
/// How long two originals have to disconnect on a relay that tells nobody who has left. They would within 0.1 s.
const BREAK_UP: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Chromium,
    /// Chromium that hides its addresses behind mDNS names, as it does by default.
    ChromiumMdns,
    Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Relay,
    WebRtc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Original(Place, Transport);

const ORIGINALS: [Original; 5] = [
    Original(Place::Chromium, Transport::Relay),
    Original(Place::Chromium, Transport::WebRtc),
    Original(Place::ChromiumMdns, Transport::WebRtc),
    Original(Place::Node, Transport::Relay),
    Original(Place::Node, Transport::WebRtc),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pairing {
    JoinsOurHost,
    HostsOurClient,
    JoinsOriginalIn(Place),
}

const PAIRINGS: [Pairing; 4] = [
    Pairing::JoinsOurHost,
    Pairing::HostsOurClient,
    Pairing::JoinsOriginalIn(Place::Chromium),
    Pairing::JoinsOriginalIn(Place::Node),
];

/// The messages that two peers can exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Text,
    TextAndBytes,
    /// The connection ends as soon as it is open.
    Breaks,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Text => "text",
            Outcome::TextAndBytes => "text, bytes",
            Outcome::Breaks => "breaks",
        })
    }
}

/// Starts the process of the originals.
fn start_driver() -> Driver {
    let packages = ["uhst@3.3.0", "@roamhq/wrtc@0.10.0", "eventsource@4.1.0", "playwright-core@1.56"];
    Driver::start("originals.mjs", &[CHROMIUM], "originals", &packages)
}

/// Returns the messages of one direction as commands of the driver.
fn messages(transport: Transport, from: &str) -> Vec<Value> {
    let mut messages: Vec<_> = (0..TEXTS).map(|i| json!({ "text": format!("{from} {i} ✓") })).collect();
    if transport == Transport::WebRtc {
        let largest: Vec<u8> = (0..LARGEST).map(|i| (i * 31 % 251) as u8).collect();
        messages.extend([json!({ "text": "" }), json!({ "bytes": [0, 255] }), json!({ "bytes": largest })]);
        messages.extend([json!({ "text": "ß".repeat(LARGEST / 2) }), json!({ "text": "and more" })]);
    }
    messages
}

fn payload(message: &Value) -> Payload {
    match message["text"].as_str() {
        Some(text) => Payload::from(text),
        None => Payload::from(serde_json::from_value::<Vec<u8>>(message["bytes"].clone()).unwrap()),
    }
}

/// Exchanges messages between an app and an original, and checks their order.
fn talk(app: &mut App, original: &Peer, transport: Transport) -> Outcome {
    for message in messages(transport, "original") {
        original.send(message);
    }
    let expected: Vec<_> = messages(transport, "original").iter().map(payload).collect();
    let received = |app: &App| -> Vec<Payload> {
        let payload = |event: &TestEvent| match event {
            TestEvent::Message(message) => Some(message.payload.clone()),
            _ => None,
        };
        TestLog::of(app).0.iter().filter_map(payload).collect()
    };
    update_until(&mut [app], PATIENCE, |apps| received(apps[0]).len() >= expected.len());
    assert!(received(app) == expected, "{} of {} messages", received(app).len(), expected.len());
    let peer = the_peer(app);
    let handle = app.world().get::<UhstPeer>(peer).unwrap();
    assert!(!handle.is_native());
    for message in messages(transport, "ours") {
        handle.send(payload(&message)).unwrap();
    }
    for message in messages(transport, "ours") {
        original.hears(&message);
    }
    match transport {
        Transport::Relay => {
            assert_eq!(handle.send(vec![1]), Err(SendError::TextOnly));
            Outcome::Text
        }
        Transport::WebRtc => {
            assert_eq!(handle.path(), Path::Direct);
            assert_eq!(handle.max_message(), LARGEST);
            let size = LARGEST + 1;
            assert_eq!(handle.send(vec![0; size]), Err(SendError::TooLarge { size, limit: LARGEST }));
            Outcome::TextAndBytes
        }
    }
}

/// The address of a relay, and whether it is ours.
#[derive(Clone, Copy)]
struct At<'a> {
    ours: bool,
    address: &'a str,
}

impl At<'_> {
    fn relay(&self) -> Relay {
        Relay::Url(format!("http://{}/", self.address))
    }

    /// Whether the peer learns that the other side has left. npm's relay does not report it.
    fn tells_of_leaving(&self, transport: Transport) -> bool {
        self.ours || transport == Transport::WebRtc
    }
}

fn joins_our_host(driver: &Driver, at: At, original: Original, id: &str) -> Outcome {
    let transport = original.1;
    let mut host = TestNetwork::loopback().host_with(UhstHost::new(id).relay(at.relay()));
    let client = Peer::start(driver, original, "join", at.address, id);
    client.wait("open");
    let outcome = talk(&mut host, &client, transport);
    client.close();
    let peer = the_peer(&mut host);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| {
        if !at.tells_of_leaving(transport)
            && let Some(peer) = apps[0].world().get::<UhstPeer>(peer)
        {
            // The host notices only that its messages no longer arrive.
            let _ = peer.send("anybody there?");
        }
        disconnected(apps[0]).len() == 1
    }));
    let reason = if at.tells_of_leaving(transport) { EndReason::Left } else { EndReason::TimedOut };
    assert_eq!(disconnected(&host), [reason]);
    outcome
}

fn hosts_our_client(driver: &Driver, at: At, original: Original, id: &str) -> Outcome {
    let transport = original.1;
    let host = Peer::start(driver, original, "host", at.address, id);
    host.wait("ready");
    let mut client = TestNetwork::loopback().join_with(UhstClient::join(id).relay(at.relay()));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| connected(apps[0]) == 1), "{:?}", TestLog::of(&client));
    // For a host on the relay, the introduction is an empty text, which opens the connection. For a host on WebRTC, it
    // is an offer.
    if transport == Transport::Relay {
        host.hears(&json!({ "text": "" }));
    }
    host.wait("open");
    let peer = the_peer(&mut client);
    let path = if transport == Transport::Relay { Path::Relay } else { Path::Direct };
    // The path is there at once, unless the host answers late on a busy machine.
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| {
        apps[0].world().get::<UhstPeer>(peer).is_some_and(|peer| peer.path() == path)
    }));
    let outcome = talk(&mut client, &host, transport);
    client.world_mut().write_message(AppExit::Success);
    client.update();
    if at.tells_of_leaving(transport) {
        host.wait("close");
    }
    outcome
}

fn originals_meet(driver: &Driver, at: At, client: Original, place: Place, id: &str) -> Outcome {
    let Original(_, transport) = client;
    let host = Peer::start(driver, Original(place, transport), "host", at.address, id);
    host.wait("ready");
    let client = Peer::start(driver, client, "join", at.address, id);
    client.wait("open");
    // A relay that reports who has left makes the host close the channel.
    let until = Instant::now() + if at.ours { PATIENCE } else { BREAK_UP };
    while transport == Transport::WebRtc && Instant::now() < until {
        if host.has_closed() || client.has_closed() {
            return Outcome::Breaks;
        }
        thread::sleep(Duration::from_millis(10));
    }
    for message in messages(transport, "client") {
        client.send(message);
    }
    messages(transport, "client").iter().for_each(|message| host.hears(message));
    for message in messages(transport, "host") {
        host.send(message);
    }
    messages(transport, "host").iter().for_each(|message| client.hears(message));
    if transport == Transport::Relay { Outcome::Text } else { Outcome::TextAndBytes }
}

type Job = (Original, Pairing, bool);

fn table(outcomes: &BTreeMap<Job, Outcome>) -> String {
    let mut table = String::from(
        "| npm's `uhst` 3.3.0 | joins our host | hosts our client | joins it in Chromium | joins it in node |\n|---|---|---|---|---|\n",
    );
    for original in ORIGINALS {
        let place = match original.0 {
            Place::Chromium | Place::ChromiumMdns => "Chromium",
            Place::Node => "node",
        };
        let transport = match original {
            Original(_, Transport::Relay) => "relay",
            Original(Place::ChromiumMdns, _) => "WebRTC, mDNS",
            Original(..) => "WebRTC",
        };
        table += &format!("| {place}, {transport} |");
        for pairing in PAIRINGS {
            let (ours, theirs) = (outcomes[&(original, pairing, true)], outcomes[&(original, pairing, false)]);
            table += &if ours == theirs { format!(" {ours} |") } else { format!(" {ours} / {theirs} |") };
        }
        table.push('\n');
    }
    table
}

#[test]
#[ignore = "needs node, npm and Chromium"]
fn every_pairing_does_what_the_readme_says() {
    let driver = start_driver();
    let (ours, theirs) = (StandaloneRelay::start(), NpmRelay::start());
    // The pairings at npm's relay start first, since its responses take seconds.
    let jobs = [false, true].into_iter().flat_map(|ours| {
        ORIGINALS
            .into_iter()
            .flat_map(move |original| PAIRINGS.into_iter().map(move |pairing| (original, pairing, ours)))
    });
    let jobs = Mutex::new(jobs.collect::<VecDeque<Job>>());
    let (outcomes, failures) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let work = || loop {
        let Some(job) = jobs.lock().unwrap().pop_front() else { return };
        let (original, pairing, is_ours) = job;
        let at = At { ours: is_ours, address: if is_ours { ours.address() } else { theirs.address() } };
        let id = format!("{}-{:?}-{pairing:?}", if is_ours { "ours" } else { "npm" }, original)
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let since = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| match pairing {
            Pairing::JoinsOurHost => joins_our_host(&driver, at, original, &id),
            Pairing::HostsOurClient => hosts_our_client(&driver, at, original, &id),
            Pairing::JoinsOriginalIn(place) => originals_meet(&driver, at, original, place, &id),
        }));
        println!(
            "{:5.1} s  {id}: {}",
            since.elapsed().as_secs_f32(),
            outcome.as_ref().map_or("FAILED".to_owned(), |o| o.to_string())
        );
        match outcome {
            Ok(outcome) => drop(outcomes.lock().unwrap().insert(job, outcome)),
            Err(_) => failures.lock().unwrap().push(id),
        }
    };
    thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "failed: {failures:?}");
    let mut mistakes = driver.mistakes();
    // Where two originals disconnect, candidates still arrive for the closed connection of the host.
    mistakes
        .retain(|mistake| !mistake["text"].as_str().is_some_and(|text| text.ends_with("RTCPeerConnection is closed.")));
    assert!(mistakes.is_empty(), "errors of originals: {mistakes:?}");
    let table = table(&outcomes.into_inner().unwrap());
    println!("{table}");
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "the README has another table:\n{table}");
}

#[test]
#[ignore = "needs node, npm and Chromium"]
fn a_host_that_answers_late_hears_everything() {
    let (driver, relay) = (start_driver(), StandaloneRelay::start());
    // This needs Chromium: `@roamhq/wrtc` may report a message before the opening of its channel.
    let original = Original(Place::Chromium, Transport::WebRtc);
    let host = Peer::start_slow(&driver, original, "host", relay.address(), "slow", 3000);
    host.wait("ready");
    let mut client = TestNetwork::loopback().join_with(UhstClient::join("slow").relay(relay.relay()));
    // A silent host counts as one on the relay.
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| connected(apps[0]) == 1));
    let peer = the_peer(&mut client);
    let send = |app: &App, text: String| app.world().get::<UhstPeer>(peer).unwrap().send(text).unwrap();
    assert_eq!(
        client.world().get::<UhstPeer>(peer).unwrap().max_message(),
        65_536,
        "the limit of a text over the relay"
    );
    (0..20).for_each(|i| send(&client, format!("early {i}")));
    host.wait("open");
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| {
        apps[0].world().get::<UhstPeer>(peer).is_some_and(|peer| peer.path() == Path::Direct)
    }));
    assert_eq!(client.world().get::<UhstPeer>(peer).unwrap().max_message(), LARGEST);
    send(&client, "late".to_owned());
    client.world().get::<UhstPeer>(peer).unwrap().send(vec![1, 2]).unwrap();
    (0..20).for_each(|i| host.hears(&json!({ "text": format!("early {i}") })));
    host.hears(&json!({ "text": "late" }));
    host.hears(&json!({ "bytes": [1, 2] }));
    host.send(json!({ "text": "an answer" }));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| TestLog::of(apps[0]).texts() == ["an answer"]));
    assert_eq!((connected(&client), disconnected(&client).len()), (1, 0));
}
