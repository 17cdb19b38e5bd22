//! A malicious relay. It reads, changes, keeps, repeats and invents packets, and answers in the host's name. For each
//! attack: what each side reports, and that nothing of the game crossed.

#[path = "sealing/handshake.rs"]
mod handshake;

use std::time::Duration;

use bytes::Bytes;
use uhst_proto::connection::{
    Connection, ConnectionConfig, ConnectionEvent, Credentials, Lane, Path, Received, ResumeError, Security, StaticKey,
};
use uhst_proto::protocol::{
    Channel, EndReason, KeyHash, Tag,
    frame::{self, HandshakeKind},
};

use crate::{
    START,
    joining::{carry, credentials, exchange, packets},
    pair::{alone, events},
};

/// What the game says, in the metadata of both sides, in messages, signals and reasons.
const SECRETS: [&str; 5] = ["Ada-metadata", "Arena-metadata", "a-message", "a=fingerprint:sha-256", "a-reason"];

fn key(byte: u8) -> StaticKey {
    StaticKey::from_bytes([byte; 32])
}

/// A client with this password that pins this key. Another seed makes another client.
fn client(seed: u8, password: Option<&str>, host_key: Option<KeyHash>) -> Connection {
    let credentials = Credentials { key: key(10 + seed), host_key, ..credentials(password) };
    let metadata = SECRETS[0].into();
    let config = ConnectionConfig::default();
    let mut client = Connection::connect(config, &credentials, metadata, [seed; 32], START).unwrap();
    client.path_up(Path::Relay, START);
    client
}

/// A host's connection for one client, with the key of this number.
fn host(seed: u8, password: Option<&str>, number: u8) -> Connection {
    let credentials = Credentials { key: key(number), ..credentials(password) };
    Connection::accept(ConnectionConfig::default(), &credentials, SECRETS[1].into(), [100 + seed; 32], START).unwrap()
}

/// The key of the honest host.
const HOST: u8 = 1;

fn pinned() -> Option<KeyHash> {
    Some(key(HOST).public().hash())
}

/// Carries all packets, and returns them.
fn tap(from: &mut Connection, to: &mut Connection) -> Vec<Bytes> {
    let sent = packets(from, START);
    sent.iter().for_each(|packet| to.receive(Lane::Relay, packet.clone(), START));
    sent
}

/// The packets of a whole life: joining, a message and a signal in both directions, and a goodbye with a reason.
struct Life {
    client: Connection,
    host: Connection,
    up: Vec<Bytes>,
    down: Vec<Bytes>,
}

impl Life {
    fn of(seed: u8, password: Option<&str>) -> Self {
        let mut life = Self::joined(seed, password);
        for side in [&mut life.client, &mut life.host] {
            side.send(Channel::Reliable, SECRETS[2].into()).unwrap();
            side.send_signal(SECRETS[3].into()).unwrap();
        }
        life.exchange();
        life
    }

    fn joined(seed: u8, password: Option<&str>) -> Self {
        let mut life = Self {
            client: client(seed, password, pinned()),
            host: host(seed, password, HOST),
            up: Vec::new(),
            down: Vec::new(),
        };
        life.exchange();
        life.host.admit(START);
        life.exchange();
        assert!(life.client.is_open() && life.host.is_open());
        events(&mut life.client);
        events(&mut life.host);
        life
    }

    fn exchange(&mut self) {
        for _ in 0..4 {
            self.up.extend(tap(&mut self.client, &mut self.host));
            self.down.extend(tap(&mut self.host, &mut self.client));
        }
    }
}

fn ended(side: &mut Connection) -> Option<EndReason> {
    match &events(side)[..] {
        [] => None,
        [ConnectionEvent::Closed(reason)] => Some(reason.clone()),
        others => panic!("{others:?}"),
    }
}

fn message(text: &str) -> ConnectionEvent {
    ConnectionEvent::Message(Received { channel: Channel::Reliable, tag: Tag::Untyped, payload: text.into() })
}

