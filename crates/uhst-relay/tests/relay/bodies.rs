//! Section 3 of the protocol: message bodies.

use std::io::Write;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use crate::support::*;

/// A host, a client's token, and a connection for POSTs.
struct Table {
    host: Events,
    wire: Wire,
    target: String,
    _relay: uhst_relay::RelayServer,
}

impl Table {
    async fn new() -> Self {
        let relay = start().await;
        let (host, _) = host(&relay, "demo").await;
        let target = format!("/?token={}", client_token(&relay, "demo").await);
        Table { host, wire: Wire::open(relay.local_addr()).await, target, _relay: relay }
    }

    async fn post(&mut self, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        self.wire.request("POST", &self.target, headers, body).await
    }

    async fn arrives(&mut self, headers: &[&str], body: impl AsRef<[u8]>, expected: &str) {
        let answer = self.post(headers, body).await;
        assert_eq!((answer.status, answer.text()), (200, "{}"), "{expected}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(self.host.message().await.1, expected);
    }

    async fn refused(&mut self, headers: &[&str], body: impl AsRef<[u8]>, status: u16) {
        let answer = self.post(headers, body).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert!(answer.text().starts_with("<!DOCTYPE html>"));
    }
}

#[tokio::test]
async fn only_json_is_parsed() {
    let mut table = Table::new().await;
    for kind in [JSON, "content-type: APPLICATION/JSON", "Content-Type: application/json; charset=UTF-8"] {
        table.arrives(&[kind], r#"{"a":1}"#, r#"{"a":1}"#).await;
    }
    table.arrives(&[JSON], r#" [1 , 2]"#, "[1,2]").await;
    table.arrives(&[JSON], "", "{}").await;
    table.arrives(&[], r#"{"a":1}"#, "{}").await;
    table.arrives(&["Content-Type: text/plain"], "not json", "{}").await;
    table.arrives(&["Content-Type: text/plain", "Content-Encoding: zstd"], vec![b'x'; 200_000], "{}").await;
    for body in ["\"text\"", "1", "null", "false", " ", "{", "{\"a\":1}x", "{'a':1}"] {
        table.refused(&[JSON], body, 400).await;
    }
    table.refused(&["Content-Type: application/json; charset=latin1"], "{}", 415).await;
    table.refused(&[JSON, "Content-Encoding: zstd"], "{}", 415).await;
}

#[tokio::test]
async fn json_is_rewritten_as_in_javascript() {
    let mut table = Table::new().await;
    for (body, expected) in [
        (r#"{ "n" : [1.0, 1e3, -0, 1e400, 9007199254740993] }"#, r#"{"n":[1,1000,0,null,9007199254740992]}"#),
        (r#"{"b":1,"a":2,"1":3,"b":4}"#, r#"{"1":3,"b":4,"a":2}"#),
        (r#"{"s":"\/ ü \u00fc \ud800 \u2028"}"#, "{\"s\":\"/ ü ü \\ud800 \u{2028}\"}"),
        (
            r#"{"responseToken":"x","eventType":"host_closed","__proto__":{}}"#,
            r#"{"responseToken":"x","eventType":"host_closed","__proto__":{}}"#,
        ),
        (r#"{"type":"string","payload":"hi"}"#, r#"{"type":"string","payload":"hi"}"#),
        (
            r#"{"type":"string","payload":"text","responseToken":null}"#,
            r#"{"type":"string","payload":"text","responseToken":null}"#,
        ),
    ] {
        table.arrives(&[JSON], body, expected).await;
    }
}

#[tokio::test]
async fn the_limit_counts_decompressed_bytes() {
    let mut table = Table::new().await;
    let exact = format!("{{\"p\":\"{}\"}}", "x".repeat(102_400 - 8));
    let above = format!("{exact} ");
    table.arrives(&[JSON], &exact, &exact).await;
    table.refused(&[JSON], &above, 413).await;
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(b"[1]").unwrap();
    table.arrives(&[JSON, "Content-Encoding: gzip"], gzip(&exact), &exact).await;
    table.refused(&[JSON, "Content-Encoding: gzip"], gzip(&above), 413).await;
    table.refused(&[JSON, "Content-Encoding: gzip"], "{}", 400).await;
    table.arrives(&[JSON, "Content-Encoding: deflate"], zlib.finish().unwrap(), "[1]").await;
    // `{}` in brotli, stored. The original reads it, but no peer sends it.
    table.refused(&[JSON, "Content-Encoding: br"], [0x8b, 0x00, 0x80, b'{', b'}', 0x03], 415).await;

    let chunked = [JSON, "Transfer-Encoding: chunked"];
    table.arrives(&chunked, "2\r\n[1\r\n3;x=y\r\n,2]\r\n0\r\n\r\n", "[1,2]").await;
    let large = format!("{:x}\r\n{above}\r\n0\r\n\r\n", above.len());
    table.refused(&chunked, large, 413).await;
    table.arrives(&[JSON], "[\"still here\"]", "[\"still here\"]").await;
}

/// The original parses a body first.
#[tokio::test]
async fn a_token_is_verified_before_a_body_is_read() {
    let relay = start().await;
    for (target, status) in
        [("/?action=ping", 200), ("/?action=host", 200), ("/?action=join", 400), ("/", 401), ("/?token=x", 401)]
    {
        for body in [&b"{"[..], &[b' '; 102_401], BOMB] {
            for encoding in ["X-Nothing: 1", "Content-Encoding: br", "Content-Encoding: zstd"] {
                let answer = ask(&relay, "POST", target, &[JSON, encoding], body).await;
                assert_eq!(answer.status, status, "{target} {encoding}");
            }
        }
    }
    // A body that is announced and never sent does not block the relay.
    let mut slow = Wire::open(relay.local_addr()).await;
    slow.write(format!("POST /?token=x HTTP/1.1\r\nHost: relay\r\n{JSON}\r\nContent-Length: 100000\r\n\r\n")).await;
    assert_eq!(ask(&relay, "POST", "/?action=ping", &[JSON], "{}").await.status, 200);
}

/// A short brotli stream that makes a decoder allocate a window of 1 GiB.
const BOMB: &[u8] = include_bytes!("inputs/large-window.br");

#[tokio::test]
async fn a_small_body_does_not_take_much_memory() {
    let mut table = Table::new().await;
    for _ in 0..9 {
        table.refused(&[JSON, "Content-Encoding: br"], BOMB, 415).await;
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b' '; 64 << 20]).unwrap();
    let gzip = gzip.finish().unwrap();
    table.refused(&[JSON, "Content-Encoding: gzip"], &gzip[..gzip.len().min(100_000)], 413).await;
    table.refused(&[JSON, "Content-Encoding: gzip, gzip"], "{}", 415).await;
}
