//! Attacks by unknown peers, and the service that an honest player still gets during them.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, task::JoinSet};
use uhst_relay::{RelayConfig, RelayLimits, RelayServer};

use crate::support::*;

pub const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

async fn join_from(relay: &RelayServer, address: [u8; 4], id: &str) -> Answer {
    Wire::open_from(relay.local_addr(), address)
        .await
        .request("POST", &format!("/?action=join&hostId={id}"), &[], "")
        .await
}

#[tokio::test]
async fn only_the_host_that_listens_speaks_for_its_session() {
    let relay = start().await;
    // Both tokens are issued in the same second, as for an attacker that polls for somebody else's id.
    let (own, unknown) = (host_token(&relay, "demo").await, host_token(&relay, "demo").await);
    assert_ne!(own, unknown);
    let old = signed(HS256, r#"{"type":"hostToken","hostId":"demo","iat":1}"#);
    let host = Events::open(&relay, &own).await;
    let (mut client, token, id) = client(&relay, "demo").await;
    for other in [&unknown, &old] {
        assert_eq!(send(&relay, other, "[\"evil\"]").await, (400, "Bad Request".to_owned()));
        assert_eq!(listen_status(&relay, other).await, 400);
        let native = format!("{other}&uhst=1");
        assert_eq!(listen_status(&relay, &native).await, 400, "it does not replace the host");
        assert_eq!(ask(&relay, "DELETE", &format!("/?token={other}"), &[], "").await.status, 400);
    }
    assert_eq!(send(&relay, &own, "[\"good\"]").await, (200, format!("{{\"{id}\":true}}")));
    client.expect("data: {\"body\":[\"good\"]}\n\n").await;

    // A response token of a former host stops working once another host has subscribed.
    drop(host);
    client.line().await;
    client.line().await;
    client.line().await;
    let mut host = Events::open(&relay, &unknown).await;
    assert_eq!(send(&relay, &own, "[\"evil\"]").await.0, 400, "the former host");
    assert_eq!(send(&relay, &token, "[1]").await.0, 200);
    let (response, _) = host.message().await;
    drop(host);
    client.line().await;
    client.line().await;
    client.line().await;
    assert_eq!(send(&relay, &response, "[\"last words\"]").await.0, 200, "no other host has subscribed yet");
    client.expect("data: {\"body\":[\"last words\"]}\n\n").await;
    let _host = Events::open(&relay, &own).await;
    assert_eq!(send(&relay, &response, "[\"evil\"]").await.0, 400, "the former host");
}

#[tokio::test]
async fn an_honest_message_overtakes_a_flood() {
    let limits = RelayLimits { queue_bytes: 256 * 1024, ..RelayLimits::default() };
    // Until the flood is here, the host reads nothing.
    let patience = Duration::from_secs(60);
    let relay = RelayServer::start(RelayConfig { limits, patience, ..config() }).await.unwrap();
    let token = host_token(&relay, "demo").await;
    let slow = Wire::open_small(relay.local_addr()).await;
    let mut host = Events::open_on(slow, &format!("/?token={token}")).await;
    let flooder = client_token(&relay, "demo").await;
    let mut flood = JoinSet::new();
    let large = format!("[\"{}\"]", "x".repeat(100_000));
    for _ in 0..60 {
        let (addr, target, large) = (relay.local_addr(), format!("/?token={flooder}"), large.clone());
        flood.spawn(async move {
            let mut wire = Wire::open(addr).await;
            wire.request("POST", &target, &[JSON], &large).await.status
        });
    }
    // All POSTs of the flood have begun, and the queue is full.
    keeps(&relay, 55 * 100_000).await;
    let joining = async {
        let token = client_token(&relay, "demo").await;
        let since = Instant::now();
        assert_eq!(send(&relay, &token, "[\"honest\"]").await.0, 200);
        since.elapsed()
    };
    let took = joining.await;
    assert!(took < Duration::from_secs(1), "an honest message waited {took:?} for room");
    // The host keeps reading, slowly. It is not dropped, and the honest message arrives long before the end of the
    // flood.
    let mut before = 0;
    loop {
        let line = host.line().await;
        if line.contains("honest") {
            break;
        }
        before += usize::from(line.len() > 100_000);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(before < 40, "{before} large messages came first");
    let mut passed = before;
    while let Some(status) = flood.try_join_next() {
        assert!([200, 429].contains(&status.unwrap()));
    }
    while passed < 60 && !flood.is_empty() {
        passed += usize::from(host.line().await.len() > 100_000);
        while let Some(status) = flood.try_join_next() {
            assert!([200, 429].contains(&status.unwrap()), "no sender gets the error of a missing host");
        }
    }
    assert_eq!(metric(&relay, "uhst_relay_dropped_listeners_total").await, 0.0);
}

#[tokio::test]
async fn a_client_that_never_reads_is_disconnected() {
    let write_timeout = Duration::from_millis(200);
    let relay = RelayServer::start(RelayConfig { write_timeout, ..config() }).await.unwrap();
    let mut wire = Wire::open_small(relay.local_addr()).await;
    let pings = request("POST", "/?action=ping", &[], "").repeat(1000);
    // The client writes until the relay accepts no more, because nobody reads its responses.
    let writing = async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &pings).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), writing).await.expect("the relay closes the connection");
    assert_eq!(metric(&relay, "uhst_relay_stalled_connections_total").await, 1.0);
}

