//! Joining: admissions and refusals.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use uhst_proto::connection::{
    Connection, ConnectionConfig, ConnectionEvent, Credentials, EnqueueError, Lane, Path, StaticKey, Timestamp,
};
use uhst_proto::protocol::{
    Channel, EndReason, GameId,
    frame::{self, HandshakeKind},
};

use crate::{
    START, cases,
    network::{Conditions, Network, Step},
    pair::{alone, events},
};

pub fn credentials(password: Option<&str>) -> Credentials {
    Credentials {
        host_id: "483920".into(),
        password: password.map(Into::into),
        game: GameId::default(),
        key: StaticKey::from_bytes([5; 32]),
        host_key: None,
    }
}

pub fn unconnected(client: Option<&str>, host: Option<&str>) -> (Connection, Connection) {
    let config = ConnectionConfig::default();
    let mut client = Connection::connect(config.clone(), &credentials(client), "Ada".into(), [1; 32], START).unwrap();
    client.path_up(Path::Relay, START);
    let host = Connection::accept(config, &credentials(host), "Arena".into(), [2; 32], START).unwrap();
    (client, host)
}

/// A client and a host with these limits, whose relay path is up.
pub fn unconnected_with(config: &ConnectionConfig) -> (Connection, Connection) {
    let credentials = credentials(Some("swordfish"));
    let mut client = Connection::connect(config.clone(), &credentials, "Ada".into(), [1; 32], START).unwrap();
    client.path_up(Path::Relay, START);
    (client, Connection::accept(config.clone(), &credentials, "Arena".into(), [2; 32], START).unwrap())
}

pub fn packets(from: &mut Connection, now: Timestamp) -> Vec<Bytes> {
    std::iter::from_fn(|| from.poll_transmit(Lane::Relay, 64 << 10, now)).collect()
}

pub fn carry(from: &mut Connection, to: &mut Connection, now: Timestamp) {
    packets(from, now).into_iter().for_each(|packet| to.receive(Lane::Relay, packet, now));
}

pub fn exchange(client: &mut Connection, host: &mut Connection, now: Timestamp) {
    for _ in 0..4 {
        carry(client, host, now);
        carry(host, client, now);
    }
}

pub fn connected() -> (Connection, Connection) {
    let (mut client, mut host) = unconnected(Some("swordfish"), Some("swordfish"));
    exchange(&mut client, &mut host, START);
    host.admit(START);
    exchange(&mut client, &mut host, START);
    events(&mut client);
    events(&mut host);
    (client, host)
}

#[test]
fn the_right_password_leads_to_a_join_request_and_then_opens() {
    let (mut client, mut host) = unconnected(Some("swordfish"), Some("swordfish"));
    assert_eq!(client.send(Channel::Reliable, "early".into()), Err(EnqueueError::NotConnected));
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut host), [ConnectionEvent::JoinRequest { metadata: "Ada".into() }]);
    assert_eq!(events(&mut client), []);
    host.admit(START);
    host.admit(START);
    assert_eq!(events(&mut host), [ConnectionEvent::Connected { metadata: "Ada".into() }]);
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Connected { metadata: "Arena".into() }]);
    assert!(client.id().is_some());
    assert_eq!(client.id(), host.id());
}

#[test]
fn every_wrong_password_is_refused_on_both_sides_once() {
    for (of_client, of_host) in [(Some("a"), Some("b")), (None, Some("b")), (Some("a"), None)] {
        let (mut client, mut host) = unconnected(of_client, of_host);
        exchange(&mut client, &mut host, START);
        assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::WrongPassword)]);
        host.handle_timeout(START + Duration::from_secs(3));
        assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::WrongPassword)]);
    }
    let (mut client, mut host) = unconnected(None, Some(""));
    exchange(&mut client, &mut host, START);
    assert!(matches!(events(&mut host)[..], [ConnectionEvent::JoinRequest { .. }]));
}

/// The client gives up after the challenge, and after the proof was accepted.
#[test]
fn a_joiner_that_gives_up_notifies_the_host() {
    for asks in [false, true] {
        let (mut client, mut host) = unconnected(Some("swordfish"), Some("swordfish"));
        carry(&mut client, &mut host, START);
        carry(&mut host, &mut client, START);
        if asks {
            carry(&mut client, &mut host, START);
        }
        assert_eq!(events(&mut host).len(), usize::from(asks));
        client.close(EndReason::Left, START);
        exchange(&mut client, &mut host, START);
        assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Left)]);
        assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Left)]);
        host.admit(START);
        assert_eq!((events(&mut host), packets(&mut client, START)), (vec![], vec![]));
    }
    // Without an answer, the client sends no close: an original host would read it as text.
    let (mut client, _) = unconnected(None, None);
    assert_eq!(packets(&mut client, START).len(), 1);
    client.close(EndReason::Left, START);
    assert_eq!(packets(&mut client, START).len(), 0);
}

