//! What protects a session, as the game sees it: by link, by code, with a password, and with originals.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod original;
mod support;

use bevy::prelude::*;
use bevy_uhst::{
    KeyHash, PublicKey,
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, link},
};
use original::{Heard, Original};
use support::{StandaloneRelay, address, connected, ended, the_peer, until};

/// What the game knows of the one peer of an app.
fn seen(app: &mut App) -> (UhstSecurity, Option<PublicKey>) {
    let peer = the_peer(app);
    let peer = app.world().get::<UhstPeer>(peer).unwrap();
    (peer.security(), peer.identity())
}

/// Updates both until they are connected, and returns what each sees.
fn both_see(mut host: App, mut client: App) -> [(UhstSecurity, Option<PublicKey>); 2] {
    until(&mut [&mut host, &mut client], |apps| apps.iter().all(|app| connected(app) == 1));
    [seen(&mut host), seen(&mut client)]
}

#[test_log::test]
fn a_link_or_a_password_authenticates_and_a_code_seals() {
    use UhstSecurity::{Authenticated, Sealed};
    for network in [TestNetwork::memory(), TestNetwork::loopback()] {
        for (by_link, password, of_host, of_client) in [
            (true, None, Sealed, Authenticated),
            (false, None, Sealed, Sealed),
            (false, Some("swordfish"), Authenticated, Authenticated),
            (true, Some("swordfish"), Authenticated, Authenticated),
        ] {
            let spoken = |host: UhstHost| match password {
                Some(password) => host.password(password),
                None => host,
            };
            let host = network.host_with(spoken(UhstHost::new("game")));
            let whole = link(&host);
            let target = if by_link { whole.clone() } else { whole.clone().with_key(None) };
            let client = UhstClient::from(target);
            let client = match password {
                Some(password) => client.password(password),
                None => client,
            };
            let [(to_host, client_key), (to_client, host_key)] = both_see(host, network.join_with(client));
            assert_eq!((to_host, to_client), (of_host, of_client), "by link: {by_link}, {password:?}");
            assert_eq!(host_key.map(|key| key.hash()), whole.key(), "the link has the key of the host");
            assert!(client_key.is_some() && client_key != host_key);
        }
    }
}

#[test_log::test]
fn a_request_to_join_names_the_key_that_the_peer_has_later() {
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("game").admission(Admission::Ask));
    let mut client = network.join(&host);
    let asked = |event: &TestEvent| match event {
        TestEvent::JoinRequest(request) => Some(request.clone()),
        _ => None,
    };
    until(&mut [&mut host, &mut client], |apps| TestLog::of(apps[0]).0.iter().any(|event| asked(event).is_some()));
    let request = TestLog::of(&host).0.iter().find_map(asked).unwrap();
    request.accept();
    let [(_, key), _] = both_see(host, client);
    assert_eq!(request.identity, key);
    assert!(key.is_some());
}

/// As it is seen where a relay answers in the host's name, or a link is of an earlier session.
#[test_log::test]
fn a_host_with_another_key_than_the_link_is_not_joined() {
    let network = TestNetwork::loopback();
    let other: KeyHash = PublicKey::from_bytes([7; 32]).hash();
    for password in [None, Some("swordfish")] {
        let mut host = match password {
            Some(password) => network.host_with(UhstHost::new("game").password(password)),
            None => network.host("game"),
        };
        let client = UhstClient::from(link(&host).with_key(other)).metadata("Ada");
        let client = password.into_iter().fold(client, |client, password| client.password(password));
        let mut client = network.join_with(client);
        until(&mut [&mut host, &mut client], |apps| !ended(apps[1]).is_empty());
        assert_eq!(ended(&client), [EndReason::WrongHostKey]);
        assert_eq!((connected(&host), connected(&client)), (0, 0));
        assert!(EndReason::WrongHostKey.to_string().contains("new link"));
    }
}

