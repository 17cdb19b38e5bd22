//! Games of this crate in pages of a headless Chromium, with each other and with native ones. `.ci/web` builds the page.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::{
    sync::{LazyLock, mpsc::Receiver},
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::RelayConfig,
    test_app::{TestEvent, TestLog, TestNetwork, link, update_until},
};
use serde_json::{Value, json};
use support::{CHROMIUM, Driver, PATIENCE, StandaloneRelay, connected, disconnected, ended, the_peer, until};

/// How many numbered messages go each way.
const NUMBERS: u32 = 1000;
const MEBIBYTE: usize = 1024 * 1024;

const CHANNELS: [UhstChannel; 4] =
    [UhstChannel::Reliable, UhstChannel::ReliableUnordered, UhstChannel::Unreliable, UhstChannel::UnreliableSequenced];

/// All tests share a browser. It ends with this process, which closes its input.
static BROWSER: LazyLock<Driver> = LazyLock::new(|| {
    let page = std::env::var("WEB_PAGE").expect("`.ci/web` names the folder of the page");
    Driver::start("web.mjs", &[CHROMIUM, &page], "web", &["playwright-core@1.56"])
});

/// A page.
struct Page {
    name: &'static str,
    events: Receiver<Value>,
    /// What it has reported so far, and nobody has waited for.
    reported: Vec<Value>,
}

impl Page {
    fn open(name: &'static str) -> Self {
        Page::open_at(name, json!(true), &mut [])
    }

    /// Opens the page at a URL, or for `true` the page of the driver's own server.
    fn open_at(name: &'static str, url: Value, apps: &mut [&mut App]) -> Self {
        let events = BROWSER.listen(name);
        BROWSER.command(&json!({ "peer": name, "open": url }));
        let mut page = Page { name, events, reported: Vec::new() };
        page.wait(apps, "open");
        page
    }

    fn host(name: &'static str, relay: &StandaloneRelay, more: Value) -> Self {
        let mut page = Page::open(name);
        let mut host = json!({ "id": name, "relay": format!("http://{}/", relay.address()) });
        host.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        page.command(json!({ "host": host }));
        assert_eq!(page.wait(&mut [], "ready"), name);
        page
    }

    fn join(name: &'static str, link: &str, more: Value) -> Self {
        let page = Page::open(name);
        page.joins(link, more);
        page
    }

    fn joins(&self, link: &str, more: Value) {
        let mut join = json!({ "link": link });
        join.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.command(json!({ "join": join }));
    }

    fn command(&self, command: Value) {
        BROWSER.command(&json!({ "peer": self.name, "command": command }));
    }

    /// Updates the apps until the page reports this event, and returns its value. Other events wait for their turn.
    #[track_caller]
    fn wait(&mut self, apps: &mut [&mut App], event: &str) -> Value {
        self.wait_for(apps, PATIENCE, event)
    }

    #[track_caller]
    fn wait_for(&mut self, apps: &mut [&mut App], patience: Duration, event: &str) -> Value {
        let mut found = None;
        update_until(apps, patience, |_| {
            self.reported.extend(self.events.try_iter());
            found = self.reported.iter().position(|reported| reported["event"] == event);
            found.is_some()
        });
        let Some(found) = found else { panic!("{}: no {event}, but {:?}", self.name, self.reported) };
        self.reported.remove(found)["value"].take()
    }

    /// Waits until the page uses this path.
    #[track_caller]
    fn wait_for_path(&mut self, apps: &mut [&mut App], path: Path) {
        while self.wait(apps, "path") != format!("{path:?}") {}
    }

    /// Checks that nothing went wrong that no test asked for.
    #[track_caller]
    fn has_no_mistakes(&mut self) {
        self.reported.extend(self.events.try_iter());
        let is_bad = |event: &&Value| matches!(event["event"].as_str(), Some("misplaced" | "mistake" | "diagnostic"));
        let bad: Vec<_> = self.reported.iter().filter(is_bad).collect();
        assert!(bad.is_empty(), "{bad:?}");
        let mistakes = BROWSER.mistakes();
        assert!(mistakes.iter().all(|mistake| mistake["peer"] != self.name), "{mistakes:?}");
    }
}

