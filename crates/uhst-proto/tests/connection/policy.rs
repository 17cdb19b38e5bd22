//! Path policies of the two sides, and their effect on a connection.

use std::time::Duration;

use bytes::Bytes;
use uhst_proto::connection::{
    Connection, ConnectionConfig, ConnectionEvent, Interruption, Lane, Path, Received, Timestamp,
};
use uhst_proto::protocol::{Channel, EndReason, PathPolicy, Tag};

use crate::{START, joining::credentials, network::carries_a_message};

fn unconnected(client: PathPolicy, host: PathPolicy) -> (Connection, Connection) {
    let config = ConnectionConfig::default();
    let credentials = credentials(None);
    let mut of_client = Connection::connect(config.clone(), &credentials, "Ada".into(), [1; 32], START).unwrap();
    of_client = of_client.with_paths(client);
    of_client.path_up(Path::Relay, START);
    let of_host = Connection::accept(config, &credentials, "Arena".into(), [2; 32], START).unwrap();
    (of_client, of_host.with_paths(host))
}

/// Delivers all packets. Returns their number, and how many with messages crossed the relay.
fn carry(from: &mut Connection, to: &mut Connection, now: Timestamp) -> (usize, usize) {
    let (mut packets, mut on_the_relay) = (0, 0);
    for lane in Lane::ALL {
        while let Some(packet) = from.poll_transmit(lane, 16 << 10, now) {
            packets += 1;
            on_the_relay += usize::from(lane == Lane::Relay && carries_a_message(to, lane, &packet));
            to.receive(lane, packet, now);
        }
    }
    (packets, on_the_relay)
}

/// Delivers all packets in both directions. Returns how many with messages crossed the relay.
fn exchange(client: &mut Connection, host: &mut Connection, now: Timestamp) -> usize {
    let mut on_the_relay = 0;
    loop {
        let (there, back) = (carry(client, host, now), carry(host, client, now));
        on_the_relay += there.1 + back.1;
        if there.0 + back.0 == 0 {
            return on_the_relay;
        }
    }
}

fn events(of: &mut Connection) -> Vec<ConnectionEvent> {
    std::iter::from_fn(|| of.poll_event()).collect()
}

fn direct_up(client: &mut Connection, host: &mut Connection, now: Timestamp) -> usize {
    client.path_up(Path::Direct, now);
    host.path_up(Path::Direct, now);
    exchange(client, host, now)
}

fn introduced(client: PathPolicy, host: PathPolicy) -> (Connection, Connection) {
    let (mut client, mut host) = unconnected(client, host);
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut host), [ConnectionEvent::JoinRequest { metadata: "Ada".into() }]);
    host.admit(START);
    exchange(&mut client, &mut host, START);
    (client, host)
}

/// Advances the clock on both sides until `until`.
fn wait(client: &mut Connection, host: &mut Connection, now: &mut Timestamp, until: Timestamp) {
    exchange(client, host, *now);
    while *now < until {
        let next = [client.next_timeout(), host.next_timeout(), Some(until)].into_iter().flatten().min().unwrap();
        *now = next.min(until).max(*now);
        client.handle_timeout(*now);
        host.handle_timeout(*now);
        exchange(client, host, *now);
    }
}

#[test]
fn one_direct_only_side_suffices_and_connects_once_a_direct_path_is_up() {
    use PathPolicy::{Automatic, DirectOnly};
    for (of_client, of_host) in [(DirectOnly, DirectOnly), (DirectOnly, Automatic), (Automatic, DirectOnly)] {
        let (mut client, mut host) = introduced(of_client, of_host);
        assert_eq!((events(&mut client), events(&mut host)), (vec![], vec![]));
        assert!(client.wants_direct() && host.wants_direct());
        client.send_signal(Bytes::from_static(b"offer")).unwrap();
        client.send(Channel::Reliable, "waits".into()).unwrap();
        assert_eq!(exchange(&mut client, &mut host, START), 0);
        assert_eq!(events(&mut host), [ConnectionEvent::Signal(Bytes::from_static(b"offer"))]);
        assert_eq!(direct_up(&mut client, &mut host, START), 0);
        let path = ConnectionEvent::PathChanged(Path::Direct);
        assert_eq!(events(&mut client), [ConnectionEvent::Connected { metadata: "Arena".into() }, path.clone()]);
        let message = ConnectionEvent::Message(Received {
            channel: Channel::Reliable,
            tag: Tag::Untyped,
            payload: "waits".into(),
        });
        assert_eq!(events(&mut host), [ConnectionEvent::Connected { metadata: "Ada".into() }, path, message]);
    }
}

