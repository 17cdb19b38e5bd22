//! A relay whose owner reads, changes, repeats, reflects, mixes and drops what crosses it, and what the players notice.
//!
//! The same attacks on a connection alone are in `uhst-proto`. Here they meet whole apps, whose sessions also recover by
//! themselves: what is lost is sent again, and arrives once.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "hostile_relay/faults.rs"]
mod faults;
mod original;
#[path = "hostile_relay/proxy.rs"]
mod proxy;
mod support;

use std::sync::{Arc, Mutex};

use base64::{Engine, prelude::BASE64_STANDARD};
use bevy::prelude::*;
use bevy_uhst::{
    KeyHash, PublicKey,
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use bytes::Bytes;
use faults::{Faults, Side};
use original::{Heard, Original};
use proxy::{HostileRelay, Mode, Way};
use support::{PATIENCE, StandaloneRelay, connected, diagnostics, disconnected, ended, the_peer, until};
use tokio::runtime::Runtime;
use uhst_proto::protocol::{Body, TokenKind, frame::HandshakeKind, peek_token};

/// In all that the players tell each other.
const SECRET: &str = "swordfish";
/// How many messages each side sends to each other one.
const MESSAGES: usize = 12;

/// A body that one side posted.
#[derive(Clone)]
struct Letter {
    /// Leads to the other side.
    token: String,
    by_host: bool,
    /// The client from which or to which it goes.
    client: String,
    body: Bytes,
}

impl Letter {
    fn new(query: &str, body: Bytes) -> Self {
        let token = query.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap().to_owned();
        let claims = peek_token(&token).unwrap();
        let by_host = claims.kind == TokenKind::ResponseToken;
        Letter { client: claims.client_id.unwrap(), token, by_host, body }
    }

    fn packet(&self) -> Option<(u32, Bytes)> {
        match Body::parse(std::str::from_utf8(&self.body).ok()?).ok()? {
            Body::Native { version, packet } => Some((version, packet)),
            _ => None,
        }
    }

    fn is_hello(&self) -> bool {
        self.packet().is_some_and(|(_, packet)| HandshakeKind::peek(&packet) == HandshakeKind::Hello)
    }

    /// The same letter to whom this other one goes.
    fn redirected(&self, to: &Letter) -> Self {
        Letter { body: self.body.clone(), ..to.clone() }
    }

    /// This letter with one bit of its packet changed.
    fn changed(&self, at: usize) -> Option<Self> {
        let (version, packet) = self.packet()?;
        let mut packet = packet.to_vec();
        let at = at % (8 * packet.len());
        packet[at / 8] ^= 1 << (at % 8);
        let body = Body::Native { version, packet: packet.into() }.to_json().into();
        Some(Letter { body, ..self.clone() })
    }
}

/// What the owner makes of a letter, when it has seen these before.
type Scheme = fn(&Letter, &[Letter]) -> Vec<Letter>;

/// The owner of the relay.
struct Owner {
    scheme: Scheme,
    seen: Mutex<Vec<Letter>>,
}

impl Faults for Arc<Owner> {
    fn instead(&self, query: &str, body: &Bytes) -> Option<Vec<(String, Bytes)>> {
        let letter = Letter::new(query, body.clone());
        let mut seen = self.seen.lock().unwrap();
        let instead = (self.scheme)(&letter, &seen);
        seen.push(letter);
        Some(instead.into_iter().map(|letter| (format!("token={}", letter.token), letter.body)).collect())
    }
}

/// A relay that somebody else owns.
struct Owned {
    owner: Arc<Owner>,
    proxy: HostileRelay,
    relay: StandaloneRelay,
    _runtime: Runtime,
}

impl Owned {
    fn start(scheme: Scheme) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let relay = StandaloneRelay::start();
        let owner = Arc::new(Owner { scheme, seen: Mutex::default() });
        let proxy = HostileRelay::start(runtime.handle(), relay.address(), owner.clone());
        Owned { owner, proxy, relay, _runtime: runtime }
    }

    fn host(&self, host: UhstHost) -> App {
        network().host_with(host.relay(Relay::Url(self.proxy.url(Side::Host))).metadata(SECRET))
    }

    fn seen(&self) -> Vec<Letter> {
        self.owner.seen.lock().unwrap().clone()
    }

    /// Checks that the owner has read nothing of the game, and nothing of the addresses of the players.
    fn has_read_nothing(&self) {
        let seen = self.seen();
        assert!(!seen.is_empty());
        for letter in seen {
            let (_, packet) = letter.packet().expect("all are sealed");
            for words in [SECRET, "fingerprint", "candidate", "127.0.0.1"] {
                for readable in [&letter.body, &packet] {
                    let found = readable.windows(words.len()).any(|part| part == words.as_bytes());
                    assert!(!found, "{words}: {}", BASE64_STANDARD.encode(&packet));
                }
            }
        }
    }
}

