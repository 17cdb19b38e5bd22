//! Peers of the original protocol as hosts and as clients, through our relay and through the original one.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod original;
mod support;

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use original::{Heard, Original};
use support::{PATIENCE, StandaloneRelay, address, connected, disconnected, ended, the_peer};

/// The time after which a silent client introduces itself, with some reserve.
const KNOCK: Duration = Duration::from_millis(2000);

fn texts(app: &App) -> Vec<String> {
    TestLog::of(app).texts().into_iter().map(str::to_owned).collect()
}

/// Sends a message if the relay does not report that a peer has left: then only undelivered messages show it. The relay may
/// accept the first one before it has noticed the closed socket.
fn ask(app: &App, peer: Entity, tells_of_leaving: bool) {
    if !tells_of_leaving && let Some(peer) = app.world().get::<UhstPeer>(peer) {
        let _ = peer.send("anybody there?");
    }
}

/// Text both ways between an original client and our host, at this relay.
fn original_joins(mut host: App, relay: &str, tells_of_leaving: bool) {
    let client = Original::join(relay, "plain");
    assert_eq!(client.send(&client.token, "hello"), 200);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| texts(apps[0]) == ["hello"]), "{:?}", TestLog::of(&host));
    assert_eq!(connected(&host), 1);

    let peer = the_peer(&mut host);
    let handle = host.world().get::<UhstPeer>(peer).unwrap();
    assert!(!handle.is_native());
    for i in 0..20 {
        handle.send(format!("answer {i}")).unwrap();
    }
    assert_eq!(handle.send(vec![1, 2, 3]), Err(SendError::TextOnly));
    let broadcast =
        host.world_mut().query::<&UhstHost>().single(host.world()).unwrap().broadcast("to all \u{2028}\"✓\"");
    assert!(broadcast.is_complete(), "{broadcast:?}");
    for i in 0..20 {
        assert_eq!(client.next_text().1, format!("answer {i}"));
    }
    assert_eq!(client.next_text().1, "to all \u{2028}\"✓\"");

    for text in ["", "second", "third"] {
        assert_eq!(client.send(&client.token, text), 200);
    }
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| texts(apps[0]) == ["hello", "", "second", "third"]));
    client.close();
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| {
        ask(apps[0], peer, tells_of_leaving);
        disconnected(apps[0]).len() == 1
    }));
    let reason = if tells_of_leaving { EndReason::Left } else { EndReason::TimedOut };
    assert_eq!(disconnected(&host), [reason]);
}

/// Text both ways between our client and an original host, at this relay. Under an id of its own: a relay may not have
/// seen yet that an earlier host is gone.
fn original_hosts(relay: &str, tells_of_leaving: bool) {
    let host = Original::host(relay, "original");
    assert_eq!(host.next(), Heard::Open);
    let network = TestNetwork::loopback();
    let mut client = network.join_with(UhstClient::join(format!("http://{relay}/#original")));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| connected(apps[0]) == 1), "{:?}", TestLog::of(&client));

    // Our introduction: an empty text to an original.
    let (token, text) = host.next_text();
    assert_eq!(text, "");
    let token = token.unwrap();
    let peer = the_peer(&mut client);
    let handle = client.world().get::<UhstPeer>(peer).unwrap();
    assert!(!handle.is_native());
    for i in 0..20 {
        handle.send(format!("message {i}")).unwrap();
    }
    for i in 0..20 {
        assert_eq!(host.next_text().1, format!("message {i}"));
    }
    assert_eq!(host.send(&token, "an answer"), 200);
    assert_eq!(host.send(&host.token, "to all"), 200);
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| texts(apps[0]) == ["an answer", "to all"]));

    host.close();
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| {
        ask(apps[0], peer, tells_of_leaving);
        !ended(apps[0]).is_empty()
    }));
    let reason = if tells_of_leaving { EndReason::Left } else { EndReason::TimedOut };
    assert_eq!((disconnected(&client), ended(&client)), (vec![reason.clone()], vec![reason]));
}

