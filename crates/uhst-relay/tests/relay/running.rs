//! Startup, reporting and shutdown of a relay.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use uhst_relay::{RelayConfig, RelayServer, RelayStartError, TlsFiles};

use crate::{log::Log, support::*};

#[tokio::test]
async fn health_and_metrics() {
    let relay = start().await;
    let health = ask(&relay, "GET", "/health", &[], "").await;
    assert_eq!((health.status, health.text()), (200, r#"{"status":"ok"}"#));
    let (mut host, _) = host(&relay, "demo").await;
    let (_client, token, _) = client(&relay, "demo").await;
    send(&relay, &token, "{}").await;
    host.message().await;
    let metrics = ask(&relay, "GET", "/metrics", &[], "").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for line in [
        "uhst_relay_sessions 1",
        "uhst_relay_listeners 2",
        "uhst_relay_messages_total 1",
        "uhst_relay_answers_total{status=\"200\"} 6",
    ] {
        assert!(metrics.text().lines().any(|known| known == line), "{line} in\n{}", metrics.text());
    }
}

#[tokio::test]
async fn a_graceful_shutdown_ends_streams_and_answers_pending_requests() {
    let relay = start().await;
    let addr = relay.local_addr();
    let (mut host, _) = host(&relay, "demo").await;
    let (mut client, ..) = client(&relay, "demo").await;
    let mut idle = Wire::open(addr).await;
    assert_eq!(idle.request("POST", "/?action=ping", &[], "").await.status, 200);
    let mut posting = Wire::open(addr).await;
    let ping = request("POST", "/?action=ping", &[JSON, "Expect: 100-continue"], "{}");
    posting.write(&ping[..ping.len() - 2]).await;
    assert_eq!(posting.head().await.status, 100);

    let stopped = tokio::spawn(relay.shutdown());
    host.expect_end().await;
    client.expect_end().await; // without a `host_closed` event
    assert!(idle.ends().await);
    assert!(!stopped.is_finished());
    posting.write("{}").await;
    assert_eq!(posting.answer().await.text(), r#"{"pong":null}"#);
    stopped.await.unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn dropping_a_relay_frees_its_port_at_once() {
    let relay = start().await;
    let bind = relay.local_addr();
    let (mut host_stream, host_token) = host(&relay, "demo").await;
    let (_client, client_token, _) = client(&relay, "demo").await;
    drop(relay);

    // With the same secret, tokens stay valid, and clients wait for their host.
    let relay = RelayServer::start(RelayConfig { bind, ..config() }).await.unwrap();
    assert!(host_stream.wire.ends().await);
    assert_eq!(send(&relay, &client_token, "{}").await.0, 400);
    assert_eq!(listen_status(&relay, &client_token).await, 400);
    let mut host_stream = Events::open(&relay, &host_token).await;
    assert_eq!(send(&relay, &client_token, "[1]").await.0, 200);
    assert_eq!(host_stream.message().await.1, "[1]");
    let _client = Events::open(&relay, &client_token).await;
    drop(relay);

    for secret in [Some("another secret of the tests".to_owned()), Some(String::new()), None] {
        let relay = RelayServer::start(RelayConfig { bind, secret, ..config() }).await.unwrap();
        assert_eq!(send(&relay, &client_token, "{}").await.0, 401);
        assert_eq!(listen_status(&relay, &host_token).await, 401);
        relay.shutdown().await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_or_the_next_one_is_taken() {
    let relay = start().await;
    let bind = relay.local_addr();
    match RelayServer::start(RelayConfig { bind, ..config() }).await {
        Err(error @ RelayStartError::PortInUse { addr }) => {
            assert_eq!(addr, bind);
            assert!(error.to_string().contains("choose another port"));
        }
        other => panic!("{other:?}"),
    }
    let next = RelayServer::start(RelayConfig { bind, port_attempts: 50, ..config() }).await.unwrap();
    assert!(next.port() > bind.port());
    assert_eq!(post(&next, "/?action=ping").await.0, 200);
}

/// On a machine with both address families; otherwise IPv4 alone.
#[tokio::test]
async fn one_socket_serves_ipv4_and_ipv6() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let relay = RelayServer::start(RelayConfig { bind: any, ..config() }).await.unwrap();
    let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    assert_eq!(relay.local_addr().is_ipv6(), has_ipv6);
    let mut here = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, relay.port()))];
    if has_ipv6 {
        here.push((Ipv6Addr::LOCALHOST, relay.port()).into());
    }
    for address in here {
        TcpStream::connect(address).await.unwrap();
        assert!(relay.addresses().contains(&address), "{address}: {:?}", relay.addresses());
    }
    // A socket bound to one IPv6 address accepts nothing else.
    if has_ipv6 {
        let bind = (Ipv6Addr::LOCALHOST, 0).into();
        let relay = RelayServer::start(RelayConfig { bind, ..config() }).await.unwrap();
        assert_eq!(relay.addresses(), [relay.local_addr()]);
        TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).await.unwrap_err();
    }
}

#[tokio::test]
async fn addresses_can_be_reached_and_end_with_loopback() {
    let relay = RelayServer::start(RelayConfig { bind: ([0, 0, 0, 0], 0).into(), ..config() }).await.unwrap();
    let addresses = relay.addresses();
    assert_eq!(addresses.last(), Some(&([127, 0, 0, 1], relay.port()).into()));
    assert!(addresses.iter().all(|address| address.is_ipv4() && address.port() == relay.port()));
    assert_eq!(relay.urls().last().unwrap().as_str(), format!("http://127.0.0.1:{}/", relay.port()));
    let one = start().await;
    assert_eq!(one.addresses(), [one.local_addr()]);
}

#[tokio::test]
async fn https_from_pem_files() {
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let tls = TlsFiles { certificate, key };
    let relay = RelayServer::start(RelayConfig { tls: Some(tls.clone()), ..config() }).await.unwrap();
    let url = relay.urls()[0].clone();
    assert_eq!(url.scheme(), "https");
    let trusted = reqwest::Certificate::from_pem(own.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    let answer = client.post(url.join("?action=ping&timestamp=5").unwrap()).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"pong":5}"#);

    // TLS 1.1 and nothing later is answered with a fatal alert.
    let ciphers = [0xc0, 0x13, 0x00, 0x2f];
    let body = [&[3, 2][..], &[7; 32], &[0, 0, ciphers.len() as u8], &ciphers, &[1, 0]].concat();
    let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let mut old = Wire::open(relay.local_addr()).await;
    old.write([&[0x16, 3, 1, 0, hello.len() as u8][..], &hello].concat()).await;
    let alert = old.exactly(7).await;
    assert_eq!((alert[0], alert[5]), (0x15, 2), "{alert:?}");
    assert!(old.ends().await);

    let swapped = TlsFiles { certificate: tls.key, key: tls.certificate };
    let error = RelayServer::start(RelayConfig { tls: Some(swapped), ..config() }).await.unwrap_err();
    assert!(matches!(error, RelayStartError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn a_public_relay_prefixes_its_ids() {
    let directory = Some(list_of_relays().await);
    let relay = RelayServer::start(RelayConfig { directory: directory.clone(), ..config() }).await.unwrap();
    let id = |answer: Answer| answer.json()["hostId"].as_str().unwrap().to_owned();
    // The list is fetched in the background.
    let picked = loop {
        let picked = id(ask(&relay, "POST", "/?action=host", &[], "").await);
        if picked.contains('-') {
            break picked;
        }
        assert_eq!(picked.len(), 9);
    };
    assert!(picked.len() == 14 && picked.starts_with("0042-"), "{picked}");
    assert_eq!(id(ask(&relay, "POST", "/?action=host&hostId=demo", &[], "").await), "demo");
    // A request with another name affects no other request.
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write("POST /?action=host HTTP/1.1\r\nHost: unlisted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(id(wire.answer().await).len(), 9);
    assert!(id(ask(&relay, "POST", "/?action=host", &[], "").await).starts_with("0042-"));

    let public_url = "https://other/".parse().ok();
    let relay = RelayServer::start(RelayConfig { directory, public_url, ..config() }).await.unwrap();
    while !id(ask(&relay, "POST", "/?action=host", &[], "").await).starts_with("1-") {}
}

#[tokio::test]
async fn requests_do_not_wait_for_the_list_of_relays() {
    let list = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = format!("http://{}/list.json", list.local_addr().unwrap()).parse().ok();
    let relay = RelayServer::start(RelayConfig { directory, ..config() }).await.unwrap();
    let _asking = list.accept().await.unwrap();
    let since = std::time::Instant::now();
    assert_eq!(post(&relay, "/?action=ping").await.0, 200);
    host_token(&relay, "demo").await;
    assert_eq!(post(&relay, "/?action=host").await.0, 200);
    assert!(since.elapsed().as_secs_f64() < 1.0, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_secret_is_long_enough_and_never_shown() {
    for length in 1..RelayConfig::SHORTEST_SECRET {
        let error = RelayServer::start(RelayConfig { secret: Some("x".repeat(length)), ..config() }).await.unwrap_err();
        assert!(error.to_string().contains("openssl rand"), "{error}");
    }
    let config = RelayConfig { host_key: Some("the key".to_owned()), ..config() };
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("the key"), "{shown}");
}

#[tokio::test]
async fn tokens_are_never_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The relay's tasks run on this thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let relay = start().await;
    let (host, host_token) = host(&relay, "demo").await;
    let (client, client_token, _) = client(&relay, "demo").await;
    send(&relay, &client_token, "{}").await;
    send(&relay, &host_token, "{").await;
    ask(&relay, "PUT", &format!("/?token={host_token}"), &[], "").await;
    ask(&relay, "DELETE", &format!("/?token={host_token}"), &[], "").await;
    let mut broken = Wire::open(relay.local_addr()).await;
    broken.write(format!("GET /?token={host_token}\u{1} HTTP/1.1\r\n\r\n")).await;
    assert_eq!(broken.head().await.status, 400);
    drop((host, client));
    relay.shutdown().await;
    let text = log.text();
    assert!(text.contains("relay is listening") && text.contains("listening host=\"demo\""), "{text}");
    for token in [&host_token, &client_token] {
        assert!(token.split('.').skip(1).all(|part| !text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn a_draining_relay_redirects_new_requests() {
    let moved_to = "https://other.example/".parse().ok();
    let relay = RelayServer::start(RelayConfig { moved_to, ..config() }).await.unwrap();
    let addr = relay.local_addr();
    let (mut host_stream, host_token) = host(&relay, "demo").await;
    let (mut client_stream, client_token, _) = client(&relay, "demo").await;
    let drained = tokio::spawn(relay.drain(std::time::Duration::from_secs(2)));
    host_stream.expect_end().await;
    for target in ["/?action=host&hostId=new", "/?action=join&hostId=demo"] {
        let answer = Wire::open(addr).await.request("POST", target, &[], "").await;
        let location = format!("https://other.example{target}");
        assert_eq!((answer.status, answer.header("location")), (307, Some(&*location)));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    for token in [&host_token, &client_token] {
        let mut wire = Wire::open(addr).await;
        wire.write(request("GET", &format!("/?token={token}"), &[], "")).await;
        assert!([307, 400].contains(&wire.head().await.status), "the client still listens");
    }
    assert_eq!(Wire::open(addr).await.request("GET", "/health", &[], "").await.status, 503);
    client_stream.expect_end().await; // without a `host_closed` event
    tokio::time::timeout(std::time::Duration::from_secs(3), drained).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
