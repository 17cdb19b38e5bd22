//! The relay of a page is away for a while.

use std::time::{Duration, Instant};

use bevy_uhst::{prelude::*, relay::RelayConfig, test_app::TestNetwork};
use serde_json::json;

use crate::{
    browser::Page,
    numbers::{NUMBERS, Numbers, has_numbers},
    support::{StandaloneRelay, connected, disconnected, until},
};

/// A relay that is away for ten seconds in the middle loses nothing, and neither side ends.
fn numbers_outlast_a_relay(name: &'static str, paths: PathPolicy) {
    let mut relay = StandaloneRelay::start();
    let host = UhstHost::new(name).relay(relay.relay()).paths(paths);
    let mut host = TestNetwork::loopback().host_with(host);
    let mut page = Page::join(name, &format!("http://{}/#{name}", relay.address()), json!({}));
    page.wait(&mut [&mut host], "connected");
    if paths == PathPolicy::Automatic {
        page.wait_for_path(&mut [&mut host], Path::Direct);
    }
    page.command(json!({ "number": { "count": NUMBERS, "each_frame": 1 } }));
    let mut numbers = Numbers::new();
    let mut back_at = None;
    until(&mut [&mut host], |apps| {
        numbers.send(apps[0]);
        match back_at {
            None if numbers.next == NUMBERS / 3 => {
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
    assert_eq!(page.wait(&mut [&mut host], "numbers"), NUMBERS);
    assert_eq!((connected(&host), disconnected(&host)), (1, Vec::new()));
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn nothing_is_lost_while_the_relay_is_away() {
    numbers_outlast_a_relay("away-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn nothing_is_lost_on_a_direct_path_while_the_relay_is_away() {
    numbers_outlast_a_relay("away-direct", PathPolicy::Automatic);
}