#[test]
fn a_password_is_for_one_host_id() {
    let (mut client, _) = unconnected(Some("swordfish"), None);
    let elsewhere = Credentials { host_id: "other".into(), ..credentials(Some("swordfish")) };
    let mut host = Connection::accept(ConnectionConfig::default(), &elsewhere, Bytes::new(), [2; 32], START).unwrap();
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::WrongPassword)]);
}

#[test]
fn a_game_may_take_its_time_and_then_refuse() {
    let (mut client, mut host) = unconnected(None, None);
    let mut now = START;
    for _ in 0..600 {
        now += Duration::from_millis(100);
        client.handle_timeout(now);
        host.handle_timeout(now);
        exchange(&mut client, &mut host, now);
    }
    assert_eq!(events(&mut client), []);
    // Heartbeats at a modest rate.
    assert!(host.stats().packets_received < 120, "{:?}", host.stats());
    host.refuse(EndReason::Refused("level 10 only".into()), now);
    exchange(&mut client, &mut host, now);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Refused("level 10 only".into()))]);
}

#[test]
fn a_host_that_leaves_waits_until_its_refusal_is_sent_but_no_longer() {
    let (mut client, mut host) = unconnected(None, None);
    exchange(&mut client, &mut host, START);
    host.refuse(EndReason::Refused("level 10 only".into()), START);
    host.close(EndReason::EndedLocally, START);
    host.handle_timeout(START);
    assert!(!host.is_closed(), "the refusal has not been sent");
    exchange(&mut client, &mut host, START);
    assert!(host.next_timeout().is_some_and(|at| at <= START));
    host.handle_timeout(START);
    assert!(host.is_closed());
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Refused("level 10 only".into()))]);

    // Without a path the refusal cannot be sent.
    let (mut client, mut host) = unconnected(None, None);
    exchange(&mut client, &mut host, START);
    host.path_down(Path::Relay, START);
    host.close(EndReason::EndedLocally, START);
    let end = host.next_timeout().expect("the refusal has a deadline");
    assert!(end <= START + Duration::from_secs(2), "{end:?}");
    host.handle_timeout(end);
    assert!(host.is_closed());
}

#[test]
fn a_joiner_that_leaves_while_the_game_decides_is_noticed() {
    let (mut client, mut host) = unconnected(None, None);
    exchange(&mut client, &mut host, START);
    events(&mut host);
    host.handle_timeout(START + Duration::from_secs(6));
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::TimedOut)]);
}

#[test]
fn a_full_host_refuses_without_any_state() {
    let (mut client, _) = unconnected(None, None);
    let hello = packets(&mut client, START).remove(0);
    assert_eq!(HandshakeKind::peek(&hello), HandshakeKind::Hello);
    client.receive(Lane::Relay, frame::refusal(&EndReason::Full), START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Full)]);
}

#[test]
fn a_refusal_cannot_end_an_open_connection() {
    let (mut client, _) = connected();
    client.receive(Lane::Relay, frame::refusal(&EndReason::Full), START);
    assert_eq!(events(&mut client), []);
}

#[test]
fn a_host_that_cannot_prove_the_password_opens_nothing() {
    let (mut client, mut host) = unconnected(Some("swordfish"), Some("swordfish"));
    exchange(&mut client, &mut host, START);
    host.admit(START);
    let mut welcome = packets(&mut host, START).remove(0).to_vec();
    *welcome.last_mut().unwrap() ^= 1;
    client.receive(Lane::Relay, welcome.into(), START);
    assert_eq!((events(&mut client), client.is_open()), (vec![], false));
    let ends = alone(&mut client, START, START + Duration::from_secs(60));
    assert!(matches!(&ends[..], [(_, ConnectionEvent::Closed(EndReason::TimedOut))]), "{ends:?}");
}

#[test]
fn a_relay_gets_no_second_guess_at_the_password() {
    let (mut client, mut host) = unconnected(Some("swordfish"), Some("a guess"));
    carry(&mut client, &mut host, START);
    carry(&mut host, &mut client, START);
    assert_eq!(packets(&mut client, START).len(), 1, "the proof that tests the first guess");
    // The relay cuts the stream, so that the client sends its hello again, and answers as another host.
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    let config = ConnectionConfig::default();
    let mut other =
        Connection::accept(config, &credentials(Some("another guess")), "Arena".into(), [3; 32], START).unwrap();
    carry(&mut client, &mut other, START);
    carry(&mut other, &mut client, START);
    let events = events(&mut client);
    assert!(
        matches!(&events[..], [ConnectionEvent::Closed(EndReason::ProtocolError(words))] if words.contains("join again")),
        "{events:?}"
    );
    assert_eq!(packets(&mut client, START), [] as [Bytes; 0]);
}

