//! Row 12: claims of others about the address of a relay.

use std::time::{Duration, Instant};

use tokio::{net::TcpListener, task::JoinSet};
use uhst_relay::{RelayConfig, RelayServer};

use super::{
    report::{LENGTH, Stop, row},
    rows::honest_for,
};
use crate::support::*;

pub async fn rows() {
    names_of_unknown_peers().await;
    a_list_that_hangs().await;
}

async fn names_of_unknown_peers() {
    let relay = RelayServer::start(RelayConfig { directory: Some(list_of_relays().await), ..config() }).await.unwrap();
    let (_demo, _) = host(&relay, "demo").await;
    let (stop, mut attackers) = (Stop::default(), JoinSet::new());
    for name in ["other", "nowhere", "other:443", "relay.evil"] {
        let (addr, stop) = (relay.local_addr(), stop.clone());
        attackers.spawn(async move {
            // These requests come first, before the list is loaded.
            let mut wire = Wire::open_from(addr, [127, 0, 0, 2]).await;
            let asks = format!("POST /?action=host HTTP/1.1\r\nHost: {name}\r\nContent-Length: 0\r\n\r\n");
            let mut asked = 0;
            while !stop.is_set() {
                wire.write(&asks).await;
                assert_eq!(wire.answer().await.status, 200);
                asked += 1;
            }
            asked
        });
    }
    let picked = async || ask(&relay, "POST", "/?action=host", &[], "").await.json()["hostId"].as_str().unwrap().len();
    while picked().await != "0042-123456789".len() {}
    let longest = honest_for(&relay, LENGTH / 2).await;
    let (mut misled, asks) = (0, 200);
    for _ in 0..asks {
        misled += usize::from(picked().await != "0042-123456789".len());
    }
    stop.set();
    let attackers: usize = attackers.join_all().await.into_iter().sum();
    let now = format!("{misled} of {asks} ids have a wrong prefix, after {attackers} requests by other names");
    row("12 the first Host: is forged", "all ids have its prefix", now, longest);
    assert_eq!(misled, 0);
}

async fn a_list_that_hangs() {
    let list = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = format!("http://{}/list.json", list.local_addr().unwrap()).parse().ok();
    let relay = RelayServer::start(RelayConfig { directory, ..config() }).await.unwrap();
    let (_demo, _) = host(&relay, "demo").await;
    // The server accepts the request and never responds.
    let _asking = list.accept().await.unwrap();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < LENGTH / 2 {
        let since = Instant::now();
        assert_eq!(post(&relay, "/?action=ping").await.0, 200);
        longest = longest.max(since.elapsed());
    }
    let joins = honest_for(&relay, LENGTH / 2).await;
    row("12 a list of relays that hangs", "pings take 5 s", format!("a ping takes {longest:?} at most"), joins);
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}
