//! Sessions on the local network: one app announces a session, another lists and joins it. All traffic stays on the
//! loopback interface or in network namespaces of the tests.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod processes;
mod responder;
#[path = "../support/mod.rs"]
mod support;

use std::{
    net::Ipv4Addr,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use responder::{Responder, announcement, strings};
use support::StandaloneRelay;

const PATIENCE: Duration = Duration::from_secs(60);
/// The limit for the removal of a session after its goodbye, for which mDNS waits a second. The removal after silence
/// takes longer, also on one machine.
const GOODBYE: Duration = Duration::from_millis(2900);

/// Serialises tests that send much, since the browsers of all tests receive it.
static NETWORK: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    NETWORK.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    NETWORK.write().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a game id that no other test, and no other run of this test, announces.
fn game(test: &str) -> String {
    format!("{test} {}", std::process::id())
}

fn host_app(game: &str, name: &str) -> App {
    let mut app = TestNetwork::loopback().app();
    app.world_mut().spawn((UhstHost::any_id().max_peers(3), UhstAnnouncement::new(game, name)));
    app
}

fn browser_app(game: &str) -> App {
    let mut app = TestNetwork::loopback().app();
    app.world_mut().spawn(UhstBrowser::new(game));
    app
}

/// Returns the names and player counts of the sessions that an app lists.
fn listed(app: &mut App) -> Vec<(String, u16)> {
    let mut sessions = app.world_mut().query::<&DiscoveredSession>();
    let mut listed: Vec<_> =
        sessions.iter(app.world()).map(|session| (session.name.clone(), session.players)).collect();
    listed.sort();
    listed
}

fn lists(app: &mut App, expected: &[(&str, u16)]) -> bool {
    listed(app).iter().map(|(name, players)| (name.as_str(), *players)).eq(expected.iter().copied())
}

fn diagnostics(app: &App) -> usize {
    TestLog::of(app).count(|event| matches!(event, TestEvent::Diagnostic(_)))
}

/// Joins the only session of the list, as a click does.
fn click(app: &mut App) -> Entity {
    let mut sessions = app.world_mut().query::<&DiscoveredSession>();
    let link = sessions.single(app.world()).unwrap().link.clone();
    app.world_mut().spawn(UhstClient::from(link)).id()
}

fn is_connected(app: &App, client: Entity) -> bool {
    app.world().get::<UhstClient>(client).is_some_and(UhstClient::is_connected)
}

#[test]
fn a_session_is_found_joined_followed_and_gone() {
    let _beside_others = beside_others();
    let game = game("found");
    let (mut host, mut browser) = (host_app(&game, "Ada’s round"), browser_app(&game));
    // This session belongs to another game.
    let mut other = host_app("another game", "Ben’s round");
    // A second browser in the same app has entities of its own.
    browser.world_mut().spawn(UhstBrowser::new(&game));
    let apps = &mut [&mut host, &mut browser, &mut other];
    assert!(update_until(apps, PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1), ("Ada’s round", 1)])));
    let mut query = browser.world_mut().query_filtered::<Entity, With<UhstBrowser>>();
    let second = query.iter(browser.world()).last().unwrap();
    browser.world_mut().despawn(second);
    assert!(lists(&mut browser, &[("Ada’s round", 1)]));

    let mut sessions = browser.world_mut().query::<(Entity, &DiscoveredSession)>();
    let (entity, session) = sessions.single(browser.world()).unwrap();
    assert_eq!((session.max_players, session.needs_password, session.is_full()), (4, false, false));
    let client = click(&mut browser);
    let apps = &mut [&mut host, &mut browser];
    assert!(update_until(apps, PATIENCE, |apps| is_connected(apps[1], client) && lists(apps[1], &[("Ada’s round", 2)])));
    // The entity is updated in place, so components of the game stay.
    assert!(browser.world().get::<DiscoveredSession>(entity).is_some());

    browser.world_mut().despawn(client);
    let apps = &mut [&mut host, &mut browser];
    assert!(update_until(apps, PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1)])));

    let mut hosts = host.world_mut().query_filtered::<Entity, With<UhstHost>>();
    let session = hosts.single(host.world()).unwrap();
    host.world_mut().despawn(session);
    let goodbye = Instant::now();
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| lists(apps[1], &[])));
    assert!(goodbye.elapsed() < GOODBYE, "it was removed for its silence, after {:?}", goodbye.elapsed());
}

