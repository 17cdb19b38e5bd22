//! The relay of a page is away for a while.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{prelude::*, relay::RelayConfig, test_app::TestNetwork};
use serde_json::json;

use crate::{
    browser::Page,
    numbers::{NUMBERS, Numbers, has_numbers},
    settle,
    support::{StandaloneRelay, connected, disconnected, until},
};

/// A relay that is away for ten seconds, and has forgotten everything then, loses nothing, and neither side ends.
fn numbers_outlast(mut relay: StandaloneRelay, mut app: App, mut page: Page, paths: PathPolicy) {
    settle(&mut app, &mut page, paths);
    page.command(json!({ "number": { "count": NUMBERS, "each_frame": 1 } }));
    let mut numbers = Numbers::new();
    let mut back_at = None;
    until(&mut [&mut app], |apps| {
        numbers.send(apps[0]);
        match back_at {
            None if numbers.next >= NUMBERS / 3 => {
                relay.kill();
                back_at = Some(Some(Instant::now() + Duration::from_secs(10)));
            }
            Some(Some(at)) if at < Instant::now() => {
                relay.restart(RelayConfig::default());
                back_at = Some(None);
            }
            _ => {}
        }
        back_at == Some(None) && numbers.are_sent() && has_numbers(apps[0], NUMBERS)
    });
    assert_eq!(page.wait(&mut [&mut app], "numbers"), NUMBERS);
    assert_eq!((connected(&app), disconnected(&app)), (1, Vec::new()));
}

fn a_guest_outlasts(name: &'static str, paths: PathPolicy) {
    let relay = StandaloneRelay::start();
    let host = UhstHost::new(name).relay(relay.relay()).paths(paths);
    let host = TestNetwork::loopback().host_with(host);
    let page = Page::join(name, &format!("http://{}/#{name}", relay.address()), json!({}));
    numbers_outlast(relay, host, page, paths);
}

fn a_host_outlasts(name: &'static str, paths: PathPolicy) {
    let relay = StandaloneRelay::start();
    let page = Page::host(name, &relay, json!({}));
    let client = UhstClient::join(name).relay(relay.relay()).paths(paths);
    let client = TestNetwork::loopback().join_with(client);
    numbers_outlast(relay, client, page, paths);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_outlasts_a_relay_that_is_away() {
    a_guest_outlasts("away-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_on_a_direct_path_outlasts_a_relay_that_is_away() {
    a_guest_outlasts("away-direct", PathPolicy::Automatic);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_host_outlasts_a_relay_that_is_away() {
    a_host_outlasts("host-away-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_host_on_a_direct_path_outlasts_a_relay_that_is_away() {
    a_host_outlasts("host-away-direct", PathPolicy::Automatic);
}
