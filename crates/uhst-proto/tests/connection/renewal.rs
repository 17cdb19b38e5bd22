//! Keys of packets are renewed while a connection lives: each seals 65,536 packets.

use bytes::Bytes;
use uhst_proto::connection::{Connection, ConnectionEvent, Lane, Path};
use uhst_proto::protocol::{Channel, EndReason};

use crate::{
    START,
    pair::{bytes, events, exchange, pair},
    small,
};

const KEY: u64 = 1 << 16;

fn send(from: &mut Connection, to: &mut Connection, channel: Channel) {
    from.send(channel, bytes(3)).unwrap();
    exchange(from, to, START);
    let arrived = events(to);
    assert!(matches!(&arrived[..], [ConnectionEvent::Message(_)]), "{arrived:?}");
    to.consumed(3 + uhst_proto::connection::MESSAGE_OVERHEAD);
}

/// Sends messages, each in a packet of its own, until this side has sent so many packets.
fn send_until(from: &mut Connection, to: &mut Connection, packets: u64) {
    while from.stats().packets_sent < packets {
        send(from, to, Channel::Reliable);
    }
}

fn nothing_was_lost(sides: [&Connection; 2]) {
    for side in sides {
        let stats = side.stats();
        assert!(side.is_open());
        assert_eq!((stats.packets_forged, stats.packets_replayed), (0, 0));
    }
}

#[test]
fn messages_cross_the_relay_under_one_key_after_the_other() {
    let (mut client, mut host) = pair(small());
    send_until(&mut client, &mut host, 3 * KEY + 10);
    send_until(&mut host, &mut client, 3 * KEY + 10);
    nothing_was_lost([&client, &host]);
}

/// While the direct path carries all, the relay sees few packets. It takes over at once when that path fails, however much
/// has crossed it.
#[test]
fn the_relay_takes_over_after_a_million_packets_on_the_direct_path() {
    let (mut client, mut host) = pair(small());
    for channel in [Channel::Unreliable, Channel::Reliable] {
        for side in [&mut client, &mut host] {
            side.path_up(Path::Direct, START);
        }
        exchange(&mut client, &mut host, START);
        assert_eq!(client.stats().path, Some(Path::Direct));
        events(&mut client);
        events(&mut host);
        let before = client.stats().packets_sent;
        while client.stats().packets_sent < before + 18 * KEY {
            send(&mut client, &mut host, channel);
        }
        for side in [&mut client, &mut host] {
            side.path_down(Path::Direct, START);
        }
        exchange(&mut client, &mut host, START);
        events(&mut client);
        events(&mut host);
        assert_eq!(client.stats().path, Some(Path::Relay));
        send(&mut client, &mut host, Channel::Reliable);
        send(&mut host, &mut client, Channel::Reliable);
    }
    nothing_was_lost([&client, &host]);
}

/// Packets of a key that is gone are copies: the numbers of the last packets are remembered.
#[test]
fn what_was_recorded_before_is_a_replay_after() {
    let (mut client, mut host) = pair(small());
    client.send(Channel::Reliable, bytes(3)).unwrap();
    let recorded = client.poll_transmit(Lane::Relay, 16 << 10, START).unwrap();
    host.receive(Lane::Relay, recorded.clone(), START);
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut host).len(), 1);
    host.consumed(3 + uhst_proto::connection::MESSAGE_OVERHEAD);
    assert!(host.peek(&recorded).is_some(), "its key is still there");
    send_until(&mut client, &mut host, 2 * KEY);
    assert!(host.peek(&recorded).is_none(), "its key is gone");
    host.receive(Lane::Relay, recorded, START);
    assert_eq!(events(&mut host), []);
    assert_eq!((host.stats().packets_replayed, host.stats().packets_forged), (1, 0));
}

#[test]
fn a_client_that_comes_back_and_one_that_is_gone_need_no_key_of_the_beginning() {
    let (mut client, mut host) = pair(small());
    send_until(&mut client, &mut host, KEY + 5);
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    let mut sent: Option<Bytes> = client.poll_transmit(Lane::Relay, 16 << 10, START);
    for _ in 0..2 {
        if let Err(uhst_proto::connection::ResumeError::Challenge(challenge)) = host.resume(sent.take().unwrap(), START)
        {
            client.receive(Lane::Relay, challenge, START);
            sent = client.poll_transmit(Lane::Relay, 16 << 10, START);
        }
    }
    exchange(&mut client, &mut host, START);
    events(&mut client);
    events(&mut host);
    send_until(&mut client, &mut host, 2 * KEY + 5);
    host.close_now(EndReason::Kicked("late".into()));
    client.send(Channel::Reliable, bytes(3)).unwrap();
    let late = client.poll_transmit(Lane::Relay, 16 << 10, START).unwrap();
    client.receive(Lane::Relay, host.tombstone().unwrap().answer(&late).unwrap(), START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Kicked("late".into()))]);
}
