//! Sections 1, 2 and 5 of the protocol: requests, tokens, CORS.

use crate::support::*;

#[tokio::test]
async fn host_gets_its_id_and_a_token() {
    let relay = start().await;
    let answer = ask(&relay, "POST", "/?action=host&hostId=demo", &["Content-Length: 0"], "").await;
    let token = answer.json()["hostToken"].as_str().unwrap().to_owned();
    assert_eq!(answer.text(), format!(r#"{{"hostId":"demo","hostToken":"{token}"}}"#));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(token.split('.').next(), Some("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"));
    let iat = uhst_proto::protocol::peek_token(&token).unwrap().iat.unwrap();
    assert_eq!(original_claims(&token), format!(r#"{{"type":"hostToken","hostId":"demo","iat":{iat}}}"#));
}

#[tokio::test]
async fn the_relay_picks_nine_digits() {
    let relay = start().await;
    for target in ["/?action=host", "/?action=host&hostId="] {
        let answer = ask(&relay, "POST", target, &[], "").await.json();
        let id = answer["hostId"].as_str().unwrap();
        assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
    }
}

#[tokio::test]
async fn any_text_is_an_id() {
    let relay = start().await;
    let long = "x".repeat(5000);
    for (query, id) in [
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("gr%C3%B6%C3%9Fe+%F0%9F%8E%B2", "größe 🎲"),
        ("%zz", "%zz"),
        ("%22quoted%22", "\"quoted\""),
        (&long, &long),
    ] {
        let answer = ask(&relay, "POST", &format!("/?action=host&hostId={query}"), &[], "").await.json();
        assert_eq!(answer["hostId"], id);
        let _host = Events::open(&relay, answer["hostToken"].as_str().unwrap()).await;
        client_token(&relay, query).await;
    }
    let bad_request = (400, "Bad Request".to_owned());
    assert_eq!(post(&relay, "/?action=host&hostId=a&hostId=b").await, bad_request, "ours: no arrays");
    assert_eq!(post(&relay, "/?action=host&hostId[]=a").await, bad_request);
}

#[tokio::test]
async fn action_host_reserves_nothing_and_the_first_to_listen_wins() {
    let relay = start().await;
    let (first, second) = (host_token(&relay, "demo").await, host_token(&relay, "demo").await);
    let _host = Events::open(&relay, &second).await;
    assert_eq!(listen_status(&relay, &first).await, 400);
    assert_eq!(post(&relay, "/?action=host&hostId=demo").await, (400, "Bad Request".to_owned()));
}

#[tokio::test]
async fn join_needs_a_host_that_listens() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    for target in ["/?action=join&hostId=demo", "/?action=join", "/?action=join&hostId="] {
        assert_eq!(post(&relay, target).await, (400, "Bad Request".to_owned()), "{target}");
    }
    let _host = Events::open(&relay, &token).await;
    let (status, text) = post(&relay, "/?action=join&hostId=demo").await;
    assert_eq!(status, 200);
    let token = serde_json::from_str::<serde_json::Value>(&text).unwrap()["clientToken"].as_str().unwrap().to_owned();
    assert_eq!(text, format!(r#"{{"clientToken":"{token}"}}"#));
    let known = uhst_proto::protocol::peek_token(&token).unwrap();
    let (client_id, iat) = (known.client_id.unwrap(), known.iat.unwrap());
    let expected = format!(r#"{{"type":"clientToken","hostId":"demo","clientId":"{client_id}","iat":{iat}}}"#);
    assert_eq!(original_claims(&token), expected);
    assert_eq!((client_id.len(), client_id.as_bytes()[14]), (36, b'4'), "a uuid v4");
}

#[tokio::test]
async fn ping_echoes_what_parse_int_reads() {
    let relay = start().await;
    for (query, pong) in [
        ("", "null"),
        ("&timestamp=", "null"),
        ("&timestamp=1790000000000", "1790000000000"),
        ("&timestamp=12.7", "12"),
        ("&timestamp=12abc", "12"),
        ("&timestamp=abc", "null"),
        ("&timestamp=-5", "-5"),
        ("&timestamp=0", "0"),
        ("&timestamp=12345678901234567890123", "1.2345678901234568e+22"),
    ] {
        let answer = post(&relay, &format!("/?action=ping{query}")).await;
        assert_eq!(answer, (200, format!("{{\"pong\":{pong}}}")), "{query}");
    }
}

#[tokio::test]
async fn action_precedes_token_and_is_case_sensitive() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    assert_eq!(post(&relay, &format!("/?token={token}&action=ping")).await.1, r#"{"pong":null}"#);
    for target in ["/?action=HOST", "/?action=other", "/?action=", "/", "/?", "/?action=ping&action=host"] {
        assert_eq!(post(&relay, target).await, (401, "Unauthorized".to_owned()), "{target}");
    }
    // An unknown action counts as none, so the token is used.
    assert_eq!(post(&relay, &format!("/?action=HOST&token={token}")).await, (400, "Bad Request".to_owned()));
}

#[tokio::test]
async fn invalid_tokens_are_refused() {
    let relay = start().await;
    let (_host, token) = host(&relay, "demo").await;
    let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
    let good = r#"{"type":"hostToken","hostId":"demo"}"#;
    let none = signed(r#"{"alg":"none","typ":"JWT"}"#, good);
    let hs512 = signed(r#"{"alg":"HS512","typ":"JWT"}"#, good);
    let expired = signed(hs256, r#"{"type":"hostToken","hostId":"demo","exp":1000}"#);
    let early = signed(hs256, r#"{"type":"hostToken","hostId":"demo","nbf":99999999999}"#);
    let mut forged = token.clone();
    forged.replace_range(
        forged.len() - 20..forged.len() - 19,
        if &forged[forged.len() - 20..][..1] == "A" { "B" } else { "A" },
    );
    let unsigned = none.rsplit_once('.').unwrap().0.to_owned() + ".";
    let queries = [
        String::new(),
        "?token=".to_owned(),
        "?token=undefined".to_owned(),
        "?token=a.b.c".to_owned(),
        format!("?token={forged}"),
        format!("?token={none}"),
        format!("?token={unsigned}"),
        format!("?token={hs512}"),
        format!("?token={expired}"),
        format!("?token={early}"),
        format!("?token={token}&token={token}"),
        format!("?token[]={token}"),
    ];
    let bearer = format!("Authorization: Bearer {token}");
    for query in &queries {
        for method in ["GET", "POST"] {
            let answer = ask(&relay, method, &format!("/{query}"), &[&bearer], "").await;
            assert_eq!((answer.status, answer.text()), (401, "Unauthorized"), "{method} {query}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        }
    }
    let unknown = signed(hs256, r#"{"type":"adminToken","hostId":"demo"}"#);
    for method in ["GET", "POST"] {
        let answer = ask(&relay, method, &format!("/?token={unknown}"), &[], "").await;
        assert_eq!((answer.status, answer.text()), (400, "Bad Request"));
    }
    let bare = signed(r#"{"alg":"HS256"}"#, good);
    assert_eq!(
        send(&relay, &bare, "{}").await,
        (400, "Bad Request".to_owned()),
        "valid, but another host has subscribed"
    );
    let (_relay, relay) = (relay, start().await);
    assert_eq!(listen_status(&relay, &bare).await, 200, "iat and typ may be missing");
}

#[tokio::test]
async fn a_refused_stream_has_the_headers_of_a_stream() {
    let relay = start().await;
    let response =
        signed(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"type":"responseToken","hostId":"demo","clientId":"c"}"#);
    let nobody = signed(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"type":"clientToken","hostId":"nobody","clientId":"c"}"#);
    let (_host, host) = host(&relay, "demo").await;
    let (_client, client, _) = client(&relay, "demo").await;
    for token in [&response, &nobody, &host, &client] {
        let answer = ask(&relay, "GET", &format!("/?token={token}"), &[], "").await;
        assert_eq!((answer.status, answer.text()), (400, "Bad Request"));
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(answer.header(name), Some(value));
        }
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_not_found() {
    let relay = start().await;
    for (method, target, text) in [
        ("PUT", "/", "Cannot PUT /"),
        ("PATCH", "/?action=host", "Cannot PATCH /"),
        ("DELETE", "/", "Cannot DELETE /"),
        ("GET", "//", "Cannot GET //"),
        ("POST", "/other?action=host", "Cannot POST /other"),
        ("GET", "/'", "Cannot GET /&#39;"),
    ] {
        let answer = ask(&relay, method, target, &[], "").await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains(&format!("<pre>{text}</pre>")), "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}

#[tokio::test]
async fn preflight_requests_are_answered() {
    let relay = start().await;
    let asked = [
        "Origin: https://game.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type,x-a",
        "Access-Control-Request-Private-Network: true",
    ];
    let answer = ask(&relay, "OPTIONS", "/?token=x", &asked, "").await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    for (name, value) in [
        // The original adds `Content-Length: 0`, which HTTP forbids on a 204 and hyper does not write.
        ("content-length", None),
        ("access-control-allow-origin", Some("*")),
        ("access-control-allow-methods", Some("GET,HEAD,PUT,PATCH,POST,DELETE")),
        ("access-control-allow-headers", Some("content-type,x-a")),
        ("vary", Some("Access-Control-Request-Headers")),
        ("access-control-allow-private-network", None),
        ("access-control-allow-credentials", None),
        ("access-control-max-age", Some("7200")),
        ("content-type", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_eq!(ask(&relay, "OPTIONS", "/", &[], "").await.header("access-control-allow-headers"), None);
}

#[tokio::test]
async fn http_variants_are_accepted() {
    let relay = start().await;
    let mut wire = Wire::open(relay.local_addr()).await;
    // Two pipelined requests on one connection, and then single ones.
    let ping = request("POST", "/?action=ping&timestamp=1", &[], "");
    wire.write([&ping[..], &ping[..]].concat()).await;
    for _ in 0..2 {
        assert_eq!(wire.answer().await.text(), r#"{"pong":1}"#);
    }
    let expecting = request("POST", "/?token=x", &[JSON, "Expect: 100-continue"], "{}");
    wire.write(&expecting[..expecting.len() - 2]).await;
    assert_eq!(wire.head().await.status, 100);
    wire.write("{}").await;
    assert_eq!(wire.answer().await.status, 401);

    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write("POST /?action=ping HTTP/1.0\r\n\r\n").await;
    assert_eq!(wire.answer().await.text(), r#"{"pong":null}"#);
    assert!(wire.ends().await);

    for head in [format!("/?action=ping&x={}", "x".repeat(17_000)), "/?action=ping".to_owned()] {
        let padding = format!("X-Padding: {}", "x".repeat(17_000));
        let headers: &[&str] = if head.len() > 1000 { &[] } else { &[&padding] };
        assert_eq!(ask(&relay, "POST", &head, headers, "").await.status, 431);
    }
    let long = format!("/?action=ping&timestamp=7&x={}", "x".repeat(15_000));
    assert_eq!(post(&relay, &long).await.1, r#"{"pong":7}"#);
}