fn network() -> TestNetwork {
    TestNetwork::loopback()
}

/// The link of this host, as players of this relay get it.
fn invitation(host: &App, owned: &Owned) -> JoinLink {
    let mut link = link(host);
    link.relay = Some(owned.proxy.url(Side::Client).parse().unwrap());
    link
}

/// A host and two clients play through the relay: they talk, one is sent away with words, and one leaves. Everything
/// arrives once and in order, nobody else comes or goes, and the owner reads nothing. Returns what the host was told.
fn play(paths: PathPolicy, scheme: Scheme) -> Vec<String> {
    let owned = Owned::start(scheme);
    let mut host = owned.host(UhstHost::new("game").paths(paths));
    let link = invitation(&host, &owned);
    let guest = || network().join_with(UhstClient::from(link.clone()).paths(paths).metadata(SECRET));
    let (mut first, mut second) = (guest(), guest());
    until(&mut [&mut host, &mut first, &mut second], |apps| {
        connected(apps[0]) == 2 && connected(apps[1]) == 1 && connected(apps[2]) == 1
    });
    for guest in [&mut first, &mut second] {
        let peer = the_peer(guest);
        let peer = guest.world().get::<UhstPeer>(peer).unwrap();
        assert_eq!((peer.security(), peer.metadata().as_ref()), (UhstSecurity::Authenticated, SECRET.as_bytes()));
    }

    let texts: Vec<String> =
        (0..MESSAGES).map(|number| format!("{SECRET} {number} {}", "x".repeat(number * 97))).collect();
    for text in &texts {
        for app in [&mut host, &mut first, &mut second] {
            for peer in app.world_mut().query::<&UhstPeer>().iter(app.world()) {
                peer.send_on(UhstChannel::Reliable, text.as_str()).unwrap();
            }
        }
        until(&mut [&mut host, &mut first, &mut second], |_| true);
    }
    let arrived = |app: &App, senders: usize| TestLog::of(app).texts().len() >= senders * MESSAGES;
    until(&mut [&mut host, &mut first, &mut second], |apps| {
        arrived(apps[0], 2) && arrived(apps[1], 1) && arrived(apps[2], 1)
    });
    for guest in [&first, &second] {
        assert_eq!(TestLog::of(guest).texts(), texts);
    }
    // The host got the same from both.
    let mut twice: Vec<_> = texts.iter().flat_map(|text| [text, text]).collect();
    let mut heard = TestLog::of(&host).texts();
    heard.sort();
    twice.sort();
    assert_eq!(heard, twice);

    let sent_away = host.world_mut().query_filtered::<Entity, With<UhstPeer>>().iter(host.world()).next().unwrap();
    host.world().get::<UhstPeer>(sent_away).unwrap().kick(SECRET).unwrap();
    until(&mut [&mut host, &mut first, &mut second], |apps| {
        disconnected(apps[0]).len() == 1 && ended(apps[1]).len() + ended(apps[2]).len() == 1
    });
    let mut left = if ended(&first).is_empty() { first } else { second };
    let mut clients = left.world_mut().query::<&UhstClient>();
    clients.single(left.world()).unwrap().leave();
    until(&mut [&mut host, &mut left], |apps| disconnected(apps[0]).len() == 2 && ended(apps[1]).len() == 1);
    assert_eq!(disconnected(&host)[1], EndReason::Left);
    assert_eq!(connected(&host), 2, "nobody else");
    // Each side says once for each other one that somebody interferes, however often that is.
    for (app, others) in [(&host, 2), (&left, 1)] {
        let told = diagnostics(app);
        assert!(told.iter().filter(|text| text.contains("has not sealed")).count() <= others, "{told:?}");
    }
    owned.has_read_nothing();
    diagnostics(&host)
}

