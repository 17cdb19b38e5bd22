//! The attacks against a relay as a table: what each reaches, and how long an honest player beside it takes to join.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bevy_uhst::relay::Relay;
use tokio::task::JoinSet;

use crate::support::*;

/// How long each attack goes on.
const LENGTH: Duration = Duration::from_secs(3);

/// How long it takes to join, to listen and to have a message passed on.
async fn honest(relay: &Relay) -> Duration {
    let since = Instant::now();
    let (_stream, token, _) = client(relay, "demo").await;
    assert_eq!(send(relay, &token, "[\"honest\"]").await.0, 200);
    since.elapsed()
}

/// One request of an attack, again and again, from several connections: how many a second, of which the relay has
/// taken how many for good, and the longest of the honest joins beside them.
async fn attack(relay: &Relay, target: &str, headers: &[&str], body: &[u8]) -> (f64, u64, Duration) {
    let (asked, taken, stop) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let post = request("POST", target, headers, body);
    let mut attackers = JoinSet::new();
    for _ in 0..9 {
        let (addr, post, asked, taken, stop) =
            (relay.local_addr(), post.clone(), asked.clone(), taken.clone(), stop.clone());
        attackers.spawn(async move {
            let mut wire = Wire::open_from(addr, [127, 0, 0, 2]).await;
            while !stop.load(Ordering::Relaxed) {
                wire.write(&post).await;
                taken.fetch_add(u64::from(wire.answer().await.status == 200), Ordering::Relaxed);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (since, mut longest) = (Instant::now(), Duration::ZERO);
    while since.elapsed() < LENGTH {
        longest = longest.max(honest(relay).await);
    }
    stop.store(true, Ordering::Relaxed);
    while attackers.join_next().await.is_some() {}
    let rate = asked.load(Ordering::Relaxed) as f64 / since.elapsed().as_secs_f64();
    (rate, taken.load(Ordering::Relaxed), longest)
}

/// Its name, what it did before, and the request: target, headers, body.
type Attack = (&'static str, &'static str, &'static str, &'static [&'static str], &'static [u8]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 20 s, and prints a table"]
async fn the_table_of_attacks() {
    println!("row | before | now | longest honest join beside it");
    let bomb: &'static [u8] = include_bytes!("inputs/large-window.br");
    let rows: [Attack; 4] = [
        ("1 bodies without a token", "1 GB and 1 s of CPU each", "/?token=x", &[JSON, "Content-Encoding: br"], bomb),
        ("2 tokens of others broadcast", "all of them", "", &[JSON], b"[\"evil\"]"),
        ("10 guessed codes", "6,500 a second are looked up", "/?action=join&hostId=123456789", &[], b""),
        ("14 hosts of strangers", "all of them", "/?action=host&hostId=theirs", &[], b""),
    ];
    for (row, before, target, headers, body) in rows {
        let config =
            bevy_uhst::relay::RelayConfig { host_key: row.starts_with("14").then(|| "the key".to_owned()), ..config() };
        let relay = Relay::start(config).await.unwrap();
        let own = ask(&relay, "POST", "/?action=host&hostId=demo&key=the+key", &[], "").await;
        let other = signed(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"type":"hostToken","hostId":"demo","iat":1}"#);
        let _host = Events::open(&relay, own.json()["hostToken"].as_str().unwrap()).await;
        let target = if target.is_empty() { format!("/?token={other}") } else { target.to_owned() };
        let (rate, taken, longest) = attack(&relay, &target, headers, body).await;
        println!("{row} | {before} | {taken} of {rate:.0} a second are taken | {longest:?}");
        assert_eq!(taken, 0, "{row}");
        assert!(longest < Duration::from_secs(1), "{row}: {longest:?}");
    }
}