#[tokio::test]
async fn one_address_cannot_exhaust_the_relay() {
    let limits = RelayLimits {
        hosts_per_address: 2,
        listeners_per_address: 3,
        connections_per_address: 6,
        memory_bytes: 300_000,
        ..RelayLimits::default()
    };
    let relay = RelayServer::start(RelayConfig { limits, ..config() }).await.unwrap();
    let (_demo, _) = host(&relay, "demo").await;
    let (_two, _) = host(&relay, "two").await;
    let third = host_token(&relay, "three").await;
    assert_eq!(listen_status(&relay, &third).await, 503);
    let mut other = Wire::open_from(relay.local_addr(), [127, 0, 0, 2]).await;
    other.write(request("GET", &format!("/?token={third}"), &[], "")).await;
    assert_eq!(other.head().await.status, 200, "another address has its own share");
    let (_client, token, _) = client(&relay, "demo").await;
    assert_eq!(listen_status(&relay, &client_token(&relay, "demo").await).await, 503);

    // Slow request heads: each new connection replaces the oldest idle one.
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut wire = Wire::open(relay.local_addr()).await;
        wire.write("POST /?action=ping HTTP/1.1\r\n").await;
        slow.push(wire);
    }
    assert_eq!(post(&relay, "/?action=ping").await.0, 200);
    assert!(slow[0].ends().await);

    // Endless bodies: their bytes count while they arrive.
    let mut bodies = Vec::new();
    for n in 0..3 {
        let mut wire = Wire::open_from(relay.local_addr(), [127, 0, 0, 3 + n / 2]).await;
        let target = format!("/?token={token}");
        wire.write(format!("POST {target} HTTP/1.1\r\nHost: x\r\n{JSON}\r\nContent-Length: 100000\r\n\r\n[")).await;
        bodies.push(wire);
    }
    keeps(&relay, 200_000).await;
    bodies[1].write([b' '; 99_999]).await;
    assert_eq!(bodies[1].head().await.status, 503, "half of all the room at most");
    assert!(metric(&relay, "uhst_relay_refused_total{limit=\"memory_bytes\"}").await >= 1.0);
    assert_eq!(metric(&relay, "uhst_relay_refused_total{limit=\"hosts_per_address\"}").await, 1.0);
    assert_eq!(metric(&relay, "uhst_relay_refused_total{limit=\"listeners_per_address\"}").await, 1.0);
}

