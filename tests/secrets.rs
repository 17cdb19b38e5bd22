//! No log, error or `Debug` shows a token, a password or a key: all that a session writes at the finest level is searched.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "../crates/uhst-relay/tests/relay/log.rs"]
mod log;
mod support;

use base64::{Engine, prelude::BASE64_STANDARD};
use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::RelayConfig,
    test_app::{TestLog, TestNetwork, link, update_until},
};
use log::Log;
use support::{PATIENCE, StandaloneRelay, connected, diagnostics, ended, the_peer};
use tracing_subscriber::filter::LevelFilter;

const PASSWORD: &str = "swordfish-73";
const WRONG: &str = "wrong-guess-37";
const KEY: &str = "key-of-the-host-51";
const CREDENTIAL: &str = "turn-credential-19";
/// The private half of the player's identity.
const IDENTITY: [u8; 32] = *b"the private bytes of a player 37";
/// With this each token of a relay begins: the algorithm, in base64.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIs";

fn config() -> RelayConfig {
    RelayConfig { host_key: Some(KEY.to_owned()), ..RelayConfig::default() }
}

fn shown<C: Component + std::fmt::Debug>(app: &mut App) -> String {
    let components =
        app.world_mut().query::<&C>().iter(app.world()).map(|shown| format!("{shown:?}")).collect::<Vec<_>>();
    components.concat()
}

/// How bytes are written: as they are, in base64, in hex, and as a list.
fn forms(bytes: &[u8]) -> [String; 5] {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let text = String::from_utf8_lossy(bytes).into_owned();
    // Without padding, as a part of more.
    let base64 = BASE64_STANDARD.encode(&bytes[..30]);
    [text, base64, hex.to_uppercase(), hex, list[1..list.len() - 1].to_owned()]
}

/// A session with all that can be secret, through a relay that forgets its tokens on the way; what its apps show.
fn session() -> String {
    let mut relay = StandaloneRelay::start_with(config());
    let own = Relay::Url(format!("http://{}/?key={KEY}", relay.address()));
    let turn = || IceServer {
        urls: vec!["turn:127.0.0.1:9?transport=udp".to_owned()],
        credentials: Some(IceCredentials { username: "player".to_owned(), credential: CREDENTIAL.to_owned() }),
    };
    let network = TestNetwork::loopback();
    let mut host = network.host_with(UhstHost::new("secrets").relay(own).password(PASSWORD).ice_servers([turn()]));
    let to = link(&host);
    assert!(!to.to_string().contains(KEY), "{to}");
    let identity = UhstIdentity::from_bytes(IDENTITY);
    let mut shows = format!("{identity:?}");
    let client = |password: &str| {
        UhstClient::from(to.clone()).password(password).ice_servers([turn()]).identity(identity.clone())
    };

    let (mut player, mut guesser) = (network.join_with(client(PASSWORD)), network.join_with(client(WRONG)));
    shows += &shown::<UhstClient>(&mut player);
    let apps = &mut [&mut host, &mut player, &mut guesser];
    let both = update_until(apps, PATIENCE, |apps| connected(apps[1]) == 1 && !ended(apps[2]).is_empty());
    assert!(both, "{:?}", TestLog::of(apps[1]));
    assert_eq!(ended(apps[2]), [EndReason::WrongPassword]);
    let peer = the_peer(apps[1]);
    apps[1].world().get::<UhstPeer>(peer).unwrap().send("hello").unwrap();
    assert!(update_until(apps, PATIENCE, |apps| TestLog::of(apps[0]).texts() == ["hello"]));

    // It comes back with another secret: what was posted broke off, and all tokens are worth nothing.
    relay.restart(config());
    let is_back = |app: &App| diagnostics(app).iter().any(|text| text == "the relay is back");
    assert!(update_until(apps, PATIENCE, |apps| is_back(apps[0]) && is_back(apps[1])));
    let losses = |app: &App| diagnostics(app).iter().filter(|text| text.starts_with("the relay is lost")).count();
    let before = [losses(apps[0]), losses(apps[1])];
    relay.kill();
    assert!(update_until(apps, PATIENCE, |apps| losses(apps[0]) > before[0] && losses(apps[1]) > before[1]));

    // The errors of a start.
    for url in [format!("http://127.0.0.1:9/?key={KEY}"), format!("ftp://127.0.0.1/?key={KEY}")] {
        let mut late = network.app();
        late.world_mut().spawn(UhstHost::new("late").relay(Relay::Url(url)).password(PASSWORD));
        assert!(update_until(&mut [&mut late], PATIENCE, |apps| !ended(apps[0]).is_empty()));
        shows += &format!("{:?}", TestLog::of(&late));
    }
    shows += &shown::<UhstHost>(&mut host);
    for app in [&host, &player, &guesser] {
        shows += &format!("{:?}", TestLog::of(app));
    }
    shows
}

#[test]
fn nothing_that_is_written_has_a_secret_in_it() {
    let log = Log::default();
    let writer = log.clone();
    // Also what libraries write by the `log` crate, from all threads.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let shows = session();
    let logged = log.text();
    for seen in ["TRACE", "relay is listening", "the relay is lost"] {
        assert!(logged.contains(seen), "{seen}: {} bytes", logged.len());
    }
    for secret in [PASSWORD, WRONG, KEY, CREDENTIAL, TOKEN]
        .map(str::to_owned)
        .into_iter()
        .chain([PASSWORD, KEY].map(|secret| BASE64_STANDARD.encode(secret)))
        .chain(forms(&IDENTITY))
    {
        for (place, text) in [("Debug", &shows), ("the log", &logged)] {
            let found = text.lines().find(|line| line.contains(&secret));
            assert_eq!(found.map(|line| &line[..line.floor_char_boundary(2000)]), None, "{secret} in {place}");
        }
    }
}