#[test_log::test]
fn who_only_reads_learns_sizes_and_times() {
    for paths in [PathPolicy::RelayOnly, PathPolicy::Automatic] {
        assert_eq!(play(paths, |letter, _| vec![letter.clone()]), [""; 0]);
    }
}

/// A hello is not authenticated by itself: a changed one is a lost one, and its client says so in the end.
#[test_log::test]
fn changed_packets_are_lost_packets() {
    for paths in [PathPolicy::RelayOnly, PathPolicy::Automatic] {
        let told = play(paths, |letter, seen| {
            let changed = if letter.is_hello() { None } else { letter.changed(seen.len() * 7919) };
            changed.into_iter().chain([letter.clone()]).collect()
        });
        assert!(told.iter().any(|text| text.contains("somebody changes or invents them")), "{told:?}");
    }
}

#[test_log::test]
fn repeated_packets_count_once() {
    for paths in [PathPolicy::RelayOnly, PathPolicy::Automatic] {
        play(paths, |letter, seen| {
            let former = seen.iter().step_by(1 + seen.len() / 4).cloned();
            [letter.clone(), letter.clone()].into_iter().chain(former).collect()
        });
    }
}

/// Each side gets its own packets back.
#[test_log::test]
fn reflected_packets_change_nothing() {
    play(PathPolicy::Automatic, |letter, seen| {
        let back = seen.iter().rfind(|other| other.by_host != letter.by_host && other.client == letter.client);
        back.map(|way| letter.redirected(way)).into_iter().chain([letter.clone()]).collect()
    });
}

/// Each client's packets also come in the other one's name, and the host's to both.
#[test_log::test]
fn packets_of_another_session_change_nothing() {
    play(PathPolicy::Automatic, |letter, seen| {
        let other = seen.iter().rfind(|other| other.by_host == letter.by_host && other.client != letter.client);
        other.map(|way| letter.redirected(way)).into_iter().chain([letter.clone()]).collect()
    });
}

#[test_log::test]
fn without_the_third_message_the_game_is_not_asked() {
    let owned =
        Owned::start(|letter, _| if letter.by_host || letter.is_hello() { vec![letter.clone()] } else { vec![] });
    let mut host = owned.host(UhstHost::new("game").admission(Admission::Ask));
    let mut client = network().join_with(UhstClient::from(invitation(&host, &owned)).metadata(SECRET));
    until(&mut [&mut host, &mut client], |apps| !ended(apps[1]).is_empty());
    assert_eq!(ended(&client), [EndReason::TimedOut]);
    assert!(!TestLog::of(&host).has(|event| matches!(event, TestEvent::JoinRequest(_) | TestEvent::Connected(_))));
    owned.has_read_nothing();
}

/// The relay answers in the host's name: its owner runs a host of the same id. What the client tells by then is in the
/// last column.
#[test_log::test]
fn who_answers_in_the_hosts_name_is_found_out() {
    let key: KeyHash = PublicKey::from_bytes([7; 32]).hash();
    for (by_link, password, guess, expected) in [
        (true, None, None, EndReason::WrongHostKey),
        (true, Some(SECRET), None, EndReason::WrongHostKey),
        (false, Some(SECRET), None, EndReason::WrongPassword),
        (false, Some(SECRET), Some("a guess"), EndReason::WrongPassword),
    ] {
        let owned = Owned::start(|letter, _| vec![letter.clone()]);
        let impostor = UhstHost::new("game").admission(Admission::Ask);
        let mut impostor = owned.host(match guess {
            Some(guess) => impostor.password(guess),
            None => impostor,
        });
        let link = invitation(&impostor, &owned).with_key(by_link.then_some(key));
        let client = UhstClient::from(link).metadata(SECRET);
        let client = password.into_iter().fold(client, |client, password| client.password(password));
        let mut client = network().join_with(client);
        until(&mut [&mut impostor, &mut client], |apps| !ended(apps[1]).is_empty());
        assert_eq!(ended(&client), [expected], "{by_link} {password:?} {guess:?}");
        assert!(!TestLog::of(&impostor).has(|event| matches!(event, TestEvent::JoinRequest(_))));
        let proofs = owned.seen().iter().filter(|letter| !letter.by_host && !letter.is_hello()).count();
        assert!(!by_link || proofs <= 1, "a reason at most: {proofs}");
        owned.has_read_nothing();
    }
}