#[tokio::test]
async fn ids_cannot_be_guessed_quickly() {
    let wrong_joins_per_minute = NonZeroU32::new(5);
    let limits = RelayLimits { wrong_joins_per_minute, ..RelayLimits::default() };
    let relay = RelayServer::start(RelayConfig { limits, ..config() }).await.unwrap();
    let (demo, _) = host(&relay, "demo").await;
    for n in 0..5 {
        client_token(&relay, "demo").await;
        assert_eq!(post(&relay, &format!("/?action=join&hostId={n}")).await.0, 400);
    }
    for id in ["demo", "6"] {
        let answer = ask(&relay, "POST", &format!("/?action=join&hostId={id}"), &[], "").await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "right or wrong: {id}");
    }
    assert_eq!(join_from(&relay, [127, 0, 0, 2], "demo").await.status, 200, "others join");
    drop(demo);
    // A join with the id of a host that has just left is not counted as a guess.
    while join_from(&relay, [127, 0, 0, 2], "demo").await.status == 200 {}
    for _ in 0..20 {
        assert_eq!(join_from(&relay, [127, 0, 0, 2], "demo").await.status, 400);
    }
}

#[tokio::test]
async fn an_embedded_relay_serves_only_its_own_game() {
    let one_game = RelayConfig::for_one_game("the key".to_owned());
    let own = config();
    let relay = RelayServer::start(RelayConfig { bind: own.bind, secret: own.secret, ..one_game }).await.unwrap();
    for target in ["/?action=host", "/?action=host&hostId=x&key=", "/?action=host&hostId=x&key=the+keyy"] {
        assert_eq!(post(&relay, target).await, (403, "Forbidden".to_owned()), "{target}");
    }
    let answer = ask(&relay, "POST", "/?action=host&hostId=demo&key=the+key", &[], "").await;
    let _host = Events::open(&relay, answer.json()["hostToken"].as_str().unwrap()).await;
    client_token(&relay, "demo").await;

    // One request comes from a page elsewhere, the other calls this machine by a name of its own.
    let page = ask(&relay, "POST", "/?action=join&hostId=demo", &["Origin: https://evil.example"], "").await;
    assert_eq!((page.status, page.header("access-control-allow-origin")), (403, None));
    let asked = ["Origin: https://evil.example", "Access-Control-Request-Method: POST"];
    assert_eq!(ask(&relay, "OPTIONS", "/?token=x", &asked, "").await.status, 403);
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write("POST /?action=join&hostId=demo HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n").await;
    let rebound = wire.answer().await;
    assert_eq!((rebound.status, rebound.header("access-control-allow-origin")), (421, None));
    // The relay's own page may join.
    let own_page = ask(&relay, "POST", "/?action=join&hostId=demo", &["Origin: http://relay"], "").await;
    assert_eq!(own_page.status, 200);
}

#[tokio::test]
async fn behind_a_proxy_each_player_has_a_quota() {
    let limits = RelayLimits { requests_per_second: NonZeroU32::new(2), ..RelayLimits::default() };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let relay = RelayServer::start(RelayConfig { limits: limits.clone(), trusted_proxies, ..config() }).await.unwrap();
    let mut proxy = Wire::open(relay.local_addr()).await;
    until_refused(&mut proxy, |_| "6.6.6.6, 192.0.2.1".to_owned()).await;
    for player in 2..=20 {
        for _ in 0..2 {
            let from = format!("X-Forwarded-For: 6.6.6.6, 192.0.2.{player}");
            assert_eq!(proxy.request("POST", "/?action=ping", &[&from], "").await.status, 200, "{player}");
        }
    }

    // Without a trusted proxy, the header is ignored.
    let relay = RelayServer::start(RelayConfig { limits, ..config() }).await.unwrap();
    let mut liar = Wire::open(relay.local_addr()).await;
    until_refused(&mut liar, |request| format!("192.0.2.{request}")).await;
}

/// Sends requests from these addresses until one is refused. The quota is two a second: on a slow machine, another one
/// may pass meanwhile.
async fn until_refused(wire: &mut Wire, from: impl Fn(usize) -> String) {
    for request in 0..100 {
        let from = format!("X-Forwarded-For: {}", from(request));
        match wire.request("POST", "/?action=ping", &[&from], "").await.status {
            200 => {}
            429 => return assert!(request >= 2, "{request}"),
            other => panic!("{other}"),
        }
    }
    panic!("the quota is never used up");
}