#[test]
fn a_relay_that_is_not_the_host_is_named() {
    let _beside_others = beside_others();
    let game = game("relay");
    let relay = StandaloneRelay::start();
    let url: url::Url = format!("http://{}/", relay.address()).parse().unwrap();
    let mut host = TestNetwork::loopback().app();
    let session = UhstHost::new("here").relay(Relay::Url(url.to_string())).password("swordfish");
    host.world_mut().spawn((session, UhstAnnouncement::new(&game, "elsewhere").local_players(0)));
    let mut browser = browser_app(&game);
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| lists(apps[1], &[("elsewhere", 0)])));
    let mut sessions = browser.world_mut().query::<&DiscoveredSession>();
    let session = sessions.single(browser.world()).unwrap();
    assert_eq!((&session.link, session.needs_password), (&JoinLink::new(Some(url), "here".to_owned()), true));
}

#[test]
fn what_strangers_announce_is_ignored_and_reported_once() {
    let _alone = alone();
    let game = game("strangers");
    let mut browser = browser_app(&game);
    // A good announcement in the same format shows that the browser reads these packets.
    let stranger = Responder::on(Ipv4Addr::LOCALHOST);
    announce_nonsense(&stranger, &game);
    assert!(is_listed(&mut browser, &stranger, &game, "good"));
    announce_nonsense(&stranger, &game);
    // Packets are read in order, so the browser has read the bad ones by then.
    assert!(is_listed(&mut browser, &stranger, &game, "renamed"), "{:?}", listed(&mut browser));
    assert_eq!(diagnostics(&browser), 1, "{:?}", TestLog::of(&browser));
}

/// Announces a session under this name five times a second, until the list has only this session. Returns whether it
/// does.
fn is_listed(browser: &mut App, stranger: &Responder, game: &str, name: &str) -> bool {
    let strings = strings(game, name, &[]);
    let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
    let mut due = Instant::now();
    update_until(&mut [browser], PATIENCE, |apps| {
        if Instant::now() >= due {
            due += Duration::from_millis(200);
            stranger.announce("good", 3000, &strings);
        }
        lists(apps[0], &[(name, 1)])
    })
}

#[test]
fn a_flood_of_sessions_is_bounded_and_the_first_stays() {
    let _alone = alone();
    let game = game("flood");
    let (mut host, mut browser) = (host_app(&game, "Ada’s round"), browser_app(&game));
    let apps = &mut [&mut host, &mut browser];
    assert!(update_until(apps, PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1)])));
    let stranger = Responder::on(Ipv4Addr::LOCALHOST);
    for number in 0..5000 {
        let name = format!("flood {number}");
        let flood = strings(&game, &name, &[]);
        let strings: Vec<&[u8]> = flood.iter().map(Vec::as_slice).collect();
        stranger.announce(&format!("flood{number}"), 3000, &strings);
        if number % 100 == 0 {
            host.update();
            browser.update();
            assert!(listed(&mut browser).len() <= 256);
        }
    }
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| {
        assert!(listed(apps[1]).len() <= 256);
        diagnostics(apps[1]) > 0
    }));
    assert!(listed(&mut browser).contains(&("Ada’s round".to_owned(), 1)));
    // The number of sessions and the rate of packets are reported once each.
    assert!(diagnostics(&browser) <= 2, "{:?}", TestLog::of(&browser));
    // The sessions that are not announced again leave the list.
    assert!(update_until(&mut [&mut host, &mut browser], PATIENCE, |apps| lists(apps[1], &[("Ada’s round", 1)])));
}

/// Sends announcements with every kind of fault.
fn announce_nonsense(stranger: &Responder, game: &str) {
    let long = [b'x'; 250];
    let wrong: [(&str, &[u8]); 12] = [
        ("uhst", b"999"),
        ("uhst", b"-1"),
        ("name", &[0xff, 0xfe, 0x00]),
        ("name", &long),
        ("id", b""),
        ("players", b"5"),
        ("players", b"99999999999999999999"),
        ("limit", b"65536"),
        ("password", b"maybe"),
        ("relay", b"file:///etc/passwd"),
        ("relay", b"http://0.0.0.0/"),
        ("game", &long),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let wrong = strings(game, "wrong", &[wrong]);
        let strings: Vec<&[u8]> = wrong.iter().map(Vec::as_slice).collect();
        stranger.announce(&format!("wrong{number}"), 3000, &strings);
    }
    stranger.announce("empty", 3000, &[]);
    stranger.announce("keys", 3000, &[b"=", b"==", b"no value", b"\xff=\xff"]);
    // These announcements have a port without a listener, or addresses that no host can have.
    let good = strings(game, "wrong", &[]);
    let good: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    stranger.announce("port", 0, &good);
    for (number, address) in
        [[8, 8, 8, 8], [0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 251]].into_iter().enumerate()
    {
        stranger.send(&announcement(&format!("address{number}"), 3000, address.into(), &good));
    }
    // These packets are truncated DNS messages, or no DNS messages.
    let whole = announcement("cut", 3000, Ipv4Addr::LOCALHOST, &good);
    for end in (0..whole.len()).step_by(7) {
        stranger.send(&whole[..end]);
    }
    stranger.send(&[0xff; 1400]);
}