/// The owner joins as a stranger, and sends all that a client has ever sent in its own name, while that client is here and
/// while it is away.
#[test_log::test]
fn nobody_takes_a_place_with_what_the_relay_has_kept() {
    let owned = Owned::start(|letter, _| vec![letter.clone()]);
    let mut host = owned.host(UhstHost::new("game").paths(PathPolicy::RelayOnly));
    let link = invitation(&host, &owned);
    let mut client = network().join_with(UhstClient::from(link).paths(PathPolicy::RelayOnly).metadata(SECRET));
    until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| connected(app) == 1));
    let stranger = Original::join(owned.relay.address(), "game");
    let sends_all_again = || {
        let seen = owned.seen();
        let mut letters = seen.iter().filter(|letter| !letter.by_host);
        letters.all(|letter| stranger.send_json(&stranger.token, std::str::from_utf8(&letter.body).unwrap()) == 200)
    };
    for cut in 0..3 {
        assert!(sends_all_again());
        let resumptions = |app: &App| TestLog::of(app).count(|event| matches!(event, TestEvent::Resumed(_)));
        let before = resumptions(&client);
        // The host is back before the client can say anything.
        owned.proxy.hold(Side::Client, &[Way::Up], PATIENCE);
        owned.proxy.cut_all();
        until(&mut [&mut host, &mut client], |_| sends_all_again());
        assert_eq!(resumptions(&client), before);
        owned.proxy.set(Mode::Honest);
        until(&mut [&mut host, &mut client], |apps| resumptions(apps[1]) > before);
        let text = format!("after cut {cut}");
        for app in [&mut host, &mut client] {
            let peer = the_peer(app);
            app.world().get::<UhstPeer>(peer).unwrap().send(text.as_str()).unwrap();
        }
        until(&mut [&mut host, &mut client], |apps| {
            apps.iter().all(|app| TestLog::of(app).texts().contains(&text.as_str()))
        });
    }
    assert_eq!((connected(&host), disconnected(&host)), (1, vec![]));
    // The stranger was answered, if at all, by challenges and by words that nobody knows it.
    while let Some(heard) = stranger.next_within(std::time::Duration::ZERO) {
        if let Heard::Message { body, .. } = heard {
            assert!(!body.to_string().contains(SECRET));
        }
    }
    owned.has_read_nothing();
}

/// The same while the game thinks about the client, which loses its stream, too.
#[test_log::test]
fn nobody_spoils_a_join_with_what_the_relay_has_kept() {
    for loses_its_stream in [false, true] {
        let owned = Owned::start(|letter, _| vec![letter.clone()]);
        let mut host = owned.host(UhstHost::new("game").paths(PathPolicy::RelayOnly).admission(Admission::Ask));
        let link = invitation(&host, &owned);
        let mut client = network().join_with(UhstClient::from(link).paths(PathPolicy::RelayOnly).metadata(SECRET));
        let request = |app: &App| {
            TestLog::of(app).0.iter().find_map(|event| match event {
                TestEvent::JoinRequest(request) => Some(request.clone()),
                _ => None,
            })
        };
        until(&mut [&mut host, &mut client], |apps| request(apps[0]).is_some());
        let strangers = [(); 3].map(|()| Original::join(owned.relay.address(), "game"));
        let of_client = || owned.seen().into_iter().filter(|letter| !letter.by_host).collect::<Vec<_>>();
        if loses_its_stream {
            let first = of_client().remove(0).client;
            owned.proxy.cut_all();
            until(&mut [&mut host, &mut client], |_| of_client().iter().any(|letter| letter.client != first));
        }
        let copies = of_client();
        for stranger in strangers {
            for letter in &copies {
                let copy = std::str::from_utf8(&letter.body).unwrap();
                // The host may be on its way back.
                until(&mut [&mut host, &mut client], |_| stranger.send_json(&stranger.token, copy) == 200);
            }
            stranger.close();
        }
        // The client says once more that it waits.
        let before = of_client().len();
        until(&mut [&mut host, &mut client], |_| of_client().len() > before);
        request(&host).unwrap().accept();
        until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| connected(app) == 1));
        for app in [&mut host, &mut client] {
            let peer = the_peer(app);
            app.world().get::<UhstPeer>(peer).unwrap().send("hello").unwrap();
        }
        until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| TestLog::of(app).texts() == ["hello"]));
        assert_eq!((disconnected(&host), ended(&client)), (vec![], vec![]));
        owned.has_read_nothing();
    }
}