/// Waits until the relay keeps so many bytes.
async fn keeps(relay: &RelayServer, bytes: usize) {
    let filling = async { while metric(relay, "uhst_relay_kept_bytes").await < bytes as f64 {} };
    tokio::time::timeout(Duration::from_secs(60), filling).await.expect("so many bytes");
}

#[tokio::test]
async fn a_stream_begins_where_its_request_ends() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write(format!("GET /?token={token} HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"))
        .await;
    assert_eq!(wire.head().await.status, 400);
    // A peer that keeps sending on its stream loses it.
    let mut events = Events::open(&relay, &token).await;
    let talk = vec![b'x'; 1 << 20];
    let _ = tokio::io::AsyncWriteExt::write_all(&mut events.wire.stream, &talk).await;
    let mut rest = Vec::new();
    let _ = events.wire.stream.read_to_end(&mut rest).await;
    while listen_status(&relay, &token).await == 400 {}
}

/// Malformed requests that the relay has always refused.
#[tokio::test]
async fn malformed_requests_are_refused() {
    let relay = start().await;
    let (mut host, own) = host(&relay, "demo").await;
    let (_other, _) = self::host(&relay, "other").await;
    let (mut client, token, id) = client(&relay, "demo").await;

    // Tokens: without an algorithm, with two of them, or of another session's client.
    let claims = format!(r#"{{"type":"clientToken","hostId":"demo","clientId":"{id}"}}"#);
    let none = signed(r#"{"alg":"none","typ":"JWT"}"#, &claims);
    let unsigned = none.rsplit_once('.').unwrap().0.to_owned() + ".";
    let two = signed(r#"{"alg":"none","alg":"HS256","typ":"JWT"}"#, &claims);
    let expired = signed(HS256, &claims.replace('}', r#","exp":1}"#));
    for bad in [&none, &unsigned, &two, &expired] {
        assert_eq!(send(&relay, bad, "[1]").await.0, 401, "{bad}");
    }
    let elsewhere = signed(HS256, &claims.replace("demo", "other").replace("clientToken", "responseToken"));
    assert_eq!(send(&relay, &elsewhere, "[1]").await.0, 400, "that client belongs to another session");

    // No message body starts a second event.
    for body in [
        "[\"a\\n\\ndata: x\\n\\n\"]",
        "[\"a\\r\\rdata: x\"]",
        "[\"\u{2028}\u{2029}\"]",
        "[\"\\u0000\"]",
        "[\"\\ud800\"]",
        "{\"\\n\\nevent: relay_event\\n\":1}",
    ] {
        assert_eq!(send(&relay, &token, body).await.0, 200);
        let line = host.line().await;
        assert!(line.starts_with("data: {\"responseToken\"") && !line.contains('\r') && !line.contains('\0'), "{line}");
        assert_eq!(host.line().await, "");
    }
    for body in ["[\"a\nb\"]", "[\"a\rb\"]", "[\"\0\"]"] {
        assert_eq!(send(&relay, &token, body).await.0, 400, "{body:?}");
    }
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    assert!([200, 400].contains(&send(&relay, &own, &deep).await.0));
    assert_eq!(send(&relay, &own, "[\"still here\"]").await.0, 200);
    while client.line().await != "data: {\"body\":[\"still here\"]}" {}

    // Requests that two servers would parse differently.
    for head in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "X-A: b\r\n c\r\nContent-Length: 2\r\n",
        "Content-Length: +2\r\n",
    ] {
        let mut wire = Wire::open(relay.local_addr()).await;
        wire.write(format!("POST /?action=ping HTTP/1.1\r\nHost: relay\r\n{head}\r\n{{}}")).await;
        assert_eq!(wire.head().await.status, 400, "{head:?}");
    }
    // With both lengths, the chunks count, as HTTP requires, and no part of the body is parsed as a request.
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write("POST /?action=ping HTTP/1.1\r\nHost: relay\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    wire.write("GET /smuggled HTTP/1.1\r\nHost: relay\r\n\r\n").await;
    let first = wire.head().await.status;
    assert!([200, 400].contains(&first), "{first}");
    for path in ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/./health/../x"] {
        assert_eq!(ask(&relay, "GET", path, &[], "").await.status, 404, "{path}");
    }
}
