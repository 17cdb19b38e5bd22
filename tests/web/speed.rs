//! How fast a page is on a direct path: figures, which depend on the machine and on how the page was built.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog},
};
use serde_json::{Value, json};

use crate::{
    browser::Page,
    host_and_guest,
    support::{StandaloneRelay, in_time, the_peer, until},
};

/// How many messages a flood has. Many fit into the queue of the sender at once, but not all.
const FLOOD: usize = 300_000;
/// How long a measurement may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A page that hosts and one that joins it, on a direct path.
fn pages(host: &'static str, client: &'static str) -> (StandaloneRelay, Page, Page) {
    let relay = StandaloneRelay::start();
    let mut host = Page::host(host, &relay, json!({}));
    let mut client = Page::join(client, &format!("http://{}/#{}", relay.address(), host.name()), json!({}));
    for page in [&mut host, &mut client] {
        page.wait_for_path(&mut [], Path::Direct);
    }
    (relay, host, client)
}

/// Starts a measurement in the page, and waits until it has begun: earlier messages do not count.
fn measure(page: &mut Page, apps: &mut [&mut App], measurement: Value) {
    page.command(json!({ "speed": measurement }));
    page.wait(apps, "measures");
}

/// The round trip of a message between two pages with sixty frames a second.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn the_round_trip_between_two_pages() {
    let (_relay, mut host, mut client) = pages("echo-host", "echo-client");
    host.command(json!({ "echo": true }));
    host.wait(&mut [], "echoes");
    measure(&mut client, &mut [], json!({ "echo": 120 }));
    let times = client.wait_for(&mut [], LONG, "echo");
    println!("echo of 64 bytes between two pages, in ms: {}", times);
}

/// Messages of 64 bytes, as many as the queues take.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_flood_between_two_pages() {
    let (_relay, mut to, mut from) = pages("flood-host", "flood-client");
    for _ in 0..2 {
        measure(&mut to, &mut [], json!({ "receive": FLOOD }));
        measure(&mut from, &mut [], json!({ "send": FLOOD }));
        let seconds = to.wait_for(&mut [], LONG, "received").as_f64().unwrap();
        println!("a page sends another one {:.0} messages of 64 bytes a second", FLOOD as f64 / seconds);
        from.wait(&mut [], "sent");
        std::mem::swap(&mut from, &mut to);
    }
}

/// As above, with a native host.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_flood_between_a_page_and_a_native_host() {
    let (mut host, mut page) = host_and_guest(UhstHost::new("flood"), "flood", PathPolicy::Automatic, json!({}));
    // The first messages may be here before the page's word that it measures.
    let (mut received, mut seen, mut since) = (0, TestLog::of(&host).0.len(), None);
    measure(&mut page, &mut [&mut host], json!({ "send": FLOOD }));
    until(&mut [&mut host], |apps| {
        let log = &TestLog::of(apps[0]).0;
        received += log[seen..].iter().filter(|event| matches!(event, TestEvent::Message(_))).count();
        seen = log.len();
        if received > 0 {
            since.get_or_insert_with(Instant::now);
        }
        received == FLOOD
    });
    let rate = FLOOD as f64 / since.unwrap().elapsed().as_secs_f64();
    println!("a page sends {rate:.0} messages of 64 bytes a second");

    page.wait(&mut [&mut host], "sent");
    measure(&mut page, &mut [&mut host], json!({ "receive": FLOOD }));
    let peer = the_peer(&mut host);
    let mut sent = 0;
    let all_sent = in_time(
        &mut [&mut host],
        LONG,
        || 0,
        |apps| {
            let peer = apps[0].world().get::<UhstPeer>(peer).unwrap();
            while sent < FLOOD && peer.send(vec![7; 64]).is_ok() {
                sent += 1;
            }
            sent == FLOOD
        },
    );
    assert!(all_sent, "{sent} messages fit into the queue");
    let seconds = page.wait_for(&mut [&mut host], LONG, "received").as_f64().unwrap();
    println!("a page receives {:.0} messages of 64 bytes a second", FLOOD as f64 / seconds);
    page.has_no_mistakes();
}