/// Returns the number of requests that this relay has answered so far.
fn requests(relay: &str) -> u64 {
    let mut stream = std::net::TcpStream::connect(relay).unwrap();
    let ask = format!("GET /metrics HTTP/1.1\r\nHost: {relay}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
    let metrics = std::io::read_to_string(stream).unwrap();
    let counts = metrics.lines().filter(|line| line.starts_with("uhst_relay_answers_total"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn many_texts_to_an_original_take_few_requests_to_our_relay() {
    let mut host = TestNetwork::loopback().host("plain");
    let relay = address(&host);
    let client = Original::join(&relay, "plain");
    assert_eq!(client.send(&client.token, "hello"), 200);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| connected(apps[0]) == 1));
    let before = requests(&relay);
    assert_ne!(before, 0);
    let peer = the_peer(&mut host);
    for i in 0..600 {
        host.world().get::<UhstPeer>(peer).unwrap().send(format!("text \u{1}{i}")).unwrap();
    }
    for i in 0..600 {
        assert_eq!(client.next_text().1, format!("text \u{1}{i}"));
    }
    let asked = requests(&relay) - before;
    assert!(asked < 60, "{asked} requests");
}

#[test]
fn an_original_client_plays_with_our_host_through_our_relay() {
    let host = TestNetwork::loopback().host("plain");
    let relay = address(&host);
    original_joins(host, &relay, true);
}

#[test]
fn our_client_plays_with_an_original_host_through_our_relay() {
    let relay = StandaloneRelay::start();
    original_hosts(relay.address(), true);
}

/// Creates a client of ours that is connected to the original host `id`.
fn joined(relay: &StandaloneRelay, id: &str, network: &TestNetwork) -> App {
    let mut client = network.join_with(UhstClient::join(id).relay(relay.relay()));
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| connected(apps[0]) == 1), "{:?}", TestLog::of(&client));
    client
}

#[test]
fn an_original_host_that_has_answered_anybody_gets_no_empty_message_at_a_join() {
    let relay = StandaloneRelay::start();
    let network = TestNetwork::loopback();
    let host = Original::host(relay.address(), "relay");
    assert_eq!(host.next(), Heard::Open);
    let _first = joined(&relay, "relay", &network);
    let (token, text) = host.next_text();
    assert_eq!(text, "", "nothing is known of it: it might need an offer");
    assert_eq!(host.send(&host.token, "to all"), 200);
    let _second = joined(&relay, "relay", &network);
    assert_eq!(host.next_text().1, "", "a host on WebRTC broadcasts in the same way");
    assert_eq!(host.send(&token.unwrap(), "welcome"), 200);

    let mut third = joined(&relay, "relay", &network);
    let peer = the_peer(&mut third);
    third.world().get::<UhstPeer>(peer).unwrap().send("first").unwrap();
    let (token, text) = host.next_text();
    assert_eq!(text, "first");
    assert_eq!(host.send(&token.unwrap(), "hello"), 200);
    assert!(update_until(&mut [&mut third], PATIENCE, |apps| texts(apps[0]) == ["hello"]));
    assert_eq!(host.next_within(KNOCK), None, "nor later");

    let mut silent = joined(&relay, "relay", &network);
    let (token, text) = host.next_text();
    assert_eq!(text, "", "one that only listens makes itself known");
    assert_eq!(host.send(&token.unwrap(), "who are you?"), 200);
    assert!(update_until(&mut [&mut silent], PATIENCE, |apps| texts(apps[0]) == ["who are you?"]));
}

#[test]
fn a_session_that_cannot_play_with_an_original_on_the_relay_says_why_at_once() {
    let relay = StandaloneRelay::start();
    let host = Original::host(relay.address(), "relay");
    assert_eq!(host.next(), Heard::Open);
    let network = TestNetwork::loopback();
    let _first = joined(&relay, "relay", &network);
    assert_eq!(host.send(&host.next_text().0.unwrap(), "welcome"), 200);
    let client = || UhstClient::join("relay").relay(relay.relay());
    let direct_only = (client().paths(PathPolicy::DirectOnly), "NoDirectPath");
    for (client, expected) in [direct_only, (client().password("swordfish"), "Refused")] {
        let mut client = network.join_with(client);
        assert!(update_until(&mut [&mut client], PATIENCE, |apps| !ended(apps[0]).is_empty()));
        assert!(format!("{:?}", ended(&client)[0]).starts_with(expected), "{:?}", ended(&client));
        assert_eq!(connected(&client), 0);
        while let Some(heard) = host.next_within(Duration::from_millis(300)) {
            assert!(matches!(heard, Heard::Relay(..)), "{heard:?}");
        }
    }
}

