//! Games of this crate in pages of a headless Chromium, with each other and with native ones. `.ci/web` builds the page.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "web/browser.rs"]
mod browser;
#[path = "web/hidden.rs"]
mod hidden;
#[path = "web/joining.rs"]
mod joining;
#[path = "web/leaving.rs"]
mod leaving;
#[path = "web/numbers.rs"]
mod numbers;
#[path = "web/offline.rs"]
mod offline;
#[path = "web/originals.rs"]
mod originals;
#[path = "web/relay_away.rs"]
mod relay_away;
#[path = "web/speed.rs"]
mod speed;
mod support;

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use browser::Page;
use serde_json::{Value, json};
use support::{the_peer, until};

const MEBIBYTE: usize = 1024 * 1024;

const CHANNELS: [UhstChannel; 4] =
    [UhstChannel::Reliable, UhstChannel::ReliableUnordered, UhstChannel::Unreliable, UhstChannel::UnreliableSequenced];

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

/// A native host, and a page that has joined it and uses the path that the policy leads to.
#[track_caller]
fn host_and_guest(host: UhstHost, name: &'static str, paths: PathPolicy, more: Value) -> (App, Page) {
    let mut host = native_host(host.paths(paths));
    let mut page = Page::join(name, &link(&host).to_string(), more);
    settle(&mut host, &mut page, paths);
    (host, page)
}

/// Waits until both sides have said that they are connected, and that they use the direct path if the policy allows one.
#[track_caller]
fn settle(app: &mut App, page: &mut Page, paths: PathPolicy) {
    assert_eq!(page.wait(&mut [app], "connected"), true, "the peer is native");
    until(&mut [app], |apps| apps[0].world_mut().query::<&UhstPeer>().iter(apps[0].world()).count() == 1);
    if paths == PathPolicy::Automatic {
        page.wait_for_path(&mut [app], Path::Direct);
        until(&mut [app], |apps| path(apps[0]) == Path::Direct);
    }
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

/// A host in this process, whose embedded relay serves pages of every origin.
fn native_host(host: UhstHost) -> App {
    let Relay::Embedded(relay) = TestNetwork::loopback().relay() else { panic!("it is embedded") };
    let relay = EmbeddedRelay { origins: vec!["*".to_owned()], ..relay };
    TestNetwork::loopback().host_with(host.relay(Relay::Embedded(relay)))
}
