//! The messages of one client keep the order in which they arrive, on any number of connections.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use crate::support::*;

#[tokio::test]
async fn messages_of_one_client_keep_the_order_in_which_they_arrive() {
    let relay = start().await;
    let (mut host, _) = host(&relay, "demo").await;
    let target = format!("/?token={}", client_token(&relay, "demo").await);
    // Heads arrive in order, but bodies do not: a small one is complete before a large one.
    let mut wires = Vec::new();
    for n in 0..6 {
        let body = format!("[{n},\"{}\"]", "x".repeat(60_000 >> (2 * n)));
        let mut wire = Wire::open(relay.local_addr()).await;
        let post = request("POST", &target, &[JSON], &body);
        let (head, rest) = post.split_at(post.len() - body.len());
        wire.write(head).await;
        // The relay has read the head when it answers a request that was sent later.
        assert_eq!(ask(&relay, "POST", "/?action=ping", &[], "").await.status, 200);
        wires.push((wire, rest.to_vec()));
    }
    for (wire, rest) in wires.iter_mut().rev() {
        wire.write(rest).await;
    }
    for n in 0..6 {
        let (_, body) = host.message().await;
        assert!(body.starts_with(&format!("[{n},")), "{n}: {}", &body[..10]);
    }
    // A message that never completes delays the others only briefly.
    let mut lost = Wire::open(relay.local_addr()).await;
    lost.write(format!("POST {target} HTTP/1.1\r\nHost: relay\r\n{JSON}\r\nContent-Length: 100\r\n\r\n")).await;
    assert_eq!(ask(&relay, "POST", "/?action=ping", &[], "").await.status, 200);
    assert_eq!(ask(&relay, "POST", &target, &[JSON], "[7]").await.status, 200);
    assert_eq!(host.message().await.1, "[7]");
}

/// Reads `count` responses.
fn answers(stream: &mut TcpStream, mut count: usize) {
    let mut received = Vec::new();
    while count > 0 {
        let mut more = [0; 4096];
        let length = stream.read(&mut more).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&more[..length]);
        let text = String::from_utf8_lossy(&received).into_owned();
        assert!(!text.contains("HTTP/1.1 4"), "{text}");
        let found = text.matches("\r\n\r\n{}").count();
        if found >= count {
            return;
        }
        count -= found;
        received = received.split_off(text.rfind("\r\n\r\n{}").map_or(0, |at| at + 6));
    }
}

/// Sends numbered messages in bursts, each on another connection, some of which are new. The last burst uses one
/// connection.
pub fn send_bursts(relay: std::net::SocketAddr, target: &str, bursts: usize) -> usize {
    const AT_ONCE: usize = 6;
    let open = || {
        let stream = TcpStream::connect(relay).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..AT_ONCE).map(|_| open()).collect();
    // The relay has accepted all connections.
    for stream in &mut streams {
        stream.write_all(&request("POST", "/?action=ping", &[], "")).unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
    }
    // While the relay writes a response, the operating system holds back data on the same connection.
    let mut other = open();
    let mut pause = || {
        other.write_all(&request("POST", "/?action=ping", &[], "")).unwrap();
        let _ = other.read(&mut [0; 1024]).unwrap();
    };
    let post = |number: usize| request("POST", target, &[JSON], format!("[{number}]"));
    let mut number = 0;
    for burst in 0..bursts {
        pause();
        let first = burst % AT_ONCE;
        for n in 0..AT_ONCE {
            streams[(first + n) % AT_ONCE].write_all(&post(number)).unwrap();
            number += 1;
        }
        streams.iter_mut().for_each(|stream| answers(stream, 1));
    }
    let together: Vec<u8> = (0..50).flat_map(|n| post(number + n)).collect();
    streams[0].write_all(&together).unwrap();
    answers(&mut streams[0], 50);
    number + 50
}

/// Runs several clients at once, each with bursts, so that the relay's threads steal work from each other.
async fn bursts_keep_their_order() {
    const BURSTS: usize = 200;
    let relay = start().await;
    let (mut host, _) = host(&relay, "demo").await;
    let addr = relay.local_addr();
    let mut senders = Vec::new();
    for _ in 0..3 {
        let target = format!("/?token={}", client_token(&relay, "demo").await);
        senders.push(thread::spawn(move || send_bursts(addr, &target, BURSTS)));
    }
    let mut next = std::collections::HashMap::new();
    for _ in 0..3 * (6 * BURSTS + 50) {
        let (token, body) = host.message().await;
        let client = uhst_proto::protocol::peek_token(&token).unwrap().client_id.unwrap();
        let next: &mut usize = next.entry(client).or_default();
        assert_eq!(body, format!("[{next}]"));
        *next += 1;
    }
    for sender in senders {
        assert_eq!(sender.join().unwrap(), 6 * BURSTS + 50);
    }
}

#[tokio::test]
async fn bursts_keep_their_order_on_one_thread() {
    bursts_keep_their_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bursts_keep_their_order_on_several_threads() {
    bursts_keep_their_order().await;
}

#[tokio::test]
async fn a_batch_is_passed_on_in_its_order_or_not_at_all() {
    let relay = start().await;
    let (mut host, host_token) = host(&relay, "demo").await;
    let joined = ask(&relay, "POST", "/?action=join&hostId=demo&uhst=1", &[], "").await.json();
    assert_eq!(joined["batch"], true);
    let batch = |token: &str| format!("/?token={token}&batch=1");
    let token = joined["clientToken"].as_str().unwrap();
    let mut stream = Events::open(&relay, token).await;
    let sent = ask(&relay, "POST", &batch(token), &[JSON], "[ {\"a\":1}, [2] ,{\"payload\":\"3\"}]").await;
    assert_eq!((sent.status, sent.text()), (200, "{}"));
    let mut response = String::new();
    for body in ["{\"a\":1}", "[2]", "{\"payload\":\"3\"}"] {
        let (token, received) = host.message().await;
        assert_eq!(received, body);
        response = token;
    }
    for (token, answer) in [(&response, "{}".to_owned()), (&host_token, sent_to_all(token))] {
        let sent = ask(&relay, "POST", &batch(token), &[JSON], "[[1],[2]]").await;
        assert_eq!((sent.status, sent.text()), (200, &*answer));
        stream.expect("data: {\"body\":[1]}\n\ndata: {\"body\":[2]}\n\n").await;
    }
    let many = format!("[{}[]]", "[],".repeat(64));
    for bad in ["", "{}", "[]", "[1]", "[[1],2]", "[[1],", "[[\"a\nb\"]]", &many] {
        assert_eq!(ask(&relay, "POST", &batch(token), &[JSON], bad).await.status, 400, "{bad}");
    }
    assert_eq!(send(&relay, token, "[\"next\"]").await.0, 200);
    assert_eq!(host.message().await.1, "[\"next\"]", "no message of a refused batch arrives");
}

/// Returns the response to a broadcast that reaches the client with this token.
fn sent_to_all(token: &str) -> String {
    format!("{{\"{}\":true}}", uhst_proto::protocol::peek_token(token).unwrap().client_id.unwrap())
}