#[test]
fn nothing_of_the_game_is_readable_on_the_relay() {
    for password in [None, Some("swordfish")] {
        let mut life = Life::of(1, password);
        for side in [&mut life.client, &mut life.host] {
            let arrived = events(side);
            assert!(arrived.contains(&message(SECRETS[2])), "{arrived:?}");
            assert!(arrived.contains(&ConnectionEvent::Signal(SECRETS[3].into())), "{arrived:?}");
        }
        life.host.close(EndReason::Kicked(SECRETS[4].into()), START);
        life.exchange();
        // A refusal, and a client that gives up.
        for refuses in [false, true] {
            let (mut client, mut host) = (client(2, password, None), host(2, password, HOST));
            life.up.extend(tap(&mut client, &mut host));
            life.down.extend(tap(&mut host, &mut client));
            life.up.extend(tap(&mut client, &mut host));
            if refuses {
                host.refuse(EndReason::Refused(SECRETS[4].into()), START);
                life.down.extend(tap(&mut host, &mut client));
                assert_eq!(ended(&mut client), Some(EndReason::Refused(SECRETS[4].into())));
            } else {
                client.close(EndReason::Refused(SECRETS[4].into()), START);
                life.up.extend(tap(&mut client, &mut host));
                assert_eq!(
                    events(&mut host).pop(),
                    Some(ConnectionEvent::Closed(EndReason::Refused(SECRETS[4].into())))
                );
            }
        }
        for packet in life.up.iter().chain(&life.down) {
            for secret in SECRETS.iter().copied().chain(password) {
                assert!(
                    !packet.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()),
                    "{secret} in {packet:?}"
                );
            }
        }
    }
}

#[test]
fn both_sides_know_each_other_and_what_protects_them() {
    for (password, host_key, of_client, of_host) in [
        (None, None, Security::Sealed, Security::Sealed),
        (Some(""), None, Security::Sealed, Security::Sealed),
        (None, pinned(), Security::Authenticated, Security::Sealed),
        (Some("swordfish"), None, Security::Authenticated, Security::Authenticated),
        (Some("swordfish"), pinned(), Security::Authenticated, Security::Authenticated),
    ] {
        let (mut client, mut host) = (client(1, password, host_key), host(1, password, HOST));
        exchange(&mut client, &mut host, START);
        assert!(matches!(events(&mut host)[..], [ConnectionEvent::JoinRequest { .. }]));
        assert_eq!((client.security(), host.security()), (of_client, of_host));
        assert_eq!(host.peer_key(), Some(key(11).public()), "with the join request");
        assert_eq!(client.peer_key(), Some(key(HOST).public()));
    }
}

/// Delivers each packet with every byte changed, expects that nothing happens, and then delivers it as it is.
fn changed_then(sent: &[Bytes], to: &mut Connection) {
    assert_eq!(sent.len(), 1);
    for byte in 0..sent[0].len() {
        for bit in [1, 0x80] {
            let mut changed = sent[0].to_vec();
            changed[byte] ^= bit;
            to.receive(Lane::Relay, changed.into(), START);
            assert_eq!(events(to), [], "byte {byte}");
        }
    }
    to.receive(Lane::Relay, sent[0].clone(), START);
}

/// The same handshake again, to both sides and to a new host, changes nothing.
#[test]
fn a_replay_of_everything_changes_nothing() {
    let mut life = Life::of(1, None);
    events(&mut life.client);
    events(&mut life.host);
    let (up, down) = (life.up.clone(), life.down.clone());
    for packet in &up {
        life.host.receive(Lane::Relay, packet.clone(), START);
        life.client.receive(Lane::Relay, packet.clone(), START);
    }
    for packet in &down {
        life.client.receive(Lane::Relay, packet.clone(), START);
        life.host.receive(Lane::Relay, packet.clone(), START);
    }
    assert_eq!((events(&mut life.client), events(&mut life.host)), (vec![], vec![]));
    for side in [&life.client, &life.host] {
        assert!(side.is_open());
        assert!(side.stats().packets_replayed > 0, "{:?}", side.stats());
    }
    // The client's whole part, to a host of the same session that knows nothing of it.
    let mut host = host(7, None, HOST);
    for packet in &up {
        host.receive(Lane::Relay, packet.clone(), START);
        packets(&mut host, START);
    }
    assert_eq!(events(&mut host), []);
    // The host's whole part, to the same player that joins again.
    let mut client = client(8, None, pinned());
    packets(&mut client, START);
    for packet in &down {
        client.receive(Lane::Relay, packet.clone(), START);
        assert_eq!(packets(&mut client, START), [] as [Bytes; 0]);
    }
    assert_eq!(events(&mut client), []);
}

