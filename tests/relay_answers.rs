//! What comes back instead of a relay's answer: redirects, requests to come again later, pages to log in on, and
//! nothing at all.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "answers/between.rs"]
mod between;
mod support;

use std::{
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, SystemTime},
};

use between::{Between, Do, page};
use bevy::prelude::*;
use bevy_uhst::{
    EmbeddedRelay, Relay,
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use support::{PATIENCE, StandaloneRelay, connected, diagnostics, ended};

fn app() -> App {
    TestNetwork::memory().paths(PathPolicy::RelayOnly).app()
}

fn host_at(url: &str) -> App {
    let mut app = app();
    app.world_mut().spawn(UhstHost::new("demo").relay(Relay::Url(url.to_owned())));
    app
}

fn client_at(url: &str) -> App {
    let mut app = app();
    app.world_mut().spawn(UhstClient::join("demo").relay(Relay::Url(url.to_owned())));
    app
}

fn is_ready(app: &App) -> bool {
    TestLog::of(app).has(|event| matches!(event, TestEvent::Ready(_)))
}

/// A host and a client at these URLs, connected.
fn pair(host: &str, client: &str) -> (App, App) {
    let mut host = host_at(host);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| is_ready(apps[0])), "{:?}", TestLog::of(&host));
    let mut client = client_at(client);
    let done = update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1));
    assert!(done, "host: {:?}, client: {:?}", TestLog::of(&host), TestLog::of(&client));
    (host, client)
}

/// Ten messages each way, all of which arrive, in order.
fn talk(host: &mut App, client: &mut App) {
    let sent: Vec<_> = (0..10).map(|i| format!("message {i}")).collect();
    for app in [&mut *host, &mut *client] {
        let peer = support::the_peer(app);
        for text in &sent {
            app.world().get::<UhstPeer>(peer).unwrap().send(text.as_str()).unwrap();
        }
    }
    let all = |app: &App| TestLog::of(app).texts() == sent;
    assert!(update_until(&mut [host, client], PATIENCE, |apps| apps.iter().all(|app| all(app))));
}

