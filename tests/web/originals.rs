//! Pages of npm's `uhst` and games of this crate in pages: text and bytes, over the relay and directly.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{
    browser::Page,
    support::{CHROMIUM, Driver, PATIENCE, StandaloneRelay},
};

/// All tests share a process of originals. It ends with this process, which closes its input.
static ORIGINALS: LazyLock<Driver> = LazyLock::new(|| {
    let packages = ["uhst@3.3.0", "@roamhq/wrtc@0.10.0", "eventsource@4.1.0", "playwright-core@1.56"];
    Driver::start("originals.mjs", &[CHROMIUM], "originals", &packages)
});

/// An original in a page of its own, which starts as `host` or `join`, by `relay` or `webrtc`.
fn original(
    name: &'static str,
    start: &str,
    transport: &str,
    relay: &StandaloneRelay,
) -> impl Fn(&str) -> Value + use<> {
    let events = ORIGINALS.listen(name);
    let relay = format!("http://{}/", relay.address());
    ORIGINALS.command(&json!({
        "peer": name, "start": start, "in": "chromium", "transport": transport, "relay": relay, "id": name,
    }));
    move |event| {
        let reported = events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(reported["event"], event, "{reported}");
        reported
    }
}

/// The page and the original exchange texts, and bytes where the transport has them.
fn talk(page: &mut Page, name: &str, wait: impl Fn(&str) -> Value, transport: &str) {
    let text = |text: &str| json!({ "channel": "Reliable", "text": text });
    for number in 0..20 {
        let words = format!("grüß dich {number} 🎲");
        ORIGINALS.command(&json!({ "peer": name, "send": { "text": words } }));
        page.command(json!({ "send": text(&words) }));
        assert_eq!(page.wait(&mut [], "text"), text(&words));
        assert_eq!(wait("message")["text"], words);
    }
    for len in [0, 1, 200_000] {
        if transport == "webrtc" {
            let bytes: Vec<_> = (0..len).map(|at| at % 251).collect();
            ORIGINALS.command(&json!({ "peer": name, "send": { "bytes": bytes } }));
            page.command(json!({ "send": { "channel": "Reliable", "bytes": len } }));
            assert_eq!(page.wait(&mut [], "bytes"), json!({ "channel": "Reliable", "len": len, "is_whole": true }));
            assert_eq!(wait("message")["bytes"], json!(bytes));
        }
    }
}

fn original_joins(name: &'static str, transport: &str) {
    let relay = StandaloneRelay::start();
    let mut page = Page::host(name, &relay, json!({}));
    let wait = original(name, "join", transport, &relay);
    wait("open");
    // A host learns of a client on the relay by its first message.
    if transport == "relay" {
        ORIGINALS.command(&json!({ "peer": name, "send": { "text": "here I am" } }));
        assert_eq!(page.wait(&mut [], "text"), json!({ "channel": "Reliable", "text": "here I am" }));
    }
    assert_eq!(page.wait(&mut [], "connected"), false, "it is no native peer");
    talk(&mut page, name, &wait, transport);
    page.command(json!("leave"));
    wait("close");
    page.has_no_mistakes();
}

fn original_hosts(name: &'static str, transport: &str) {
    let relay = StandaloneRelay::start();
    let wait = original(name, "host", transport, &relay);
    wait("ready");
    let mut page = Page::join(name, &format!("http://{}/#{name}", relay.address()), json!({}));
    assert_eq!(page.wait(&mut [], "connected"), false, "it is no native peer");
    // On the relay, the introduction is an empty text, which opens the connection.
    if transport == "relay" {
        assert_eq!(wait("message")["text"], "");
    }
    wait("open");
    talk(&mut page, name, &wait, transport);
    page.has_no_mistakes();
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn an_original_joins_a_page_over_the_relay() {
    original_joins("original-joins-relay", "relay");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn an_original_joins_a_page_over_webrtc() {
    original_joins("original-joins-webrtc", "webrtc");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_joins_an_original_over_the_relay() {
    original_hosts("original-hosts-relay", "relay");
}

#[test]
#[ignore = "run by .ci/web, which builds the page"]
fn a_page_joins_an_original_over_webrtc() {
    original_hosts("original-hosts-webrtc", "webrtc");
}
