//! Attacks on a relay alone.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, task::JoinSet, time::sleep};
use uhst_relay::{RelayConfig, RelayLimits, RelayServer};

use super::report::{HONEST, LENGTH, Stop, row};
use crate::{attacks::HS256, order::send_bursts, support::*};

/// Runs every row of attacks on a relay.
pub async fn rows() {
    requests().await;
    tokens_of_one_second().await;
    a_flood_at_a_slow_host().await;
    peers_that_never_read().await;
    players_behind_a_proxy().await;
    bursts().await;
    ids_nobody_listens_to().await;
}

/// Returns how long it takes to join, to listen and to send a message.
pub async fn honest(relay: &RelayServer) -> Duration {
    let since = Instant::now();
    let (_stream, token, _) = client(relay, "demo").await;
    assert_eq!(send(relay, &token, "[\"honest\"]").await.0, 200);
    since.elapsed()
}

/// Returns the longest of the honest joins during `length`.
pub async fn honest_for(relay: &RelayServer, length: Duration) -> Duration {
    let (since, mut longest) = (Instant::now(), Duration::ZERO);
    while since.elapsed() < length {
        longest = longest.max(honest(relay).await);
    }
    longest
}

/// Repeats one request from several connections. Returns the requests per second, the number that succeeded, and the
/// longest honest join in the meantime.
async fn attack(relay: &RelayServer, target: &str, headers: &[&str], body: &[u8]) -> (f64, u64, Duration) {
    let (asked, taken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Stop::default());
    let post = request("POST", target, headers, body);
    let mut attackers = JoinSet::new();
    for _ in 0..9 {
        let (addr, post, asked, taken, stop) =
            (relay.local_addr(), post.clone(), asked.clone(), taken.clone(), stop.clone());
        attackers.spawn(async move {
            let mut wire = Wire::open_from(addr, [127, 0, 0, 2]).await;
            while !stop.is_set() {
                wire.write(&post).await;
                taken.fetch_add(u64::from(wire.answer().await.status == 200), Ordering::Relaxed);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let since = Instant::now();
    let longest = honest_for(relay, LENGTH).await;
    stop.set();
    while attackers.join_next().await.is_some() {}
    let rate = asked.load(Ordering::Relaxed) as f64 / since.elapsed().as_secs_f64();
    (rate, taken.load(Ordering::Relaxed), longest)
}

/// The name of an attack, its former effect, and the request: target, headers, body.
type Attack = (&'static str, &'static str, &'static str, &'static [&'static str], &'static [u8]);

async fn requests() {
    let bomb: &'static [u8] = include_bytes!("../inputs/large-window.br");
    let rows: [Attack; 4] = [
        ("1 bodies without a token", "1 GB and 1 s of CPU each", "/?token=x", &[JSON, "Content-Encoding: br"], bomb),
        ("2 tokens of others broadcast", "all of them", "", &[JSON], b"[\"evil\"]"),
        ("10 guessed codes", "6,500 a second are looked up", "/?action=join&hostId=123456789", &[], b""),
        ("14 hosts of unknown peers", "all of them", "/?action=host&hostId=theirs", &[], b""),
    ];
    for (name, before, target, headers, body) in rows {
        let config = RelayConfig { host_key: name.starts_with("14").then(|| "the key".to_owned()), ..config() };
        let relay = RelayServer::start(config).await.unwrap();
        let own = ask(&relay, "POST", "/?action=host&hostId=demo&key=the+key", &[], "").await;
        let other = signed(HS256, r#"{"type":"hostToken","hostId":"demo","iat":1}"#);
        let _host = Events::open(&relay, own.json()["hostToken"].as_str().unwrap()).await;
        let target = if target.is_empty() { format!("/?token={other}") } else { target.to_owned() };
        let (rate, taken, longest) = attack(&relay, &target, headers, body).await;
        row(name, before, format!("{taken} of {rate:.0} a second are taken"), longest);
        assert_eq!(taken, 0, "{name}");
    }
}

async fn tokens_of_one_second() {
    let relay = start().await;
    let mut stolen = Vec::new();
    for _ in 0..200 {
        stolen.push(host_token(&relay, "demo").await);
    }
    let (_host, own) = host(&relay, "demo").await;
    let longest = honest_for(&relay, LENGTH / 4).await;
    let mut speak = 0;
    for token in &stolen {
        speak += usize::from(send(&relay, token, "[\"evil\"]").await.0 == 200 || *token == own);
    }
    let different = stolen.iter().collect::<HashSet<_>>().len();
    let now = format!("{speak} of 200 speak for the host, all {different} are different");
    row("3 tokens of one second", "identical", now, longest);
    assert_eq!((speak, different), (0, 200));
}

async fn a_flood_at_a_slow_host() {
    let relay = start().await;
    let token = host_token(&relay, "demo").await;
    let slow = Wire::open_small(relay.local_addr()).await;
    let mut host = Events::open_on(slow, &format!("/?token={token}")).await;
    // The host reads a megabyte per second.
    let reading = tokio::spawn(async move {
        loop {
            if host.line().await.len() > 1000 {
                sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let (target, large) =
        (format!("/?token={}", client_token(&relay, "demo").await), format!("[\"{}\"]", "x".repeat(100_000)));
    let mut flood = JoinSet::new();
    for _ in 0..60 {
        let (addr, target, large) = (relay.local_addr(), target.clone(), large.clone());
        flood.spawn(async move {
            let mut wire = Wire::open_from(addr, [127, 0, 0, 2]).await;
            loop {
                wire.write(request("POST", &target, &[JSON], &large)).await;
                tokio::select! {
                    answer = wire.answer() => assert!([200, 429].contains(&answer.status), "{answer:?}"),
                    () = sleep(2 * LENGTH) => return,
                }
            }
        });
    }
    let longest = honest_for(&relay, LENGTH).await;
    flood.abort_all();
    while let Some(ended) = flood.join_next().await {
        assert!(ended.err().is_none_or(|error| error.is_cancelled()), "its sender gets the error of a missing host");
    }
    assert!(!reading.is_finished());
    reading.abort();
    let dropped = metric(&relay, "uhst_relay_dropped_listeners_total").await;
    row("4 60 POSTs of 100 KB at a slow host", "the host is dropped", format!("{dropped} hosts are dropped"), longest);
    assert!(dropped == 0.0);
}

async fn peers_that_never_read() {
    const MOST: usize = 10;
    let write_timeout = Duration::from_millis(500);
    let limits = RelayLimits { connections_per_address: MOST, ..RelayLimits::default() };
    let relay = RelayServer::start(RelayConfig { write_timeout, limits, ..config() }).await.unwrap();
    let (_host, _) = host(&relay, "demo").await;
    let pings = Arc::new(request("POST", "/?action=ping", &[], "").repeat(1000));
    let mut attackers = JoinSet::new();
    for _ in 0..200 {
        let mut wire = Wire::open_from(relay.local_addr(), [127, 0, 0, 2]).await;
        let pings = pings.clone();
        attackers.spawn(async move { while wire.stream.write_all(&pings).await.is_ok() {} });
    }
    let longest = honest_for(&relay, LENGTH).await;
    let held = metric(&relay, "uhst_relay_connections").await;
    let name = "9 200 connections pipeline and never read";
    row(name, "all live for good", format!("{held} connections are open after {LENGTH:?}"), longest);
    // The connections are those of one address, the host's, and those of the requests.
    assert!(held <= (MOST + 10) as f64, "{held}");
    // The responses first fill the system's buffers.
    let cut = async { while metric(&relay, "uhst_relay_stalled_connections_total").await == 0.0 {} };
    tokio::time::timeout(Duration::from_secs(60), cut).await.expect("a peer that does not read is disconnected");
}

async fn players_behind_a_proxy() {
    let limits = RelayLimits { requests_per_second: NonZeroU32::new(20), ..RelayLimits::default() };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let relay = RelayServer::start(RelayConfig { limits, trusted_proxies, ..config() }).await.unwrap();
    let (_host, _) = host(&relay, "demo").await;
    let (mut longest, mut refused, mut asked) = (Duration::ZERO, 0, 0);
    let mut proxy = Wire::open(relay.local_addr()).await;
    for player in 0..20 {
        for _ in 0..50 {
            let from = ["X-Forwarded-For: 203.0.113.7"];
            refused += usize::from(proxy.request("POST", "/?action=ping", &from, "").await.status == 429);
            asked += 1;
        }
        let since = Instant::now();
        let from = format!("X-Forwarded-For: 192.0.2.{player}");
        let joined = proxy.request("POST", "/?action=join&hostId=demo", &[&from], "").await;
        assert_eq!(joined.status, 200, "{player}");
        longest = since.elapsed().max(longest);
    }
    let now = format!("{refused} of {asked} requests of one are refused, none of 20 others'");
    row("13 a flood from behind a proxy", "all players share one quota", now, longest);
    assert!(refused > asked / 2);
}

async fn bursts() {
    const BURSTS: usize = 200;
    let relay = start().await;
    let (mut host, _) = host(&relay, "demo").await;
    let mut senders = Vec::new();
    for _ in 0..3 {
        let (addr, target) = (relay.local_addr(), format!("/?token={}", client_token(&relay, "demo").await));
        senders.push(thread::spawn(move || send_bursts(addr, &target, BURSTS)));
    }
    let reading = tokio::spawn(async move {
        let (mut next, mut misplaced, mut all) = (HashMap::<String, usize>::new(), 0, 0);
        while all < 3 * (6 * BURSTS + 50) {
            // Messages of honest clients come and go in between.
            let line = host.line().await;
            let Some((token, body)) =
                line.strip_prefix("data: {\"responseToken\":\"").and_then(|rest| rest.split_once("\",\"body\":["))
            else {
                continue;
            };
            let Ok(number) = body.trim_end_matches("]}").parse::<usize>() else { continue };
            let next = next.entry(uhst_proto::protocol::peek_token(token).unwrap().client_id.unwrap()).or_default();
            misplaced += usize::from(number != *next);
            (*next, all) = (number + 1, all + 1);
        }
        (misplaced, all, host)
    });
    let longest = honest_for(&relay, LENGTH / 4).await;
    let (misplaced, all, _host) = reading.await.unwrap();
    for sender in senders {
        sender.join().unwrap();
    }
    let now = format!("{misplaced} of {all} messages are out of order, on two threads");
    row("17 bursts on six connections", "another order", now, longest);
    assert_eq!(misplaced, 0);
}

async fn ids_nobody_listens_to() {
    let relay = RelayServer::start(RelayConfig { hold: Duration::from_secs(30), ..config() }).await.unwrap();
    let (_demo, _) = host(&relay, "demo").await;
    let mut held = 0;
    for n in 0..50 {
        let id = format!("left-{n}");
        drop(host(&relay, &id).await);
        while listens_at(&relay, &id).await {}
        held += usize::from(post(&relay, &format!("/?action=host&hostId={id}")).await.0 != 200);
    }
    let longest = honest_for(&relay, HONEST / 4).await;
    row("18 ids of 50 hosts that left nobody behind", "all are held", format!("{held} are held"), longest);
    assert_eq!(held, 0);
}

/// Returns whether the relay still sees the host of this id.
async fn listens_at(relay: &RelayServer, id: &str) -> bool {
    post(relay, &format!("/?action=join&hostId={id}")).await.0 == 200
}
