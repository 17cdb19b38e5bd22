//! A browser that has no network for a while.

use std::time::{Duration, Instant};

use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog},
};
use serde_json::json;

use crate::{
    host_and_guest,
    numbers::{NUMBERS, Numbers, has_numbers},
    support::{connected, disconnected, until},
};

/// Longer than the timeout of a connection.
const OFFLINE: Duration = Duration::from_secs(8);

/// The browser is offline in the middle of numbered messages each way. Data channels are not cut with it.
fn numbers_outlast_an_offline_browser(name: &'static str, paths: PathPolicy) {
    let (mut host, mut page) = host_and_guest(UhstHost::new(name), name, paths, json!({}));
    page.command(json!({ "number": { "count": NUMBERS, "each_frame": 1 } }));
    let (mut numbers, mut offline) = (Numbers::new(), None);
    until(&mut [&mut host], |apps| {
        numbers.send(apps[0]);
        if offline.is_none() && numbers.next >= NUMBERS / 3 {
            page.set_offline(true);
            offline = Some(Instant::now());
        }
        offline.is_some_and(|since| since.elapsed() > OFFLINE)
    });
    page.set_offline(false);
    until(&mut [&mut host], |apps| {
        numbers.send(apps[0]);
        numbers.are_sent() && has_numbers(apps[0], NUMBERS)
    });
    assert_eq!(page.wait(&mut [&mut host], "numbers"), NUMBERS);
    assert_eq!((connected(&host), disconnected(&host)), (1, Vec::new()));
    let was_interrupted = TestLog::of(&host).has(|event| matches!(event, TestEvent::Interrupted(_)));
    assert_eq!(was_interrupted, paths == PathPolicy::RelayOnly, "only the requests are cut");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn nothing_is_lost_while_the_browser_is_offline() {
    numbers_outlast_an_offline_browser("offline-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_direct_path_outlasts_an_offline_browser() {
    numbers_outlast_an_offline_browser("offline-direct", PathPolicy::Automatic);
}
