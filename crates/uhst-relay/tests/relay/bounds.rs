//! Extensions of the protocol: bounds on queues, limits and rates.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use uhst_relay::{RelayConfig, RelayLimits, RelayServer};

use crate::support::*;

/// Messages of 100 kB for one that does not read: fewer than this fit into a queue of 256 KiB and the buffer of a socket,
/// which the kernel lets grow to some megabytes.
const TAKEN: usize = 80;

async fn start_with(limits: RelayLimits) -> RelayServer {
    let patience = Duration::from_millis(100);
    RelayServer::start(RelayConfig { limits, patience, ..config() }).await.unwrap()
}

fn message(size: usize) -> String {
    format!("[\"{}\"]", "x".repeat(size - 4))
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_others_are_served() {
    let relay = start_with(RelayLimits { queue_bytes: 256 * 1024, ..RelayLimits::default() }).await;
    let (mut host, host_token) = host(&relay, "demo").await;
    let slow_token = client_token(&relay, "demo").await;
    let slow_wire = Wire::open_small(relay.local_addr()).await;
    let mut slow = Events::open_on(slow_wire, &format!("/?token={slow_token}")).await;
    let (mut quick, _, quick_id) = client(&relay, "demo").await;
    let only_quick = format!("{{\"{quick_id}\":true}}");
    let message = message(100_000);
    let frame = format!("data: {{\"body\":{message}}}\n\n");
    let mut sent = 0;
    loop {
        let (status, reached) = send(&relay, &host_token, &message).await;
        quick.expect(&frame).await;
        assert_eq!(status, 200);
        if reached == only_quick {
            break;
        }
        sent += 1;
        assert!(sent < TAKEN, "the queue takes {sent} messages");
    }
    let line = host.line().await;
    assert_eq!(line, "event: relay_event");
    assert!(host.line().await.contains("client_closed"));
    // The client finally reads, and finds the connection closed.
    let mut read = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut slow.wire.stream, &mut read).await;
    assert!(read.len() < sent * frame.len());
    assert!(ask(&relay, "GET", "/metrics", &[], "").await.text().contains("uhst_relay_dropped_listeners_total 1"));
}

#[tokio::test]
async fn a_host_that_does_not_read_is_dropped_after_a_while() {
    let relay = start_with(RelayLimits { queue_bytes: 256 * 1024, ..RelayLimits::default() }).await;
    let token = host_token(&relay, "demo").await;
    let slow = Wire::open_small(relay.local_addr()).await;
    let _slow = Events::open_on(slow, &format!("/?token={token}")).await;
    let (mut client, client_token, _) = client(&relay, "demo").await;
    let message = message(100_000);
    let mut taken = 0;
    let refused = loop {
        let answer = send(&relay, &client_token, &message).await;
        if answer.0 != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < TAKEN, "the queue takes {taken} messages");
    };
    assert_eq!(refused, (400, "Bad Request".to_owned()));
    client.expect("event: relay_event\ndata: {\"eventType\":\"host_closed\",\"body\":\"demo\"}\n\n").await;
}

#[tokio::test]
async fn a_large_transfer_waits_for_its_reader() {
    let limits = RelayLimits { queue_bytes: 256 * 1024, ..RelayLimits::default() };
    // Nobody is dropped while this test waits.
    let relay =
        RelayServer::start(RelayConfig { limits, patience: Duration::from_secs(60), ..config() }).await.unwrap();
    let token = host_token(&relay, "demo").await;
    let wire = Wire::open_small(relay.local_addr()).await;
    let mut host = Events::open_on(wire, &format!("/?token={token}")).await;
    let target = format!("/?token={}", client_token(&relay, "demo").await);
    let message = message(100_000);
    let posts = 168; // 16 MiB
    let answered = AtomicUsize::new(0);
    let sending = async {
        let mut wire = Wire::open(relay.local_addr()).await;
        for _ in 0..posts {
            assert_eq!(wire.request("POST", &target, &[JSON], &message).await.status, 200);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let reading = async {
        // Reads only once a POST has been without an answer for a while: the queue and the socket are full.
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = answered.load(Ordering::Relaxed);
            assert!(now < TAKEN, "{now} of {posts} are answered, and nobody reads");
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
        for _ in 0..posts {
            assert_eq!(host.message().await.1.len(), message.len());
        }
    };
    tokio::join!(sending, reading);
}

#[tokio::test]
async fn streams_are_limited() {
    let limits = RelayLimits { hosts: 2, clients_per_host: 1, listeners: 3, ..RelayLimits::default() };
    let relay = start_with(limits).await;
    let (one, _) = host(&relay, "one").await;
    let (_two, _) = host(&relay, "two").await;
    let third = host_token(&relay, "three").await;
    let answer = ask(&relay, "GET", &format!("/?token={third}"), &[], "").await;
    assert_eq!((answer.status, answer.text()), (503, "Service Unavailable"), "hosts");
    let (mut client, ..) = client(&relay, "one").await;
    let second = client_token(&relay, "one").await;
    assert_eq!(listen_status(&relay, &second).await, 503, "clients of one host");
    assert_eq!(listen_status(&relay, &client_token(&relay, "two").await).await, 503, "listeners in all");
    drop(one);
    client.line().await;
    assert_eq!(listen_status(&relay, &client_token(&relay, "two").await).await, 200, "there is room again");
}

#[tokio::test]
async fn requests_of_one_address_are_limited() {
    let requests_per_second = NonZeroU32::new(5);
    let relay = start_with(RelayLimits { requests_per_second, ..RelayLimits::default() }).await;
    let mut wire = Wire::open(relay.local_addr()).await;
    let mut passed = 0;
    // On a slow machine, more than five pass: there is room for another one after a fifth of a second.
    let answer = loop {
        let answer = wire.request("POST", "/?action=ping", &[], "").await;
        if answer.status != 200 {
            break answer;
        }
        passed += 1;
        assert!(passed < 100);
    };
    assert!(passed >= 5, "{passed}");
    assert_eq!((answer.status, answer.text()), (429, "Too Many Requests"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn bodies_are_limited() {
    let relay = start_with(RelayLimits { body_bytes: 10, ..RelayLimits::default() }).await;
    let (_host, _) = host(&relay, "demo").await;
    let token = client_token(&relay, "demo").await;
    assert_eq!(send(&relay, &token, "[\"123456\"]").await.0, 200);
    assert_eq!(send(&relay, &token, "[\"1234567\"]").await.0, 413);
}

#[tokio::test]
async fn tiny_messages_count_with_what_they_cost() {
    // One address may use half of the memory.
    let relay = start_with(RelayLimits { memory_bytes: 512 * 1024, ..RelayLimits::default() }).await;
    let (mut host, _) = host(&relay, "demo").await;
    let (stalled, response) = stalled_client(&relay, &mut host, 50_000).await;
    let mut wire = Wire::open(relay.local_addr()).await;
    let mut taken = 0;
    let refused = loop {
        let answer = wire.request("POST", &format!("/?token={response}"), &[JSON], "[]").await;
        if answer.status != 200 {
            break answer.status;
        }
        taken += 1;
        assert!(taken < 2000, "each costs more than a hundred bytes");
    };
    assert_eq!(refused, 503);
    drop(stalled);
}
