//! Attacks that the relay has always withstood: large heads, compressed bodies that expand, foreign scripts, heads that
//! never end, and peers that do not read.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use tokio::io::AsyncReadExt;
use uhst_proto::protocol::WebFile;
use uhst_relay::{RelayConfig, RelayLimits, RelayServer};

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
async fn a_body_that_decompresses_beyond_the_limit_is_refused() {
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
async fn a_page_runs_no_foreign_scripts() {
    let page = WebFile::new("/", "text/html", &b"<p>hi"[..]);
    let relay = RelayServer::start(RelayConfig { web_files: vec![page], ..config() }).await.unwrap();
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
async fn unfinished_heads_block_nobody() {
    const SLOW: usize = 2000;
    let relay = start().await;
    let (_host, _) = host(&relay, "demo").await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut wire = Wire::open_from(relay.local_addr(), [127, 0, 0, 2]).await;
        wire.write("POST /?action=ping HTTP/1.1\r\nX-Slow: ").await;
        slow.push(wire);
    }
    while metric(&relay, "uhst_relay_connections").await < SLOW as f64 {}
    let since = Instant::now();
    for wire in &mut slow {
        wire.write("x").await;
    }
    let (_stream, token, _) = client(&relay, "demo").await;
    assert_eq!(send(&relay, &token, "[1]").await.0, 200);
    // Otherwise it would wait for as long as a head may take.
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    // No connection was closed to make room: each gets its response once its head ends.
    for wire in slow.iter_mut().step_by(100) {
        wire.write("\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_sleeper_under_100_mb_of_broadcasts_costs_its_queue_and_nobody_else() {
    const BROADCASTS: usize = 1000;
    let relay = RelayServer::start(RelayConfig { patience: Duration::from_millis(100), ..config() }).await.unwrap();
    let (_host, host_token) = host(&relay, "demo").await;
    let token = client_token(&relay, "demo").await;
    let wire = Wire::open_small(relay.local_addr()).await;
    let mut stalled_client = Events::open_on(wire, &format!("/?token={token}")).await;
    let (mut quick, ..) = client(&relay, "demo").await;

    let body = format!("[\"{}\"]", "x".repeat(100_000));
    let broadcasts = request("POST", &format!("/?token={host_token}"), &[JSON], &body);
    let mut wire = Wire::open(relay.local_addr()).await;
    let mut kept = 0.0_f64;
    for n in 0..BROADCASTS {
        wire.write(&broadcasts).await;
        assert_eq!(wire.answer().await.status, 200);
        assert_eq!(quick.line().await.len(), "data: {\"body\":}".len() + body.len());
        assert_eq!(quick.line().await, "");
        if n % 10 == 0 {
            kept = kept.max(metric(&relay, "uhst_relay_kept_bytes").await);
        }
    }
    let queue = f64::from(RelayLimits::default().queue_bytes);
    assert!((100_000.0..2.0 * queue).contains(&kept), "{kept} bytes were kept");
    assert_eq!(metric(&relay, "uhst_relay_dropped_listeners_total").await, 1.0);
    // When it reads again, it finds the end of its stream.
    let mut read = Vec::new();
    let _ = stalled_client.wire.stream.read_to_end(&mut read).await;
    assert!(read.len() < BROADCASTS * body.len() / 2, "{}", read.len());
    // Messages that everybody has read take no memory, although the streams continue.
    let given_back = async { while metric(&relay, "uhst_relay_kept_bytes").await > 0.0 {} };
    tokio::time::timeout(Duration::from_secs(5), given_back).await.expect("streams that are idle keep no message");
    drop(quick);
}
