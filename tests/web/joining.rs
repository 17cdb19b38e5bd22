//! Pages join and host, and sessions end.

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use serde_json::json;

use crate::{
    CHANNELS, MEBIBYTE,
    browser::Page,
    host_and_guest, messages, native_host, pattern, settle,
    support::{StandaloneRelay, connected, disconnected, ended, in_time, the_peer, until},
    talk,
};

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_joins_a_native_host() {
    let mut host = native_host(UhstHost::new("native"));
    let link = link(&host).to_string();
    let mut page = Page::join("client", &link, json!({}));
    settle(&mut host, &mut page, PathPolicy::Automatic);
    talk(&mut host, &mut page);

    let peer = the_peer(&mut host);
    host.world().get::<UhstPeer>(peer).unwrap().kick("enough").unwrap();
    assert_eq!(page.wait(&mut [&mut host], "ended"), r#"Kicked("enough")"#);
    // Another session of the same page leaves by itself.
    page.joins(&link, json!({}));
    page.wait(&mut [&mut host], "connected");
    page.command(json!("leave"));
    until(&mut [&mut host], |apps| disconnected(apps[0]).len() == 2);
    assert_eq!(disconnected(&host)[1], EndReason::Left);
    page.has_no_mistakes();
}

/// The name that a browser gives in place of its address leads nowhere here. The native side finds the page by its checks.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_that_hides_its_addresses_gets_a_direct_path() {
    let mut host = native_host(UhstHost::new("hidden-from"));
    let mut page = Page::open_hiding("hiding");
    page.joins(&link(&host).to_string(), json!({}));
    settle(&mut host, &mut page, PathPolicy::Automatic);
    talk(&mut host, &mut page);
    page.has_no_mistakes();
}