/// The words of an app whose session ends because its relay is of no use.
fn words_of_the_end(mut app: App) -> String {
    assert!(update_until(&mut [&mut app], PATIENCE, |apps| !ended(apps[0]).is_empty()), "{:?}", TestLog::of(&app));
    assert!(!is_ready(&app), "{:?}", TestLog::of(&app));
    match &ended(&app)[..] {
        [reason @ EndReason::RelayUnreachable(_)] => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn redirect(status: u16, to: &str) -> Do {
    page(status, &format!("Location: {to}\r\n"))
}

#[test]
fn redirects_are_followed_with_method_body_and_token() {
    let relay = StandaloneRelay::start();
    for status in [301, 302, 307, 308] {
        let between = Between::start(relay.address(), move |request| match request.target().strip_prefix('/') {
            // With the query, or without: then it stays the same.
            Some(query) if request.is_stream() && query.starts_with('?') => redirect(status, &format!("/moved{query}")),
            Some(query) if query.starts_with('?') => redirect(status, "/moved"),
            _ => Do::Pass,
        });
        let (mut host, mut client) = pair(&between.url(), &between.url());
        talk(&mut host, &mut client);
        assert!(between.requests().iter().any(|request| request.is("/moved?token=") && request.is_message()));
    }
}

#[test]
fn a_redirect_in_circles_ends() {
    let relay = StandaloneRelay::start();
    let between = Between::start(relay.address(), |request| redirect(307, request.target()));
    let words = words_of_the_end(host_at(&between.url()));
    assert!(words.contains("redirects more than 5 times") && words.contains(&between.url()), "{words}");
}

#[test]
fn no_token_goes_to_another_server() {
    let relay = StandaloneRelay::start();
    let other = Between::start(relay.address(), |_| Do::Pass);
    let to = other.url();
    let between = Between::start(relay.address(), move |request| match request.is("token=") {
        true => redirect(307, &format!("{to}{}", &request.target()[1..])),
        false => Do::Pass,
    });
    let words = words_of_the_end(host_at(&between.url()));
    assert!(words.contains(other.url().trim_end_matches('/')) && words.contains("log in"), "{words}");
    assert!(other.requests().is_empty());
}

#[test]
fn a_relay_that_asks_to_come_again_later_is_asked_again_later() {
    let relay = StandaloneRelay::start();
    let (mut hosts, mut joins, mut streams, mut messages) = (0, 0, 0, 0);
    let between = Between::start(relay.address(), move |request| {
        let count = match request {
            request if request.is("action=host") => &mut hosts,
            request if request.is("action=join") => &mut joins,
            request if request.is_stream() => &mut streams,
            _ => &mut messages,
        };
        *count += 1;
        let date = SystemTime::now() + Duration::from_secs(2);
        match (request, *count) {
            (request, 1) if request.is("action=host") => page(503, "Retry-After: 1\r\n"),
            (request, 1) if request.is("action=join") => {
                page(429, &format!("Retry-After: {}\r\n", httpdate::fmt_http_date(date)))
            }
            (request, 2) if request.is_stream() => page(503, "Retry-After: 1\r\n"),
            (request, 2 | 3) if request.is_message() => page(429, "Retry-After: 1\r\n"),
            _ => Do::Pass,
        }
    });
    let (mut host, mut client) = pair(&between.url(), &between.url());
    talk(&mut host, &mut client);
    let requests = between.requests();
    let first = |what: &str| requests.iter().find(|request| request.is(what)).unwrap();
    // Who was refused may have sent more before it heard so, and then nothing for as long as it was asked.
    let refused = requests.iter().filter(|request| request.is_message()).skip(1).take(2);
    for refused in [first("action=host"), first("action=join")].into_iter().chain(refused) {
        let of_the_same: Vec<_> =
            requests.iter().filter(|request| request.line == refused.line).map(|request| request.at).collect();
        let waited = of_the_same.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(waited >= Some(Duration::from_secs(1)), "{}: {waited:?}", refused.line);
    }
    // The next one has another token.
    let streams: Vec<_> = requests.iter().filter(|request| request.is_stream()).map(|request| request.at).collect();
    assert!(streams[2] - streams[1] >= Duration::from_secs(1), "{streams:?}");
}

#[test]
fn nobody_waits_for_an_hour() {
    let relay = StandaloneRelay::start();
    let between = Between::start(relay.address(), |_| page(503, "Retry-After: 3600\r\n"));
    let words = words_of_the_end(client_at(&between.url()));
    assert!(words.contains("3600 s") && words.contains(&between.url()), "{words}");
    assert_eq!(between.requests().len(), 1);
}

#[test]
fn a_page_to_log_in_on_is_no_relay() {
    let relay = StandaloneRelay::start();
    for streams_alone in [false, true] {
        let portal = Between::start(relay.address(), move |request| match streams_alone && !request.is_stream() {
            true => Do::Pass,
            false => page(200, ""),
        });
        for app in [host_at(&portal.url()), client_at(&portal.url())] {
            if streams_alone && app.world().iter_entities().any(|entity| entity.contains::<UhstClient>()) {
                // Nobody hosts there.
                continue;
            }
            let words = words_of_the_end(app);
            assert!(words.contains("log in") && words.contains(&portal.url()), "{words}");
        }
    }
}

#[test]
fn a_page_to_log_in_on_takes_no_message() {
    let relay = StandaloneRelay::start();
    let mut messages = 0;
    let portal = Between::start(relay.address(), move |request| {
        messages += usize::from(request.is_message());
        match messages {
            2 | 3 | 5 if request.is_message() => page(200, ""),
            4 if request.is_message() => Do::Answer("HTTP/1.1 204 -\r\nConnection: close\r\n\r\n".to_owned()),
            _ => Do::Pass,
        }
    });
    let (mut host, mut client) = pair(&format!("http://{}/", relay.address()), &portal.url());
    talk(&mut host, &mut client);
    assert!(portal.requests().iter().filter(|request| request.is_message()).count() > 5);
}

#[test]
fn a_proxy_that_holds_back_the_event_stream_is_named() {
    let relay = StandaloneRelay::start();
    let url = format!("http://{}/", relay.address());
    let mut host = host_at(&url);
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| is_ready(apps[0])));
    let mut apps: Vec<_> = [true, false]
        .into_iter()
        .flat_map(|head| {
            let proxy = Between::start(relay.address(), move |request| match request.is_stream() {
                true => Do::HoldBack { head },
                false => Do::Pass,
            });
            let mut host = app();
            host.world_mut().spawn(UhstHost::new(format!("another {head}")).relay(Relay::Url(proxy.url())));
            [host, client_at(&proxy.url())]
        })
        .collect();
    let mut all: Vec<_> = apps.iter_mut().collect();
    assert!(update_until(&mut all, PATIENCE, |apps| apps.iter().all(|app| !ended(app).is_empty())));
    for app in &apps {
        let words = ended(app)[0].to_string();
        assert!(words.contains("something between you and the relay holds back its event stream"), "{words}");
        assert_eq!((is_ready(app), connected(app)), (false, 0), "{:?}", TestLog::of(app));
    }
}

#[test]
fn a_relay_that_is_not_there_is_named_and_the_cause_is_told_once() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for app in [host_at(&format!("http://{address}/")), client_at(&format!("http://{address}/"))] {
        let words = words_of_the_end(app);
        assert!(words.contains(&format!("http://{address}/")) && words.contains("refused"), "{words}");
        assert_eq!((words.matches("error").count(), words.matches("refused").count()), (1, 1), "{words}");
    }
}

