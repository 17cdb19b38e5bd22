//! A page that is closed, left or loaded again says goodbye: the others notice before any timeout.

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use serde_json::json;

use crate::{
    browser::{Leave, Page},
    host_and_guest, native_host, path, settle,
    support::{StandaloneRelay, connected, disconnected, ended, the_peer, told, until},
    talk,
};

/// Whether an app has noticed that the other side is silent, and so waited for a timeout.
fn noticed_silence(app: &App) -> bool {
    let is_silence =
        |event: &TestEvent| matches!(event, TestEvent::Interrupted(event) if event.reason == Interruption::Silent);
    TestLog::of(app).has(is_silence)
}

fn guest(name: &'static str, paths: PathPolicy) -> (App, Page) {
    host_and_guest(UhstHost::new(name), name, paths, json!({}))
}

#[track_caller]
fn sees_guest_leave(host: &mut App) {
    until(&mut [host], |apps| disconnected(apps[0]).len() == 1);
    assert_eq!(disconnected(host), [EndReason::Left], "{}", told(host));
    assert!(!noticed_silence(host), "{}", told(host));
}

#[track_caller]
fn guest_leaves(name: &'static str, leave: Leave, paths: PathPolicy) {
    let (mut host, page) = guest(name, paths);
    page.leave(leave);
    sees_guest_leave(&mut host);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_closes_its_tab_on_the_relay() {
    guest_leaves("closes-relay", Leave::Close, PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_closes_its_tab_on_a_direct_path() {
    guest_leaves("closes-direct", Leave::Close, PathPolicy::Automatic);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_closes_its_tab_where_only_direct_paths_are_allowed() {
    let mut host = native_host(UhstHost::new("closes-only").paths(PathPolicy::DirectOnly));
    let mut page = Page::join("closes-only", &link(&host).to_string(), json!({}));
    // Each side is connected when it knows that the direct path works.
    settle(&mut host, &mut page, PathPolicy::DirectOnly);
    page.leave(Leave::Close);
    sees_guest_leave(&mut host);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_goes_to_another_page_on_the_relay() {
    guest_leaves("goes-relay", Leave::GoAway, PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_goes_to_another_page_on_a_direct_path() {
    guest_leaves("goes-direct", Leave::GoAway, PathPolicy::Automatic);
}

/// As after a crash of the browser, or from another window: the former page has said nothing.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_player_takes_its_own_place_from_another_page() {
    let identity = [7; 32];
    let host = UhstHost::new("same-player").max_peers(1);
    let (mut host, mut former) =
        host_and_guest(host, "same-player", PathPolicy::RelayOnly, json!({ "identity": identity }));
    let mut page = Page::join("same-player-again", &link(&host).to_string(), json!({ "identity": identity }));
    assert_eq!(page.wait(&mut [&mut host], "connected"), true);
    assert_eq!(former.wait(&mut [&mut host], "ended"), "Rejoined");
    until(&mut [&mut host], |apps| disconnected(apps[0]).len() == 1);
    assert_eq!(disconnected(&host), [EndReason::Rejoined]);
    assert!(TestLog::of(&host).has(|event| matches!(event, TestEvent::Rejoined(_))));
    let peer = the_peer(&mut host);
    let peer = host.world().get::<UhstPeer>(peer).unwrap();
    assert_eq!(peer.identity(), Some(UhstIdentity::from_bytes(identity).public()));
}

/// A browser may keep a page that was left, and show it again as it was. Its session has ended.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_comes_back_to_its_page() {
    let (mut host, mut page) = guest("comes-back", PathPolicy::RelayOnly);
    assert_eq!(page.wait(&mut [&mut host], "shown"), false);
    // The browser decides, by rules of its own, whether it keeps the page.
    for visit in 1..=20 {
        page.leave(Leave::GoAway);
        until(&mut [&mut host], |apps| disconnected(apps[0]).len() == visit);
        page.leave(Leave::GoBack);
        let was_kept = page.wait(&mut [&mut host], "shown") == true;
        if was_kept {
            assert_eq!(page.wait(&mut [&mut host], "ended"), "EndedLocally");
        } else {
            page.wait(&mut [&mut host], "open");
        }
        page.joins(&link(&host).to_string(), json!({}));
        page.wait(&mut [&mut host], "connected");
        until(&mut [&mut host], |apps| connected(apps[0]) == 1 + visit);
        if was_kept {
            return assert!(disconnected(&host).iter().all(|reason| *reason == EndReason::Left));
        }
    }
    panic!("the browser keeps no page");
}

/// The session that ended with the visit is gone when the page is shown again. The next one talks as in a new page.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_comes_back_to_a_page_that_was_left_while_it_joined() {
    let mut asked = native_host(UhstHost::new("asked").admission(Admission::Ask));
    let mut host = native_host(UhstHost::new("comes-later").paths(PathPolicy::RelayOnly));
    let mut page = Page::open("comes-later");
    assert_eq!(page.wait(&mut [], "shown"), false);
    let requests = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::JoinRequest(_)));
    for visit in 1..=20 {
        page.joins(&link(&asked).to_string(), json!({}));
        until(&mut [&mut asked], |apps| requests(apps[0]) == visit);
        page.leave(Leave::GoAway);
        page.leave(Leave::GoBack);
        if page.wait(&mut [&mut asked], "shown") == true {
            page.wait(&mut [&mut asked], "ended");
            page.joins(&link(&host).to_string(), json!({}));
            settle(&mut host, &mut page, PathPolicy::RelayOnly);
            return talk(&mut host, &mut page);
        }
        page.wait(&mut [&mut asked], "open");
    }
    panic!("the browser keeps no page");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_guest_loads_its_page_again() {
    for (name, paths) in [("reloads-relay", PathPolicy::RelayOnly), ("reloads-direct", PathPolicy::Automatic)] {
        let (mut host, mut page) = guest(name, paths);
        page.leave(Leave::Reload);
        sees_guest_leave(&mut host);
        page.wait(&mut [&mut host], "open");
        page.joins(&link(&host).to_string(), json!({}));
        page.wait(&mut [&mut host], "connected");
        until(&mut [&mut host], |apps| connected(apps[0]) == 2);
        assert_eq!(disconnected(&host), [EndReason::Left]);
    }
}

/// Two guests of a host in a page, which leaves.
#[track_caller]
fn host_leaves(name: &'static str, leave: Leave, paths: PathPolicy) -> (StandaloneRelay, Page) {
    let relay = StandaloneRelay::start();
    let mut page = Page::host(name, &relay, json!({}));
    let join = || TestNetwork::loopback().join_with(UhstClient::join(name).relay(relay.relay()).paths(paths));
    let (mut one, mut two) = (join(), join());
    until(&mut [&mut one, &mut two], |apps| apps.iter().all(|app| connected(app) == 1));
    for _ in 0..2 {
        page.wait(&mut [&mut one, &mut two], "connected");
    }
    if paths == PathPolicy::Automatic {
        until(&mut [&mut one, &mut two], |apps| apps.iter_mut().all(|app| path(app) == Path::Direct));
    }
    page.leave(leave);
    until(&mut [&mut one, &mut two], |apps| apps.iter().all(|app| ended(app).len() == 1));
    for app in [&one, &two] {
        assert_eq!(ended(app), [EndReason::Left], "{}", told(app));
        assert!(!noticed_silence(app), "{}", told(app));
    }
    (relay, page)
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_host_closes_its_tab() {
    host_leaves("host-closes-relay", Leave::Close, PathPolicy::RelayOnly);
    host_leaves("host-closes-direct", Leave::Close, PathPolicy::Automatic);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_host_goes_to_another_page() {
    host_leaves("host-goes-relay", Leave::GoAway, PathPolicy::RelayOnly);
    host_leaves("host-goes-direct", Leave::GoAway, PathPolicy::Automatic);
}

/// The new page hosts under the same id at once.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_host_loads_its_page_again() {
    let (relay, mut page) = host_leaves("host-reloads", Leave::Reload, PathPolicy::Automatic);
    page.wait(&mut [], "open");
    page.hosts(&relay, json!({}));
    let mut client = TestNetwork::loopback().join_with(UhstClient::join("host-reloads").relay(relay.relay()));
    until(&mut [&mut client], |apps| connected(apps[0]) == 1);
}