/// The promise of the project: the host shows a link, and a browser that opens it plays.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_that_its_host_serves_joins_by_its_link() {
    let Relay::Embedded(relay) = TestNetwork::loopback().relay() else { panic!("it is embedded") };
    let relay = relay.web_app(std::env::var("WEB_PAGE").unwrap()).unwrap();
    let mut host = TestNetwork::loopback().host_with(UhstHost::new("shared").relay(Relay::Embedded(relay)));
    let link = link(&host).to_string();
    let mut page = Page::open_at("friend", &link, &mut [&mut host]);
    page.command(json!({ "join": {} }));
    settle(&mut host, &mut page, PathPolicy::Automatic);
    let peer = the_peer(&mut host);
    host.world().get::<UhstPeer>(peer).unwrap().send("welcome").unwrap();
    assert_eq!(page.wait(&mut [&mut host], "text"), json!({ "channel": "Reliable", "text": "welcome" }));
    page.has_no_mistakes();
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_native_client_joins_a_page() {
    let relay = StandaloneRelay::start();
    let mut page = Page::host("host", &relay, json!({ "password": "meadow" }));
    let join = |password: &str| {
        TestNetwork::loopback().join_with(UhstClient::join("host").relay(relay.relay()).password(password))
    };
    let mut wrong = join("forest");
    until(&mut [&mut wrong], |apps| ended(apps[0]) == [EndReason::WrongPassword]);
    assert_eq!(page.wait(&mut [&mut wrong], "diagnostic"), "joiners gave a wrong password 1 times so far");

    let mut client = join("meadow");
    until(&mut [&mut client], |apps| connected(apps[0]) == 1);
    settle(&mut client, &mut page, PathPolicy::Automatic);
    talk(&mut client, &mut page);
    page.command(json!("kick"));
    until(&mut [&mut client], |apps| ended(apps[0]) == [EndReason::Kicked("enough".to_owned())]);
    page.has_no_mistakes();
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_joins_a_page() {
    let relay = StandaloneRelay::start();
    let mut host = Page::host("page-host", &relay, json!({}));
    host.command(json!({ "echo": true }));
    let mut client = Page::join("page-client", &format!("http://{}/#page-host", relay.address()), json!({}));
    assert_eq!(client.wait(&mut [], "connected"), true);
    client.wait_for_path(&mut [], Path::Direct);
    for len in [0, 1, 100_000, MEBIBYTE, 16 * MEBIBYTE] {
        client.command(json!({ "send": { "channel": "Reliable", "bytes": len } }));
        let expected = json!({ "channel": "Reliable", "len": len, "is_whole": true });
        assert_eq!(host.wait(&mut [], "bytes"), expected);
        assert_eq!(client.wait(&mut [], "bytes"), expected);
    }
    for channel in CHANNELS.map(|channel| format!("{channel:?}")) {
        client.command(json!({ "send": { "channel": channel, "text": "hallo" } }));
        assert_eq!(client.wait(&mut [], "text"), json!({ "channel": channel, "text": "hallo" }));
    }
    host.has_no_mistakes();
    host.command(json!("leave"));
    assert_eq!(client.wait(&mut [], "ended"), "Left");
    client.has_no_mistakes();
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_learns_why_it_does_not_join() {
    let mut host = native_host(UhstHost::new("picky").password("meadow").max_peers(1));
    let link = link(&host).to_string();
    let mut page = Page::join("wrong", &link, json!({ "password": "forest" }));
    assert_eq!(page.wait(&mut [&mut host], "ended"), "WrongPassword");
    page.joins(&link.replace("picky", "nobody"), json!({}));
    assert_eq!(page.wait(&mut [&mut host], "ended"), "NoSuchHost");
    page.joins(&link, json!({ "password": "meadow" }));
    page.wait(&mut [&mut host], "connected");
    let mut other = Page::join("second", &link, json!({ "password": "meadow" }));
    assert_eq!(other.wait(&mut [&mut host], "ended"), "Full");
    other.command(json!({ "host": { "id": "here" } }));
    let reason = other.wait(&mut [&mut host], "ended");
    assert!(reason.as_str().unwrap().contains("a page in a browser cannot run a relay"), "{reason}");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_notices_that_its_host_was_killed() {
    let relay = StandaloneRelay::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut host = App::new();
    let plugin = UhstPlugin::default().runtime(runtime.handle().clone()).relay(relay.relay()).ice_servers([]);
    host.add_plugins((MinimalPlugins, plugin));
    bevy_uhst::test_app::record(&mut host);
    host.world_mut().spawn(UhstHost::new("killed"));
    let link = format!("http://{}/#killed", relay.address());
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_))));
    let mut page = Page::join("orphan", &link, json!({ "resume_timeout": 3 }));
    page.wait(&mut [&mut host], "connected");
    runtime.shutdown_background();
    page.wait(&mut [], "interrupted");
    assert_eq!(page.wait(&mut [], "ended"), "TimedOut");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn two_tabs_of_a_browser_join_the_same_host() {
    let mut host = native_host(UhstHost::new("tabs"));
    let link = link(&host).to_string();
    let mut one = Page::join("tab-one", &link, json!({}));
    let mut two = Page::open_beside("tab-two", &one);
    two.joins(&link, json!({}));
    for page in [&mut one, &mut two] {
        assert_eq!(page.wait(&mut [&mut host], "connected"), true);
        page.wait_for_path(&mut [&mut host], Path::Direct);
        page.command(json!({ "send": { "channel": "Reliable", "text": page.name() } }));
    }
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).texts().len() == 2);
    two.command(json!("leave"));
    until(&mut [&mut host], |apps| disconnected(apps[0]) == [EndReason::Left]);
    one.command(json!({ "send": { "channel": "Reliable", "text": "still here" } }));
    until(&mut [&mut host], |apps| TestLog::of(apps[0]).texts().contains(&"still here"));
    one.has_no_mistakes();
    two.has_no_mistakes();
}

/// The largest message of the default settings, each way.
fn sixteen_mebibytes(name: &'static str, paths: PathPolicy) {
    const LEN: usize = 16 * MEBIBYTE;
    // Nothing is reported while the message is on its way.
    const LONG: Duration = Duration::from_secs(120);
    let (mut host, mut page) = host_and_guest(UhstHost::new(name), name, paths, json!({}));
    let peer = the_peer(&mut host);
    host.world().get::<UhstPeer>(peer).unwrap().send(pattern(LEN)).unwrap();
    let expected = json!({ "channel": "Reliable", "len": LEN, "is_whole": true });
    assert_eq!(page.wait_for(&mut [&mut host], LONG, "bytes"), expected);
    page.command(json!({ "send": { "channel": "Reliable", "bytes": LEN } }));
    assert!(in_time(&mut [&mut host], LONG, || 0, |apps| !messages(apps[0]).is_empty()));
    assert!(messages(&host) == [("Reliable".to_owned(), pattern(LEN).into())]);
    assert_eq!(disconnected(&host), []);
    page.has_no_mistakes();
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn messages_of_16_mebibytes_pass_the_relay() {
    sixteen_mebibytes("large-relay", PathPolicy::RelayOnly);
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn messages_of_16_mebibytes_pass_a_direct_path() {
    sixteen_mebibytes("large-direct", PathPolicy::Automatic);
}
