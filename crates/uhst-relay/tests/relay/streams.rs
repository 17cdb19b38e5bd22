//! Sections 4 and 6 of the protocol: event streams and lifetimes.

use std::time::Duration;

use tokio::time::Instant;
use uhst_relay::{RelayConfig, RelayServer};

use crate::support::*;

const BAD_REQUEST: u16 = 400;

fn ok() -> (u16, String) {
    (200, "{}".to_owned())
}

#[tokio::test]
async fn the_head_of_a_stream() {
    let relay = start().await;
    let (host, _) = host(&relay, "demo").await;
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("access-control-allow-origin", "*"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(host.head.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_stream_over_http_1_0_is_not_chunked() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write(format!("GET /?token={token} HTTP/1.0\r\n\r\n")).await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    assert_eq!(wire.exactly(13).await, b": Connected.\n");
    relay.shutdown().await;
    assert!(wire.ends().await);
}

#[tokio::test]
async fn data_from_a_listener_is_ignored() {
    let relay = start().await;
    let (mut host, _) = host(&relay, "demo").await;
    let (_client, token, _) = client(&relay, "demo").await;
    host.wire.write(request("POST", "/?action=ping", &[], "").repeat(100)).await;
    assert_eq!(send(&relay, &token, "[1]").await, ok());
    assert_eq!(host.message().await.1, "[1]");
}

#[tokio::test]
async fn messages_have_exactly_these_bytes() {
    let relay = start().await;
    let (mut host, host_token) = host(&relay, "demo").await;
    let (mut first, first_token, first_id) = client(&relay, "demo").await;
    let hi = r#"{"type":"string","payload":"hi"}"#;

    assert_eq!(send(&relay, &first_token, hi).await, ok());
    let (response, body) = host.message().await;
    assert_eq!(body, hi);
    let iat = uhst_proto::protocol::peek_token(&response).unwrap().iat.unwrap();
    let expected = format!(r#"{{"type":"responseToken","hostId":"demo","clientId":"{first_id}","iat":{iat}}}"#);
    assert_eq!(original_claims(&response), expected);

    assert_eq!(send(&relay, &response, hi).await, ok());
    first.expect(&format!("data: {{\"body\":{hi}}}\n\n")).await;

    let (mut second, _, second_id) = client(&relay, "demo").await;
    let reached = format!(r#"{{"{first_id}":true,"{second_id}":true}}"#);
    assert_eq!(send(&relay, &host_token, hi).await, (200, reached));
    for client in [&mut first, &mut second] {
        client.expect(&format!("data: {{\"body\":{hi}}}\n\n")).await;
    }

    drop(first);
    let closed = format!("event: relay_event\ndata: {{\"eventType\":\"client_closed\",\"body\":\"{first_id}\"}}\n\n");
    host.expect(&closed).await; // the broadcast does not reach the host
    drop(host);
    second.expect("event: relay_event\ndata: {\"eventType\":\"host_closed\",\"body\":\"demo\"}\n\n").await;
}

#[tokio::test]
async fn streams_are_kept_alive() {
    let relay = RelayServer::start(RelayConfig { keep_alive: Duration::from_millis(60), ..config() }).await.unwrap();
    let start = Instant::now();
    let (mut host, _) = host(&relay, "demo").await;
    host.expect(": sse-keep-alive\n: sse-keep-alive\n: sse-keep-alive\n").await;
    assert!(start.elapsed() >= Duration::from_millis(180));
}

#[tokio::test]
async fn a_message_is_written_before_its_answer_and_in_order() {
    let relay = start().await;
    let (mut host, _) = host(&relay, "demo").await;
    let target = format!("/?token={}", client_token(&relay, "demo").await);
    let mut wire = Wire::open(relay.local_addr()).await;
    let pipelined: Vec<u8> = (0..100).flat_map(|n| request("POST", &target, &[JSON], format!("[{n}]"))).collect();
    wire.write(pipelined).await;
    for n in 0..100 {
        assert_eq!(wire.answer().await.status, 200);
        assert_eq!(host.message().await.1, format!("[{n}]"));
    }
}

#[tokio::test]
async fn a_host_alone_broadcasts_to_nobody() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    assert_eq!(send(&relay, &token, "{}").await, (BAD_REQUEST, "Bad Request".to_owned()));
    let _host = Events::open(&relay, &token).await;
    assert_eq!(send(&relay, &token, "{}").await, ok());
}

#[tokio::test]
async fn a_client_that_left_may_send_and_come_back() {
    let relay = start().await;
    let (mut host, _) = host(&relay, "demo").await;
    let (stream, token, id) = client(&relay, "demo").await;
    assert_eq!(send(&relay, &token, "[1]").await, ok());
    let (response, _) = host.message().await;
    drop(stream);
    host.expect(&format!("event: relay_event\ndata: {{\"eventType\":\"client_closed\",\"body\":\"{id}\"}}\n\n")).await;
    assert_eq!(send(&relay, &response, "{}").await.0, BAD_REQUEST);
    assert_eq!(send(&relay, &token, "[2]").await, ok());
    assert_eq!(host.message().await.1, "[2]");
    let mut stream = Events::open(&relay, &token).await;
    assert_eq!(send(&relay, &response, "[3]").await, ok());
    stream.expect("data: {\"body\":[3]}\n\n").await;
}

#[tokio::test]
async fn clients_stay_when_the_host_leaves_and_another_takes_over() {
    let relay = start().await;
    let (host_stream, old) = host(&relay, "demo").await;
    let (mut client, token, id) = client(&relay, "demo").await;
    drop(host_stream);
    client.expect("event: relay_event\ndata: {\"eventType\":\"host_closed\",\"body\":\"demo\"}\n\n").await;
    assert_eq!(send(&relay, &token, "{}").await.0, BAD_REQUEST);
    assert_eq!(post(&relay, "/?action=join&hostId=demo").await.0, BAD_REQUEST);
    assert_eq!(send(&relay, &old, "[1]").await, (200, format!("{{\"{id}\":true}}")));
    client.expect("data: {\"body\":[1]}\n\n").await;

    let (mut host_stream, _) = host(&relay, "demo").await;
    assert_eq!(send(&relay, &token, "[2]").await, ok());
    let (response, body) = host_stream.message().await;
    assert_eq!(body, "[2]");
    assert_eq!(send(&relay, &response, "[3]").await, ok());
    client.expect("data: {\"body\":[3]}\n\n").await;

    drop(client);
    host_stream.line().await;
    drop(host_stream);
    // The session ended with its last stream, so the old token speaks for nobody.
    assert_eq!(send(&relay, &old, "{}").await.0, BAD_REQUEST);
    while listen_status(&relay, &old).await == BAD_REQUEST {}
}

#[tokio::test]
async fn ids_do_not_mix() {
    let relay = start().await;
    let (mut one, one_token) = host(&relay, "one").await;
    let (_two, _) = host(&relay, "two").await;
    let (_client, client_token, _) = client(&relay, "two").await;
    assert_eq!(send(&relay, &one_token, "{}").await, ok());
    assert_eq!(send(&relay, &client_token, "{}").await, ok());
    let (mut client, token, _) = client(&relay, "one").await;
    assert_eq!(send(&relay, &token, "[1]").await, ok());
    assert_eq!(one.message().await.1, "[1]");
    assert!(send(&relay, &one_token, "[2]").await.1.contains("true"));
    client.expect("data: {\"body\":[2]}\n\n").await;
}