/// Whether the relay says what the host is, or not: the plain dialect is no way around the key.
#[test_log::test]
fn a_link_with_a_key_never_leads_to_an_original() {
    let relay = StandaloneRelay::start();
    let key = PublicKey::from_bytes([7; 32]).hash();
    let network = TestNetwork::loopback();
    for known in [false, true] {
        let id = format!("original-{known}");
        let host = Original::host(relay.address(), &id);
        assert_eq!(host.next(), Heard::Open);
        if known {
            // Once it has answered somebody, the relay tells of it.
            let guest = Original::join(relay.address(), &id);
            assert_eq!(guest.send(&guest.token, "hello"), 200);
            let (token, _) = host.next_text();
            assert_eq!(host.send(&token.unwrap(), "an answer"), 200);
            guest.next_text();
        }
        let link: JoinLink = format!("http://{}/#{id}~{key}", relay.address()).parse().unwrap();
        let mut client = network.join_with(UhstClient::from(link).metadata("Ada"));
        if !known {
            until(&mut [&mut client], |_| true);
            let (token, text) = next_text_while(&mut client, &host);
            assert_eq!(text, "", "a sealed hello, which is an empty text to an original");
            assert_eq!(host.send(&token, "welcome"), 200);
        }
        until(&mut [&mut client], |apps| !ended(apps[0]).is_empty());
        assert_eq!((ended(&client), connected(&client)), (vec![EndReason::WrongHostKey], 0));
    }
}

/// The first text that an original hears, while the other side is updated.
fn next_text_while(client: &mut App, host: &Original) -> (String, String) {
    let mut heard = None;
    until(&mut [client], |_| {
        if let Some(Heard::Message { response_token, body }) = host.next_within(std::time::Duration::ZERO) {
            heard = response_token.zip(body["payload"].as_str().map(str::to_owned));
        }
        heard.is_some()
    });
    heard.unwrap()
}

#[test_log::test]
fn an_original_is_plain() {
    let mut host = TestNetwork::loopback().host("game");
    let client = Original::join(&address(&host), "game");
    assert_eq!(client.send(&client.token, "hello"), 200);
    until(&mut [&mut host], |apps| connected(apps[0]) == 1);
    assert_eq!(seen(&mut host), (UhstSecurity::Plain, None));
}

#[test_log::test]
fn a_player_at_the_hosts_machine_has_nobody_in_between() {
    let mut app = TestNetwork::memory().host("game");
    let host = app.world_mut().query_filtered::<Entity, With<UhstHost>>().single(app.world()).unwrap();
    app.world_mut().spawn(LocalClientOf(host));
    until(&mut [&mut app], |apps| connected(apps[0]) == 2);
    let peers: Vec<_> = app.world_mut().query::<&UhstPeer>().iter(app.world()).map(UhstPeer::security).collect();
    assert_eq!(peers, [UhstSecurity::Authenticated; 2]);
}

/// An original that waits for the game is on its way in, as a native joiner is.
#[test_log::test]
fn an_original_that_waits_is_turned_away_by_a_new_lock_or_password() {
    let lock = |host: &mut UhstHost| host.set_locked(true);
    let password = |host: &mut UhstHost| host.set_password(Some("swordfish"));
    for (change, words) in [(lock as fn(&mut UhstHost), "nobody new"), (password, "cannot prove a password")] {
        let relay = StandaloneRelay::start();
        let own = Relay::Url(format!("http://{}/", relay.address()));
        let hosted = UhstHost::new("game").relay(own).admission(Admission::Ask);
        let mut host = TestNetwork::loopback().host_with(hosted);
        let original = Original::join(relay.address(), "game");
        assert_eq!(original.send(&original.token, "hello"), 200);
        let asked = |event: &TestEvent| match event {
            TestEvent::JoinRequest(request) => Some(request.clone()),
            _ => None,
        };
        until(&mut [&mut host], |apps| TestLog::of(apps[0]).0.iter().any(|event| asked(event).is_some()));
        let request = TestLog::of(&host).0.iter().find_map(asked).unwrap();
        let mut hosts = host.world_mut().query::<&mut UhstHost>();
        change(&mut hosts.single_mut(host.world_mut()).unwrap());
        let abandoned = |event: &TestEvent| match event {
            TestEvent::JoinAbandoned(event) => Some((event.join, event.reason.clone())),
            _ => None,
        };
        until(&mut [&mut host], |apps| TestLog::of(apps[0]).has(|event| abandoned(event).is_some()));
        request.accept();
        let (join, reason) = TestLog::of(&host).0.iter().find_map(abandoned).unwrap();
        assert_eq!(join, request.join);
        assert!(matches!(&reason, EndReason::Refused(why) if why.contains(words)), "{reason}");
        // The answer comes too late for one that has come in meanwhile to be seen.
        let mut native = TestNetwork::loopback().join_with(UhstClient::from(link(&host)));
        until(&mut [&mut host, &mut native], |apps| !ended(apps[1]).is_empty());
        assert_eq!(connected(&host), 0);
    }
}