/// A peer that is gone cannot be kept alive by its old packets.
#[test]
fn replayed_heartbeats_keep_nobody_alive() {
    let mut life = Life::of(1, None);
    events(&mut life.host);
    let old = life.up.clone();
    let mut now = START;
    let mut reported = Vec::new();
    while now < START + Duration::from_secs(50) {
        now += Duration::from_millis(500);
        old.iter().for_each(|packet| life.host.receive(Lane::Relay, packet.clone(), now));
        life.host.handle_timeout(now);
        packets(&mut life.host, now);
        reported.extend(events(&mut life.host));
    }
    assert_eq!(reported.pop(), Some(ConnectionEvent::Closed(EndReason::TimedOut)));
}

/// What comes back to its sender is not taken for the other side's.
#[test]
fn reflected_packets_change_nothing() {
    let (mut client, mut host) = (client(1, None, None), host(1, None, HOST));
    for _ in 0..4 {
        for packet in packets(&mut client, START) {
            client.receive(Lane::Relay, packet.clone(), START);
            host.receive(Lane::Relay, packet, START);
        }
        for packet in packets(&mut host, START) {
            host.receive(Lane::Relay, packet.clone(), START);
            client.receive(Lane::Relay, packet, START);
        }
        host.admit(START);
    }
    assert!(client.is_open() && host.is_open());
    events(&mut client);
    events(&mut host);
    client.send(Channel::Reliable, "up".into()).unwrap();
    for packet in packets(&mut client, START) {
        client.receive(Lane::Relay, packet, START);
    }
    assert_eq!(events(&mut client), []);
}

/// Two sessions over one relay, which gives each the packets of the other.
#[test]
fn packets_of_another_session_change_nothing() {
    let (mut one, mut two) = (Life::of(1, None), Life::of(2, None));
    for side in [&mut one.client, &mut one.host, &mut two.client, &mut two.host] {
        events(side);
    }
    one.client.send(Channel::Reliable, "one".into()).unwrap();
    two.host.send(Channel::Reliable, "two".into()).unwrap();
    two.up.extend(packets(&mut one.client, START));
    one.down.extend(packets(&mut two.host, START));
    let (up, down) = (two.up.clone(), one.down.clone());
    up.iter().for_each(|packet| two.host.receive(Lane::Relay, packet.clone(), START));
    down.iter().for_each(|packet| one.client.receive(Lane::Relay, packet.clone(), START));
    for side in [&mut one.client, &mut two.host] {
        assert_eq!(events(side), []);
        assert!(side.is_open());
    }
    // In the middle of the handshake, too.
    let (mut a, mut host_a) = (client(3, None, pinned()), host(3, None, HOST));
    let (mut b, mut host_b) = (client(4, None, pinned()), host(4, None, HOST));
    tap(&mut a, &mut host_a);
    tap(&mut b, &mut host_b);
    let (for_a, for_b) = (packets(&mut host_a, START), packets(&mut host_b, START));
    for_b.into_iter().for_each(|packet| a.receive(Lane::Relay, packet, START));
    assert_eq!((events(&mut a), packets(&mut a, START)), (vec![], vec![]));
    for_a.into_iter().for_each(|packet| a.receive(Lane::Relay, packet, START));
    tap(&mut a, &mut host_b);
    assert_eq!(events(&mut host_b), []);
}

