//! Rows 12 and 16: what others say about where a relay is.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bevy_uhst::{
    prelude::UhstClient,
    relay::{Relay, RelayConfig},
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};

use super::{LENGTH, Stop, relay::honest_for, row};
use crate::support::*;

pub async fn rows() {
    names_of_strangers().await;
    a_list_that_hangs().await;
    tokio::task::spawn_blocking(relays_that_point_elsewhere).await.unwrap();
}

async fn names_of_strangers() {
    let relay = Relay::start(RelayConfig { directory: Some(list_of_relays().await), ..config() }).await.unwrap();
    let (_demo, _) = host(&relay, "demo").await;
    let (stop, mut strangers) = (Stop::default(), JoinSet::new());
    for name in ["other", "nowhere", "other:443", "relay.evil"] {
        let (addr, stop) = (relay.local_addr(), stop.clone());
        strangers.spawn(async move {
            // They are first: before the list is there.
            let mut wire = Wire::open_from(addr, [127, 0, 0, 2]).await;
            let asks = format!("POST /?action=host HTTP/1.1\r\nHost: {name}\r\nContent-Length: 0\r\n\r\n");
            let mut asked = 0;
            while !stop.is_told() {
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
    stop.tell();
    let strangers: usize = strangers.join_all().await.into_iter().sum();
    let now = format!("{misled} of {asks} ids have a wrong prefix, after {strangers} requests by other names");
    row("12 the first Host: is a stranger's", "all ids have its prefix", now, longest);
    assert_eq!(misled, 0);
}

async fn a_list_that_hangs() {
    let list = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = format!("http://{}/list.json", list.local_addr().unwrap()).parse().ok();
    let relay = Relay::start(RelayConfig { directory, ..config() }).await.unwrap();
    let (_demo, _) = host(&relay, "demo").await;
    // It takes the request, and never answers.
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

/// A machine of the player's own network, and who comes there.
async fn victim() -> (SocketAddr, UnboundedReceiver<()>) {
    let victim = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = victim.local_addr().unwrap();
    let (comes, came) = unbounded_channel();
    tokio::spawn(async move {
        while victim.accept().await.is_ok() {
            let _ = comes.send(());
        }
    });
    (address, came)
}

/// A relay that answers each request with this.
async fn hostile(head: String, json: String) -> String {
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", relay.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = relay.accept().await {
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{json}", json.len());
            tokio::spawn(async move {
                let mut wire = Wire::accepted(stream);
                while wire.asked().await.is_some() {
                    wire.write(&answer).await;
                }
            });
        }
    });
    url
}

/// On a thread of its own, since it updates apps.
fn relays_that_point_elsewhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let network = TestNetwork::loopback();
    let mut host = network.host("x");
    let (mut came, mut asked) = (0, 0);
    // In replies, in redirects, and in links of strangers.
    for (head, json, link) in [
        ("200 OK", r#"{"clientToken":"t","sendUrl":"http://VICTIM/reboot"}"#, "/#x"),
        ("200 OK", r#"{"clientToken":"t","receiveUrl":"http://VICTIM/reboot"}"#, "/#x"),
        ("307 Moved\r\nLocation: http://VICTIM/reboot", "", "/#x"),
        ("308 Moved\r\nLocation: //user:password@VICTIM/", "", "/#x"),
        ("", "", "http://VICTIM/reboot#x"),
        ("", "", "http://VICTIM/?reboot=1#x"),
        ("", "", "http://admin:admin@VICTIM/#x"),
        ("", "", "VICTIM/cgi-bin/reboot#x"),
    ] {
        let (victim, mut comes) = runtime.block_on(victim());
        let [head, json, mut link] = [head, json, link].map(|text| text.replace("VICTIM", &victim.to_string()));
        if !head.is_empty() {
            link = runtime.block_on(hostile(head, json)) + link.trim_start_matches('/');
        }
        let mut app = network.app();
        app.world_mut().spawn(UhstClient::join(link.as_str()));
        let ends = update_until(&mut [&mut app], Duration::from_secs(20), |apps| {
            TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ended(_)))
        });
        assert!(ends, "{link}: {:?}", TestLog::of(&app));
        asked += 1;
        while comes.try_recv().is_ok() {
            came += 1;
        }
    }
    let since = Instant::now();
    let mut player = network.join(&host);
    assert!(update_until(&mut [&mut host, &mut player], Duration::from_secs(20), |apps| {
        TestLog::of(apps[1]).has(|event| matches!(event, TestEvent::Connected(_)))
    }));
    let now = format!("{came} requests from {asked} clients");
    row("16 replies that point into the player's network", "each is followed", now, since.elapsed());
    assert_eq!(came, 0);
}