#[test]
fn conflicting_policies_are_refused_before_the_join_request() {
    use PathPolicy::{DirectOnly, RelayOnly};
    for (of_client, of_host) in [(RelayOnly, DirectOnly), (DirectOnly, RelayOnly)] {
        let (mut client, mut host) = unconnected(of_client, of_host);
        exchange(&mut client, &mut host, START);
        host.handle_timeout(START + Duration::from_secs(3));
        for side in [&mut client, &mut host] {
            let events = events(side);
            assert!(matches!(events[..], [ConnectionEvent::Closed(EndReason::NoDirectPath(_))]), "{events:?}");
        }
    }
}

#[test]
fn a_relay_only_side_keeps_the_other_from_looking_for_a_direct_path() {
    let (client, host) = introduced(PathPolicy::Automatic, PathPolicy::RelayOnly);
    assert!(!client.wants_direct() && !host.wants_direct());
}

#[test]
fn without_a_first_direct_path_both_sides_end_in_time() {
    let (mut client, mut host) = introduced(PathPolicy::DirectOnly, PathPolicy::Automatic);
    let mut now = START;
    wait(&mut client, &mut host, &mut now, START + Duration::from_millis(14_900));
    assert_eq!((events(&mut client), events(&mut host)), (vec![], vec![]));
    wait(&mut client, &mut host, &mut now, START + Duration::from_millis(15_100));
    for side in [&mut client, &mut host] {
        let events = events(side);
        assert!(matches!(events[..], [ConnectionEvent::Closed(EndReason::NoDirectPath(_))]), "{events:?}");
    }
}

#[test]
fn messages_wait_for_the_direct_path_and_the_connection_ends_without_one() {
    let (mut client, mut host) = introduced(PathPolicy::DirectOnly, PathPolicy::DirectOnly);
    direct_up(&mut client, &mut host, START);
    let mut now = START;
    for away in [Duration::from_secs(29), Duration::from_secs(31)] {
        events(&mut client);
        events(&mut host);
        client.path_down(Path::Direct, now);
        host.path_down(Path::Direct, now);
        client.send(Channel::Reliable, "late".into()).unwrap();
        client.send(Channel::Unreliable, "too late".into()).unwrap();
        let until = now + away;
        wait(&mut client, &mut host, &mut now, until);
        if away < Duration::from_secs(30) {
            let lost = vec![ConnectionEvent::Interrupted(Interruption::NoPath)];
            assert_eq!((events(&mut client), events(&mut host)), (lost.clone(), lost));
            assert_eq!(direct_up(&mut client, &mut host, now), 0);
            let message = ConnectionEvent::Message(Received {
                channel: Channel::Reliable,
                tag: Tag::Untyped,
                payload: "late".into(),
            });
            assert_eq!(events(&mut client), [ConnectionEvent::Resumed]);
            assert_eq!(events(&mut host), [ConnectionEvent::Resumed, message]);
        } else {
            for side in [&mut client, &mut host] {
                let events = events(side);
                let [ConnectionEvent::Interrupted(Interruption::NoPath), ConnectionEvent::Closed(reason)] = &events[..]
                else {
                    panic!("{events:?}")
                };
                assert!(matches!(reason, EndReason::NoDirectPath(_)), "{reason}");
            }
        }
    }
}

#[test]
fn a_message_over_the_relay_violates_a_direct_only_policy() {
    let (mut client, mut host) = introduced(PathPolicy::DirectOnly, PathPolicy::DirectOnly);
    direct_up(&mut client, &mut host, START);
    events(&mut host);
    client.send(Channel::Reliable, "the wrong way".into()).unwrap();
    let packet = client.poll_transmit(Lane::DirectReliable, 16 << 10, START).unwrap();
    assert!(carries_a_message(&host, Lane::DirectReliable, &packet));
    let sealed = host.seal_as_peer(&packet).unwrap();
    host.receive(Lane::Relay, sealed, START);
    host.handle_timeout(START + Duration::from_secs(3));
    let events = events(&mut host);
    assert!(matches!(events[..], [ConnectionEvent::Closed(EndReason::ProtocolError(_))]), "{events:?}");
}

#[test]
fn a_suspect_path_is_used_again_once_a_packet_arrives() {
    let (mut client, mut host) = introduced(PathPolicy::Automatic, PathPolicy::Automatic);
    direct_up(&mut client, &mut host, START);
    events(&mut client);
    client.suspect(Path::Direct, START);
    assert_eq!(events(&mut client), [ConnectionEvent::PathChanged(Path::Relay)]);
    client.send(Channel::Reliable, "over the relay".into()).unwrap();
    assert_eq!(exchange(&mut client, &mut host, START), 1);
    host.send(Channel::Reliable, "over the direct path".into()).unwrap();
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client)[0], ConnectionEvent::PathChanged(Path::Direct));
}