/// Packets of the open connection: changed, cut, and as they are; among them messages, signals and the goodbye.
#[test]
fn changed_packets_are_ignored_and_counted() {
    let mut life = Life::joined(1, None);
    life.client.send(Channel::Reliable, "hello".into()).unwrap();
    life.client.send_signal("a=fingerprint:sha-256".into()).unwrap();
    changed_then(&packets(&mut life.client, START), &mut life.host);
    let arrived = events(&mut life.host);
    assert!(arrived.contains(&message("hello")), "{arrived:?}");
    assert!(arrived.contains(&ConnectionEvent::Signal("a=fingerprint:sha-256".into())), "{arrived:?}");
    assert!(life.host.stats().packets_forged > 50);
    life.host.close(EndReason::Kicked("a-reason".into()), START);
    changed_then(&packets(&mut life.host, START), &mut life.client);
    assert_eq!(events(&mut life.client), [ConnectionEvent::Closed(EndReason::Kicked("a-reason".into()))]);
}

/// A packet that is not sealed, such as one of the direct path, does not count on the relay.
#[test]
fn a_packet_that_is_not_sealed_does_not_count() {
    let mut life = Life::joined(1, None);
    let mut writer = frame::PacketWriter::new(1000, 1000, 0);
    writer.close(&frame::Close { ends: [0; 3], reason: EndReason::Kicked("forged".into()) });
    let forged = writer.finish().unwrap();
    life.client.receive(Lane::Relay, forged.clone(), START);
    life.host.receive(Lane::Relay, forged, START);
    assert_eq!((events(&mut life.client), events(&mut life.host)), (vec![], vec![]));
    assert!(life.client.is_open() && life.host.is_open());
}

/// An old resumption, and one of another session.
#[test]
fn a_resumption_that_is_not_of_now_and_here_is_refused() {
    let (mut one, mut two) = (Life::joined(1, None), Life::joined(2, None));
    let ask = |life: &mut Life| {
        life.client.path_down(Path::Relay, START);
        life.client.path_up(Path::Relay, START);
        packets(&mut life.client, START).remove(0)
    };
    let (first, other) = (ask(&mut one), ask(&mut two));
    assert!(matches!(HandshakeKind::peek(&first), HandshakeKind::Resume(_)));
    assert_eq!(one.host.resume(other, START), Err(ResumeError::Malformed));
    let Err(ResumeError::Challenge(challenge)) = one.host.resume(first.clone(), START) else { panic!() };
    two.client.receive(Lane::Relay, challenge.clone(), START);
    assert_eq!(packets(&mut two.client, START), [] as [Bytes; 0], "the challenge is of another session");
    one.client.receive(Lane::Relay, challenge, START);
    let second = packets(&mut one.client, START).remove(0);
    assert_eq!(one.host.resume(second.clone(), START), Ok(()));
    one.exchange();
    one.client.send(Channel::Reliable, "back".into()).unwrap();
    one.exchange();
    assert_eq!(one.host.resume(first, START), Err(ResumeError::Replayed));
    assert_eq!(one.host.resume(second, START), Err(ResumeError::Replayed));
}

/// What is left of a connection answers whatever comes under the id of its client, who alone can open the answer.
#[test]
fn only_the_client_of_an_ended_connection_learns_how_it_ended() {
    let (mut one, mut two) = (Life::joined(1, None), Life::joined(2, None));
    one.host.close_now(EndReason::Kicked("a-reason".into()));
    let tombstone = one.host.tombstone().unwrap();
    let say = |life: &mut Life| {
        life.client.send(Channel::Reliable, "late".into()).unwrap();
        packets(&mut life.client, START).remove(0)
    };
    let (ours, others) = (say(&mut one), say(&mut two));
    let gone = tombstone.answer(&ours).unwrap();
    assert_eq!(tombstone.answer(&others), Some(gone.clone()));
    assert!(!gone.windows(8).any(|bytes| bytes == b"a-reason"));
    two.client.receive(Lane::Relay, gone.clone(), START);
    assert_eq!(events(&mut two.client), []);
    one.client.receive(Lane::Relay, gone, START);
    assert_eq!(ended(&mut one.client), Some(EndReason::Kicked("a-reason".into())));
}