#[test]
fn a_client_that_stays_on_the_relay_does_not_connect_to_an_original_host_on_webrtc() {
    let relay = StandaloneRelay::start();
    let host = Original::host(relay.address(), "webrtc");
    assert_eq!(host.next(), Heard::Open);
    let network = TestNetwork::loopback().paths(PathPolicy::RelayOnly);
    let mut client = network.join_with(UhstClient::join(format!("http://{}/#webrtc", relay.address())));
    client.update();
    let (token, _) = host.next_text();
    assert_eq!(host.send_json(&token.unwrap(), r#"{"sdp":"v=0\r\n","type":"answer"}"#), 200);
    assert!(update_until(&mut [&mut client], PATIENCE, |apps| !ended(apps[0]).is_empty()));
    assert!(matches!(ended(&client)[..], [EndReason::NoDirectPath(_)]), "{:?}", ended(&client));
    assert_eq!(connected(&client), 0);
}

#[test]
fn native_and_original_clients_play_side_by_side() {
    let network = TestNetwork::loopback();
    let mut host = network.host("plain");
    let original = Original::join(&address(&host), "plain");
    assert_eq!(original.send(&original.token, "original"), 200);
    let mut native = network.join(&host);
    assert!(update_until(&mut [&mut host, &mut native], PATIENCE, |apps| connected(apps[0]) == 2
        && connected(apps[1]) == 1));
    let broadcast = host.world_mut().query::<&UhstHost>().single(host.world()).unwrap().broadcast("to both");
    assert!(broadcast.is_complete(), "{broadcast:?}");
    assert_eq!(original.next_text().1, "to both");
    assert!(update_until(&mut [&mut host, &mut native], PATIENCE, |apps| texts(apps[1]) == ["to both"]));
}

#[test]
fn an_original_cannot_enter_where_a_password_is_asked_and_that_is_said_once() {
    let mut host = TestNetwork::loopback().host_with(UhstHost::new("plain").password("swordfish"));
    let original = Original::join(&address(&host), "plain");
    for _ in 0..5 {
        assert_eq!(original.send(&original.token, "let me in"), 200);
    }
    let diagnosed = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Diagnostic(_)));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| diagnosed(apps[0]) > 0));
    assert!(!update_until(&mut [&mut host], Duration::from_millis(200), |apps| diagnosed(apps[0]) > 1));
    assert_eq!(connected(&host), 0);
}

#[test]
#[ignore = "needs node and npm"]
fn everyone_plays_through_the_original_relay() {
    let relay = support::NpmRelay::start();
    let url = Relay::Url(format!("http://{}/", relay.address()));

    let network = TestNetwork::loopback();
    let host = network.host_with(UhstHost::new("plain").relay(url.clone()));
    original_joins(host, relay.address(), false);
    original_hosts(relay.address(), false);

    // Two of ours, who find out that they are.
    let mut host = network.host_with(UhstHost::new("native").relay(url.clone()));
    let mut client = network.join_with(UhstClient::join("native").relay(url));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));
    let peer = the_peer(&mut client);
    let handle = client.world().get::<UhstPeer>(peer).unwrap();
    assert!(handle.is_native());
    for i in 0..100u8 {
        handle.send(vec![i]).unwrap();
    }
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
        TestLog::of(apps[0]).count(|event| matches!(event, TestEvent::Message(_))) == 100
    }));
    client.world_mut().write_message(AppExit::Success);
    client.update();
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| disconnected(apps[0]) == [EndReason::Left]));
}