#[test]
fn a_stream_cut_while_joining_costs_no_attempt() {
    let (mut client, mut host) = unconnected(Some("swordfish"), Some("swordfish"));
    carry(&mut client, &mut host, START);
    carry(&mut host, &mut client, START);
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    exchange(&mut client, &mut host, START);
    host.admit(START);
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Connected { metadata: "Arena".into() }]);
}

#[test]
fn a_host_of_another_version_is_named() {
    let (mut client, mut host) = unconnected(None, None);
    let mut hello = packets(&mut client, START).remove(0).to_vec();
    hello[2] = 9;
    host.receive(Lane::Relay, hello.into(), START);
    carry(&mut host, &mut client, START);
    let [ConnectionEvent::Closed(EndReason::ProtocolError(words))] = &events(&mut client)[..] else { panic!() };
    assert!(words.contains("version 9"), "{words}");
}

/// Returns the events of a joiner whose game differs from the host's.
fn refused(joiner: &GameId, host: &GameId) -> Vec<ConnectionEvent> {
    let config = ConnectionConfig::default();
    let with = |game: &GameId| Credentials { game: game.clone(), ..credentials(None) };
    let mut client = Connection::connect(config.clone(), &with(joiner), Bytes::new(), [1; 32], START).unwrap();
    client.path_up(Path::Relay, START);
    let mut host = Connection::accept(config, &with(host), Bytes::new(), [2; 32], START).unwrap();
    exchange(&mut client, &mut host, START);
    host.admit(START);
    exchange(&mut client, &mut host, START);
    let reported = events(&mut client);
    if let [ConnectionEvent::Closed(_)] = &reported[..] {
        host.handle_timeout(START + Duration::from_secs(3));
        assert_eq!(events(&mut host), reported);
    }
    reported
}

#[test]
fn a_joiner_with_another_game_is_refused_with_a_reason() {
    let plays = |version, messages: &[&'static str]| GameId::new(version, messages.iter().copied());
    let game = plays(Some("3"), &["Chat", "Move"]);
    assert!(matches!(refused(&game, &game)[..], [ConnectionEvent::Connected { .. }]));
    for (joiner, words) in [
        (plays(Some("2"), &["Chat", "Move"]), "the host has “3”, the joiner has “2”"),
        (plays(None, &["Chat", "Move"]), "the host has “3”, the joiner has none"),
        (GameId::default(), "the host has “3”, the joiner has none"),
        (plays(Some("3"), &["Chat"]), "registered are not the same: the host alone has `Move`"),
        (plays(Some("3"), &["ChatM", "ove"]), "the host alone has `Chat`, `Move`; the joiner alone has `ChatM`, `ove`"),
    ] {
        let reported = refused(&joiner, &game);
        let [ConnectionEvent::Closed(EndReason::GameMismatch(why))] = &reported[..] else { panic!("{reported:?}") };
        assert!(why.contains(words), "{why}");
    }
    let reported = refused(&game, &GameId::default());
    assert!(matches!(reported[..], [ConnectionEvent::Closed(EndReason::GameMismatch(_))]), "{reported:?}");
}

#[test]
fn a_host_that_never_answers_times_out() {
    let (mut client, _) = unconnected(None, None);
    let mut sent = packets(&mut client, START).len();
    while let Some(next) = client.next_timeout() {
        client.handle_timeout(next);
        sent += packets(&mut client, next).len();
        assert!(next <= START + Duration::from_secs(5));
    }
    assert!((5..9).contains(&sent), "{sent}");
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::TimedOut)]);
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn every_handshake_completes_over_a_bad_network(
        loss in 0_u8..50,
        double in 0_u8..60,
        jitter in 0_u16..400,
        delay in 0_u16..200,
        thought in 0_u16..8000,
        reroute: bool,
        seed: u64,
    ) {
        let config = ConnectionConfig::default();
        let (mut client, host) = unconnected(Some("swordfish"), Some("swordfish"));
        client.path_up(Path::Relay, START);
        let mut network = Network::new(&config, client, host, seed, START);
        network.step(&Step::Conditions(Conditions { loss, double, jitter, delay, ..Default::default() }));
        let asked = |network: &Network| network.sides[1].asked;
        for _ in 0..100 {
            network.run(Duration::from_millis(100));
            if asked(&network) {
                break;
            }
        }
        prop_assert!(asked(&network));
        network.run(Duration::from_millis(thought.into()));
        let now = network.now;
        network.sides[1].connection.admit(now);
        network.step(&Step::Send { client: false, channel: 0, size: 20, count: 3 });
        for _ in 0..100 {
            network.run(Duration::from_millis(100));
            if network.sides[0].connected {
                break;
            }
        }
        prop_assert!(network.sides[0].connected && network.sides[1].connected);
        if reroute {
            network.step(&Step::Reroute);
        }
        network.step(&Step::Send { client: true, channel: 0, size: 20, count: 3 });
        network.settle();
    }
}
