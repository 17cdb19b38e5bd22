//! Row 16: replies, redirects and links that point into the player's network.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bevy_uhst::{
    prelude::UhstClient,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use crate::{report::row, support::*};

/// Starts a machine of the player's own network. Returns its address and a queue with an entry for each connection.
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

/// Starts a relay that answers each request with this head and body. Returns its URL.
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

pub fn rows(runtime: &Runtime) {
    let network = TestNetwork::loopback();
    let mut host = network.host("x");
    let (mut came, mut asked) = (0, 0);
    // The address comes in replies, in redirects, and in links of strangers.
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
