//! Relays and peers that send nonsense, too much, or nothing at all. Nothing panics, memory stays bounded, and each is
//! reported once.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod by_hand;
mod original;
mod support;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use by_hand::{ByHand, packets};
use original::Original;
use support::{PATIENCE, address, connected, diagnostics, disconnected, ended};

/// A relay that answers each request as it is told: `(method and URL) -> raw response`. `None` hangs up.
fn fake_relay(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || serve(stream.unwrap(), &*answer));
        }
    });
    address
}

fn serve(stream: TcpStream, answer: &dyn Fn(&str) -> Option<Vec<u8>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first = line.trim().to_owned();
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            } else if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let Some(response) = answer(&first) else { return };
        if writer.write_all(&response).is_err() {
            return;
        }
        if first.starts_with("GET") {
            // A stream stays open, until the other side has enough.
            let _ = reader.read(&mut [0]);
            return;
        }
    }
}

fn json(body: &str) -> Option<Vec<u8>> {
    Some(
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into_bytes(),
    )
}

fn events(body: &[u8]) -> Option<Vec<u8>> {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: Connected.\n";
    Some([head.as_slice(), body].concat())
}

fn token(claims: &str) -> String {
    format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(claims))
}

/// A relay that lets anyone host and join, and whose stream says this.
fn relay_that_says(stream: Vec<u8>) -> String {
    fake_relay(move |request| match request {
        request if request.contains("action=host") => {
            json(&format!(r#"{{"hostId":"x","hostToken":"{}"}}"#, token(r#"{"type":"hostToken","hostId":"x"}"#)))
        }
        request if request.contains("action=join") => {
            json(&format!(r#"{{"clientToken":"{}"}}"#, token(r#"{"type":"clientToken","hostId":"x","clientId":"c"}"#)))
        }
        request if request.starts_with("GET") => events(&stream),
        _ => json("{}"),
    })
}

fn host_on(address: &str) -> App {
    let mut app = TestNetwork::memory().app();
    app.world_mut().spawn(UhstHost::new("x").relay(Relay::Url(format!("http://{address}/"))));
    app
}

fn join_on(address: &str) -> App {
    let mut app = TestNetwork::memory().app();
    app.world_mut().spawn(UhstClient::join("x").relay(Relay::Url(format!("http://{address}/"))));
    app
}

/// Host and client both end, saying that the relay is of no use.
fn relay_of_no_use(address: &str) {
    for mut app in [host_on(address), join_on(address)] {
        assert!(update_until(&mut [&mut app], PATIENCE, |apps| !ended(apps[0]).is_empty()));
        assert!(matches!(ended(&app)[..], [EndReason::RelayUnreachable(_)]), "{:?}", ended(&app));
    }
}

#[test]
fn a_relay_that_is_not_there() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    relay_of_no_use(&address);
}

#[test]
fn a_relay_that_hangs_up() {
    relay_of_no_use(&fake_relay(|_| None));
}

#[test]
fn a_relay_that_answers_with_a_page() {
    relay_of_no_use(&fake_relay(|_| json("<html>hello</html>")));
}

#[test]
fn a_relay_that_answers_with_the_wrong_types() {
    relay_of_no_use(&fake_relay(|_| json(r#"{"hostId":7,"hostToken":[],"clientToken":{}}"#)));
}

#[test]
fn a_relay_that_answers_without_end() {
    relay_of_no_use(&fake_relay(|_| json(&format!(r#"{{"hostId":"{}"}}"#, "x".repeat(10_000_000)))));
}

#[test]
fn a_relay_whose_errors_have_no_end() {
    relay_of_no_use(&fake_relay(|_| {
        let body = "x".repeat(10_000_000);
        Some(format!("HTTP/1.1 500 Oh\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }));
}

#[test]
fn a_relay_whose_stream_is_a_page() {
    relay_of_no_use(&fake_relay(|request| match request {
        request if request.contains("action=host") => json(r#"{"hostId":"x","hostToken":"t"}"#),
        request if request.contains("action=join") => json(r#"{"clientToken":"t"}"#),
        _ => json("{}"),
    }));
}

#[test]
fn a_line_of_ten_megabytes_breaks_the_stream_and_no_more() {
    let address = relay_that_says([b"data: ".as_slice(), &vec![b'x'; 10 << 20]].concat());
    let mut host = host_on(&address);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| {
        diagnostics(apps[0]).iter().any(|text| text.contains("larger than"))
    }));
    assert_eq!(ended(&host), []);
}

#[test]
fn each_kind_of_nonsense_from_the_relay_is_reported_once() {
    let response_token = token(r#"{"type":"responseToken","hostId":"x","clientId":"c"}"#);
    let mut stream = String::new();
    for _ in 0..1000 {
        for data in [
            "not json",
            "[]",
            "7",
            "{}",
            r#"{"body":{"payload":"who?"}}"#,
            r#"{"responseToken":"forged","body":{"payload":"who?"}}"#,
            r#"{"responseToken":7,"body":{}}"#,
            &format!(r#"{{"responseToken":"{}","body":{{"payload":"x"}}}}"#, token(r#"{"clientId":7}"#)),
            &format!(r#"{{"responseToken":"{response_token}","body":{{}}}}"#),
            &format!(r#"{{"responseToken":"{response_token}","body":7}}"#),
            &format!(r#"{{"responseToken":"{response_token}","body":{{"uhst":7}}}}"#),
            &format!(r#"{{"responseToken":"{response_token}","body":{{"uhst":{{"v":1,"p":"%"}}}}}}"#),
            &format!(r#"{{"responseToken":"{response_token}","body":{{"uhst":{{"v":1,"p":"AAAA"}}}}}}"#),
            &format!(r#"{{"responseToken":"{response_token}","body":{{"sdp":"v=0","type":"offer"}}}}"#),
            &format!(r#"{{"responseToken":"{response_token}","body":{{"candidate":{{}}}}}}"#),
        ] {
            stream.push_str(&format!("data: {data}\n\n"));
        }
        stream.push_str("event: relay_event\ndata: {\"eventType\":\"moon_full\",\"body\":\"x\"}\n\n");
        stream.push_str("event: relay_event\ndata: nonsense\n\n");
        stream.push_str("event: never_heard_of\ndata: {}\nid: 7\nretry: 1\n\n");
    }
    // A word that makes sense shows that the host is still there when all is read.
    let last = token(r#"{"type":"responseToken","hostId":"x","clientId":"last"}"#);
    stream.push_str(&format!("data: {{\"responseToken\":\"{last}\",\"body\":{{\"payload\":\"sense\"}}}}\n\n"));
    let mut host = host_on(&relay_that_says(stream.into_bytes()));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| TestLog::of(apps[0]).texts() == ["sense"]));
    let mut diagnostics = diagnostics(&host);
    diagnostics.sort();
    // One of each kind, in the words of the first.
    let kinds = [
        "a message cannot be read",
        "a packet came from an unknown peer",
        "a peer of the original protocol was ignored: it wants WebRTC",
        "the relay did not say who sent a message",
        "the relay sent an event that cannot be read",
    ];
    let each_once = diagnostics.iter().zip(kinds).all(|(text, kind)| text.starts_with(kind));
    assert!(each_once && diagnostics.len() == kinds.len(), "{diagnostics:#?}");
    assert_eq!(ended(&host), []);
}

#[test]
fn a_flood_of_strangers_leaves_the_host_usable() {
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x").max_peers(2));
    let relay = address(&host);
    // Each begins a handshake of its own that it never ends.
    let mut strangers: Vec<ByHand> =
        (0..100).map(|number| ByHand::new(Original::join(&relay, "x"), [number; 32])).collect();
    strangers.iter_mut().for_each(ByHand::speak);
    let hellos: HashSet<_> = strangers.iter().flat_map(|stranger| &stranger.sent).collect();
    assert_eq!(hellos.len(), strangers.len());
    let mut client = network.join(&host);
    let both = |apps: &mut [&mut App]| connected(apps[0]) == 1 && connected(apps[1]) == 1;
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, both));
    // So many of one address are answered at once; the others ask again.
    let answers: HashSet<_> = strangers.iter().flat_map(|stranger| packets(&stranger.wire)).collect();
    assert!((16..strangers.len()).contains(&answers.len()), "{} were answered", answers.len());
    assert_eq!((connected(&host), ended(&host)), (1, vec![]));
}

#[test]
fn an_original_that_floods_a_game_that_does_not_read_is_disconnected() {
    let config = ConnectionConfig { receive_buffer: 1 << 20, max_message: 1 << 18, ..ConnectionConfig::default() };
    let mut host = TestNetwork::loopback().host_with(UhstHost::new("x").connection(config));
    let original = Original::join(&address(&host), "x");
    assert_eq!(original.send(&original.token, "hello"), 200);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| connected(apps[0]) == 1));
    // The host is not updated: it sleeps while these come.
    let text = "x".repeat(60_000);
    for _ in 0..100 {
        original.send(&original.token, &text);
    }
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| disconnected(apps[0]) == [EndReason::TooMuchData]));
    let bytes: usize = TestLog::of(&host).texts().iter().map(|text| text.len()).sum();
    assert!(bytes <= 1 << 20, "{bytes}");
}

#[test]
fn a_native_sender_waits_for_a_game_that_does_not_read() {
    let limit = 1 << 20;
    let config =
        ConnectionConfig { receive_buffer: limit, send_buffer: limit, max_message: 1 << 18, ..Default::default() };
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("x").connection(config.clone()));
    let link = bevy_uhst::test_app::link(&host).to_string();
    let mut client = network.join_with(UhstClient::join(link).connection(config));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));
    // The host sleeps. The client sends until its own queue is full, for longer than any timeout would allow.
    let peer = support::the_peer(&mut client);
    let mut sent = 0_u32;
    let mut full = 0;
    update_until(&mut [&mut client], Duration::from_secs(2), |apps| {
        let peer = apps[0].world().get::<UhstPeer>(peer).unwrap();
        let mut message = vec![0; 10_000];
        loop {
            message[..4].copy_from_slice(&sent.to_be_bytes());
            match peer.send(message.clone()) {
                Ok(()) => sent += 1,
                Err(SendError::QueueFull { queued, limit: most }) => {
                    assert!(queued <= limit && most == limit);
                    full += 1;
                    return false;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert!(full > 0);
    // Both buffers and what was on its way, not the flood.
    assert!((sent as usize) * 10_000 < 4 * limit, "{sent}");
    // Then it reads, and everything is there, in order.
    let numbers = |app: &App| -> Vec<u32> {
        let number = |event: &TestEvent| match event {
            TestEvent::Message(message) => {
                Some(u32::from_be_bytes(message.payload.as_bytes()[..4].try_into().unwrap()))
            }
            _ => None,
        };
        TestLog::of(app).0.iter().filter_map(number).collect()
    };
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| numbers(apps[0]).len() == sent as usize));
    assert!(numbers(&host).into_iter().eq(0..sent));
    assert_eq!((disconnected(&host), disconnected(&client)), (vec![], vec![]));
}