/// The messages of an app, as the pages report them.
fn messages(app: &App) -> Vec<(String, Payload)> {
    let message = |event: &TestEvent| match event {
        TestEvent::Message(message) => Some((format!("{:?}", message.channel), message.payload.clone())),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(message).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn path(app: &mut App) -> Path {
    let peer = the_peer(app);
    app.world().get::<UhstPeer>(peer).unwrap().path()
}

/// Texts on every channel, and bytes up to a mebibyte, each way.
#[track_caller]
fn talk(app: &mut App, page: &mut Page) {
    let peer = the_peer(app);
    for channel in CHANNELS {
        let name = format!("{channel:?}");
        let text = format!("grüß dich über {name} 🎲");
        app.world().get::<UhstPeer>(peer).unwrap().send_on(channel, text.clone()).unwrap();
        assert_eq!(page.wait(&mut [app], "text"), json!({ "channel": name, "text": text }));
        page.command(json!({ "send": { "channel": name, "text": text } }));
        until(&mut [app], |apps| messages(apps[0]).contains(&(name.clone(), text.clone().into())));
    }
    for len in [0, 1, 100_000, MEBIBYTE] {
        app.world().get::<UhstPeer>(peer).unwrap().send(pattern(len)).unwrap();
        let expected = json!({ "channel": "Reliable", "len": len, "is_whole": true });
        assert_eq!(page.wait(&mut [app], "bytes"), expected);
        page.command(json!({ "send": { "channel": "Reliable", "bytes": len } }));
        until(&mut [app], |apps| messages(apps[0]).contains(&("Reliable".to_owned(), pattern(len).into())));
    }
}

/// Sends numbered messages, a few in each update.
struct Numbers {
    next: u32,
    at: Instant,
}

impl Numbers {
    fn new() -> Self {
        Numbers { next: 0, at: Instant::now() }
    }

    fn send(&mut self, app: &mut App) {
        if self.next < NUMBERS && self.at.elapsed() > Duration::from_millis(20) {
            let peer = the_peer(app);
            let peer = app.world().get::<UhstPeer>(peer).unwrap();
            if peer.send(format!("number {} of {NUMBERS}", self.next)).is_ok() {
                self.next += 1;
                self.at += Duration::from_millis(15);
            }
        }
    }
}

/// Whether an app has received all numbers, in order.
fn has_numbers(app: &App) -> bool {
    let texts = TestLog::of(app).texts();
    let numbers: Vec<_> = texts.iter().filter(|text| text.starts_with("number ")).collect();
    for (at, text) in numbers.iter().enumerate() {
        assert_eq!(**text, format!("number {at} of {NUMBERS}"));
    }
    numbers.len() == NUMBERS as usize
}

/// A host in this process, whose embedded relay serves pages of every origin.
fn native_host(host: UhstHost) -> App {
    let Relay::Embedded(relay) = TestNetwork::loopback().relay() else { panic!("it is embedded") };
    let relay = EmbeddedRelay { origins: vec!["*".to_owned()], ..relay };
    TestNetwork::loopback().host_with(host.relay(Relay::Embedded(relay)))
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_joins_a_native_host() {
    let mut host = native_host(UhstHost::new("native"));
    let link = link(&host).to_string();
    let mut page = Page::join("client", &link, json!({}));
    assert_eq!(page.wait(&mut [&mut host], "connected"), true);
    page.wait_for_path(&mut [&mut host], Path::Direct);
    until(&mut [&mut host], |apps| path(apps[0]) == Path::Direct);
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

/// The promise of the project: the host shows a link, and a browser that opens it plays.
#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_that_its_host_serves_joins_by_its_link() {
    let Relay::Embedded(relay) = TestNetwork::loopback().relay() else { panic!("it is embedded") };
    let relay = relay.web_app(std::env::var("WEB_PAGE").unwrap()).unwrap();
    let mut host = TestNetwork::loopback().host_with(UhstHost::new("shared").relay(Relay::Embedded(relay)));
    let link = link(&host).to_string();
    let mut page = Page::open_at("friend", json!(link), &mut [&mut host]);
    page.command(json!({ "join": {} }));
    assert_eq!(page.wait(&mut [&mut host], "connected"), true);
    page.wait_for_path(&mut [&mut host], Path::Direct);
    until(&mut [&mut host], |apps| path(apps[0]) == Path::Direct);
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
    page.wait(&mut [&mut client], "connected");
    page.wait_for_path(&mut [&mut client], Path::Direct);
    until(&mut [&mut client], |apps| path(apps[0]) == Path::Direct);
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
        back_at == Some(None) && numbers.next == NUMBERS && has_numbers(apps[0])
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
