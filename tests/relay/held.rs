//! What has always held, and has to: large heads, bodies that swell, pages, and heads that never end.

use std::io::Write;

use bevy_uhst::{
    protocol::WebFile,
    relay::{Relay, RelayConfig},
};
use flate2::{Compression, write::GzEncoder};

use crate::support::*;

#[tokio::test]
async fn a_head_has_a_limit() {
    let relay = start().await;
    let asks = |length: usize| format!("X-Long: {}", "x".repeat(length));
    assert_eq!(ask(&relay, "POST", "/?action=ping", &[&asks(12_000)], "").await.status, 200);
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write(request("POST", "/?action=ping", &[&asks(17_000)], "")).await;
    assert_eq!(wire.head().await.status, 431);
    assert_eq!(post(&relay, "/?action=ping").await.0, 200, "others are served");
}

#[tokio::test]
async fn a_body_that_swells_is_refused_at_its_limit() {
    let relay = start().await;
    let (_host, token) = host(&relay, "demo").await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..100 {
        gzip.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 102_400 + 20_000, "{}", bomb.len());
    let headers = [JSON, "Content-Encoding: gzip"];
    assert_eq!(ask(&relay, "POST", &format!("/?token={token}"), &headers, &bomb).await.status, 413);
    assert_eq!(send(&relay, &token, "[1]").await.0, 200);
}

#[tokio::test]
async fn a_page_may_run_nothing_of_others() {
    let page = WebFile { path: "/", content_type: "text/html", body: (&b"<p>hi"[..]).into() };
    let relay = Relay::start(RelayConfig { web_files: vec![page], ..config() }).await.unwrap();
    let answer = ask(&relay, "GET", "/", &[], "").await;
    assert_eq!((answer.status, answer.text()), (200, "<p>hi"));
    let policy = answer.header("content-security-policy").unwrap();
    for rule in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("script-src 'self' 'unsafe-inline'"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn heads_that_never_end_hold_up_nobody() {
    let relay = start().await;
    let (_host, _) = host(&relay, "demo").await;
    let mut slow = Vec::new();
    for _ in 0..400 {
        let mut wire = Wire::open_from(relay.local_addr(), [127, 0, 0, 2]).await;
        wire.write("POST /?action=ping HTTP/1.1\r\nX-Slow: ").await;
        slow.push(wire);
    }
    let since = std::time::Instant::now();
    for wire in &mut slow {
        wire.write("x").await;
    }
    let (_stream, token, _) = client(&relay, "demo").await;
    assert_eq!(send(&relay, &token, "[1]").await.0, 200);
    assert!(since.elapsed() < std::time::Duration::from_secs(1), "{:?}", since.elapsed());
}