#[test]
fn a_relay_that_dies_is_told_with_one_cause() {
    let mut relay = StandaloneRelay::start();
    let url = format!("http://{}/", relay.address());
    let (mut host, mut client) = pair(&url, &url);
    relay.kill();
    let lost = |app: &App| diagnostics(app).into_iter().find(|text| text.starts_with("the relay is lost: "));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| lost(app).is_some())));
    for words in [&host, &client].into_iter().filter_map(lost) {
        assert!(!words.contains("transport error") && words.matches("error").count() <= 1, "{words}");
    }
}

/// In a process of its own, since the environment is that of the process.
#[test]
fn a_proxy_in_the_environment_is_not_asked_for_this_machine() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["with_a_proxy_in_the_environment", "--exact", "--ignored"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
        command.env(name, format!("http://{nobody}/"));
    }
    let output = command.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "run by another test, with a proxy in its environment"]
fn with_a_proxy_in_the_environment() {
    let network = TestNetwork::loopback().paths(PathPolicy::RelayOnly);
    let (mut host, mut client) = network.pair("demo");
    talk(&mut host, &mut client);
    // What lies beyond this network is asked for by way of the proxy, where nobody is.
    let words = words_of_the_end(host_at("http://192.0.2.7/"));
    assert!(words.contains("http://192.0.2.7/"), "{words}");
}

/// Free ports at an address of this machine that no other test uses.
fn ports() -> EmbeddedRelay {
    static TESTS: AtomicU8 = AtomicU8::new(1);
    let address = [127, 77, 1, TESTS.fetch_add(1, Ordering::Relaxed)];
    let listener = std::net::TcpListener::bind(SocketAddr::from((address, 0))).unwrap();
    EmbeddedRelay { bind: listener.local_addr().unwrap(), port_attempts: 8, ..default() }
}

fn on_this_machine(id: &str, relay: &EmbeddedRelay) -> App {
    let mut app = app();
    app.world_mut().spawn(UhstHost::new(id).relay(Relay::Embedded(relay.clone())));
    app
}

#[test]
fn a_bare_code_finds_the_second_host_of_this_machine() {
    let relay = ports();
    let mut first = on_this_machine("first", &relay);
    assert!(update_until(&mut [&mut first], PATIENCE, |apps| is_ready(apps[0])));
    let mut second = on_this_machine("second", &relay);
    assert!(update_until(&mut [&mut second], PATIENCE, |apps| is_ready(apps[0])));
    for (host, id) in [(&mut first, "first"), (&mut second, "second")] {
        let mut client = app();
        client.world_mut().spawn(UhstClient::join(id).relay(Relay::Embedded(relay.clone())));
        let done = update_until(&mut [host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1));
        assert!(done, "{id}: {:?}", TestLog::of(&client));
    }
    let mut nobody = app();
    nobody.world_mut().spawn(UhstClient::join("third").relay(Relay::Embedded(relay)));
    assert!(update_until(&mut [&mut nobody], PATIENCE, |apps| !ended(apps[0]).is_empty()));
    assert_eq!(ended(&nobody), [EndReason::NoSuchHost]);
}

#[test]
fn a_bare_code_without_any_host_on_this_machine_says_what_to_use() {
    let relay = ports();
    let mut client = app();
    client.world_mut().spawn(UhstClient::join("483920").relay(Relay::Embedded(relay.clone())));
    let words = words_of_the_end(client);
    let port = relay.bind.port();
    assert!(words.contains(&format!("{port} to {}", port + 7)) && words.contains("link"), "{words}");
}

#[test]
fn the_same_id_twice_on_this_machine_is_an_error() {
    let relay = ports();
    let mut first = on_this_machine("demo", &relay);
    assert!(update_until(&mut [&mut first], PATIENCE, |apps| is_ready(apps[0])));
    let mut second = on_this_machine("demo", &relay);
    assert!(update_until(&mut [&mut first, &mut second], PATIENCE, |apps| !ended(apps[1]).is_empty()));
    assert_eq!((ended(&second), is_ready(&second)), (vec![EndReason::HostIdInUse], false));
    assert!(ended(&first).is_empty());
}

#[test]
fn of_two_hosts_that_want_the_same_id_at_the_same_time_at_most_one_gets_it() {
    let relay = ports();
    let (mut first, mut second) = (on_this_machine("demo", &relay), on_this_machine("demo", &relay));
    let decided = |app: &App| is_ready(app) || !ended(app).is_empty();
    assert!(update_until(&mut [&mut first, &mut second], PATIENCE, |apps| apps.iter().all(|app| decided(app))));
    assert!(!(is_ready(&first) && is_ready(&second)));
}
