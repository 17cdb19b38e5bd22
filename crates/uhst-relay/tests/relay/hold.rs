//! Extensions of the protocol: the native hint, and reserved ids.

use std::time::Duration;

use uhst_proto::protocol::{JoinReply, NativeHint};
use uhst_relay::{RelayConfig, RelayServer};

use crate::support::*;

const BAD_REQUEST: (u16, &str) = (400, "Bad Request");

async fn start_holding(hold: Duration) -> RelayServer {
    RelayServer::start(RelayConfig { hold, ..config() }).await.unwrap()
}

/// Sets up a client whose host has left. Returns its stream, the host's token and the client's token.
async fn left_by_its_host(relay: &RelayServer) -> (Events, String, String) {
    let (host_stream, host_token) = host(relay, "demo").await;
    let (mut client, client_token, _) = client(relay, "demo").await;
    drop(host_stream);
    client.expect("event: relay_event\ndata: {\"eventType\":\"host_closed\",\"body\":\"demo\"}\n\n").await;
    (client, host_token, client_token)
}

/// A valid token of another host.
fn other_host() -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"type":"hostToken","hostId":"demo","iat":1}"#)
}

async fn delete(relay: &RelayServer, token: &str) -> (u16, String) {
    let answer = ask(relay, "DELETE", &format!("/?token={token}"), &[], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    (answer.status, answer.text().to_owned())
}

fn is(answer: &(u16, String), expected: (u16, &str)) -> bool {
    (answer.0, answer.1.as_str()) == expected
}

#[tokio::test]
async fn a_join_reply_names_a_native_host() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    let wire = Wire::open(relay.local_addr()).await;
    let host = Events::open_on(wire, &format!("/?token={token}&uhst=7")).await;
    let (_, text) = post(&relay, "/?action=join&hostId=demo").await;
    assert!(text.ends_with(r#","uhst":{"v":7}}"#), "{text}");
    let reply: JoinReply = serde_json::from_str(&text).unwrap();
    assert_eq!(reply.uhst, Some(NativeHint { v: 7 }));

    drop(host);
    while listen_status(&relay, &token).await != 200 {}
    let target = format!("/?token={token}&uhst=nonsense");
    let _plain = Events::open_on(Wire::open(relay.local_addr()).await, &target).await;
    assert!(!post(&relay, "/?action=join&hostId=demo").await.1.contains("uhst"));
}

#[tokio::test]
async fn a_join_reply_names_an_original_host_that_has_answered_with_a_text() {
    let relay = start().await;
    let (mut host, token) = host(&relay, "demo").await;
    let (mut client, client_token, _) = client(&relay, "demo").await;
    let texts = async |query: &str| {
        let (_, text) = post(&relay, &format!("/?action=join&hostId=demo{query}")).await;
        serde_json::from_str::<JoinReply>(&text).unwrap().texts
    };
    assert!(is(&send(&relay, &client_token, r#"{"payload":"of a client"}"#).await, (200, "{}")));
    let (response, _) = host.message().await;
    let broadcast = send(&relay, &token, r#"{"type":"string","payload":"to all"}"#).await;
    assert_eq!(broadcast.0, 200);
    for signal in [r#"{"type":"answer","sdp":"v=0"}"#, r#"{"candidate":"candidate:1","sdpMid":"0"}"#, "{}", "[1]"] {
        assert!(is(&send(&relay, &response, signal).await, (200, "{}")));
        assert!(!texts("&uhst=1").await, "after {signal}");
    }
    assert!(is(&send(&relay, &response, r#"{"type":"string","payload":"hi"}"#).await, (200, "{}")));
    assert!(texts("&uhst=1").await);
    assert!(!texts("").await, "original clients get the original reply");

    drop(host);
    while !client.line().await.contains("host_closed") {}
    let _other = Events::open(&relay, &token).await;
    assert!(!texts("&uhst=1").await, "the next host may use another transport");
}

#[tokio::test]
async fn an_id_is_held_for_the_token_that_had_it() {
    let relay = start_holding(Duration::from_secs(60)).await;
    let (mut client, own, client_token) = left_by_its_host(&relay).await;
    for target in ["/?action=host&hostId=demo", "/?action=join&hostId=demo"] {
        assert!(is(&post(&relay, target).await, BAD_REQUEST), "{target}");
    }
    assert_eq!(listen_status(&relay, &other_host()).await, 400);
    assert!(is(&send(&relay, &client_token, "{}").await, BAD_REQUEST));

    let mut back = Events::open(&relay, &own).await;
    assert!(is(&send(&relay, &client_token, "[1]").await, (200, "{}")));
    let (response, _) = back.message().await;
    assert!(is(&send(&relay, &response, "[2]").await, (200, "{}")));
    client.expect("data: {\"body\":[2]}\n\n").await;
}

/// As in the original, an id is free as soon as its host's stream has ended.
#[tokio::test]
async fn an_id_that_nobody_listens_to_is_free_at_once() {
    let relay = start_holding(Duration::from_secs(60)).await;
    for case in ["nobody came", "a client left first", "a client never listened", "a client never listened, but sent"] {
        let (mut host_stream, own) = host(&relay, "demo").await;
        let token = if case == "nobody came" { String::new() } else { client_token(&relay, "demo").await };
        match case {
            "a client left first" => {
                drop(Events::open(&relay, &token).await);
                assert_eq!(host_stream.line().await, "event: relay_event");
            }
            "a client never listened, but sent" => {
                assert!(is(&send(&relay, &token, "[1]").await, (200, "{}")));
                host_stream.message().await;
            }
            _ => {}
        }
        assert!(is(&post(&relay, "/?action=host&hostId=demo").await, BAD_REQUEST), "{case}: its host listens");
        drop(host_stream);
        while post(&relay, "/?action=join&hostId=demo").await.0 == 200 {}
        // This holds for others as well as for the former host.
        let next = host_token(&relay, "demo").await;
        drop(Events::open(&relay, &next).await);
        while post(&relay, "/?action=join&hostId=demo").await.0 == 200 {}
        drop(Events::open(&relay, &own).await);
        while post(&relay, "/?action=join&hostId=demo").await.0 == 200 {}
        if !token.is_empty() {
            assert!(is(&send(&relay, &token, "[1]").await, BAD_REQUEST), "{case}: no host hears it");
        }
    }
}

#[tokio::test]
async fn a_hold_ends_with_its_time_or_the_last_client() {
    let relay = start_holding(Duration::from_millis(50)).await;
    let (client, ..) = left_by_its_host(&relay).await;
    while listen_status(&relay, &other_host()).await == 400 {}
    drop(client);

    let relay = start_holding(Duration::from_secs(60)).await;
    let (client, ..) = left_by_its_host(&relay).await;
    drop(client);
    while listen_status(&relay, &other_host()).await == 400 {}
}

#[tokio::test]
async fn a_host_releases_its_id() {
    let relay = start_holding(Duration::from_secs(60)).await;
    let (_client, own, client_token) = left_by_its_host(&relay).await;
    assert!(is(&delete(&relay, "undefined").await, (401, "Unauthorized")));
    assert!(is(&delete(&relay, &client_token).await, BAD_REQUEST));
    assert!(is(&delete(&relay, &other_host()).await, BAD_REQUEST));
    assert_eq!(listen_status(&relay, &other_host()).await, 400, "still held");
    assert!(is(&delete(&relay, &own).await, (200, "{}")));
    assert!(is(&delete(&relay, &own).await, (200, "{}")), "again");
    host_token(&relay, "demo").await;
    let _other = Events::open(&relay, &other_host()).await;
}

#[tokio::test]
async fn an_id_released_before_the_stream_ends_is_not_held() {
    let relay = start_holding(Duration::from_secs(60)).await;
    let (host_stream, own) = host(&relay, "demo").await;
    let (mut client, ..) = client(&relay, "demo").await;
    assert!(is(&delete(&relay, &other_host()).await, BAD_REQUEST));
    assert!(is(&delete(&relay, &own).await, (200, "{}")));
    assert_eq!(listen_status(&relay, &other_host()).await, 400, "it still listens");
    drop(host_stream);
    client.line().await;
    let _other = Events::open(&relay, &other_host()).await;
}

#[tokio::test]
async fn a_native_host_replaces_its_own_open_stream() {
    let relay = start().await;
    let (mut former, token) = host(&relay, "demo").await;
    let (mut client, client_token, _) = client(&relay, "demo").await;
    // An original host, like everybody else, gets the response of the original relay.
    assert_eq!(listen_status(&relay, &token).await, 400);
    assert_eq!(listen_status(&relay, &format!("{}&uhst=1", other_host())).await, 400);

    let wire = Wire::open(relay.local_addr()).await;
    let mut moved = Events::open_on(wire, &format!("/?token={token}&uhst=1")).await;
    former.expect_cut().await;
    assert!(is(&send(&relay, &client_token, "[1]").await, (200, "{}")));
    let (response, _) = moved.message().await;
    // The client received no `host_closed` event.
    assert!(is(&send(&relay, &response, "[2]").await, (200, "{}")));
    client.expect("data: {\"body\":[2]}\n\n").await;
}
