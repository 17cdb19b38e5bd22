//! Resource limits against the peer.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use uhst_proto::connection::{
    Connection, ConnectionConfig, ConnectionEvent, EnqueueError, Lane, MESSAGE_OVERHEAD, Path, Received,
};
use uhst_proto::protocol::{
    Channel, EndReason, Tag,
    frame::{Close, Data, FRAGMENT, Frame, Frames, PacketWriter, Stream},
};

use crate::{
    START, cases,
    pair::{bytes, events, exchange, pair},
    small,
};

#[test]
fn unreliable_messages_share_a_datagram_and_no_more() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    for connection in [&mut client, &mut host] {
        connection.path_up(Path::Direct, START);
    }
    exchange(&mut client, &mut host, START);
    for size in [100, 500, 400, 300, 5000, 200] {
        client.send(Channel::Unreliable, bytes(size)).unwrap();
    }
    let packets: Vec<_> =
        std::iter::from_fn(|| client.poll_transmit(Lane::DirectUnreliable, 16 << 10, START)).collect();
    let payloads = |packet: &Bytes| -> Vec<usize> {
        let payload = |frame| match frame {
            Ok(Frame::Data(data)) => Some(data.payload.len()),
            _ => None,
        };
        Frames::new(packet).unwrap().filter_map(payload).collect()
    };
    assert_eq!(
        packets.iter().map(payloads).collect::<Vec<_>>(),
        [vec![100, 500, 400], vec![300], vec![1104], vec![1104], vec![1104], vec![1104], vec![584, 200]]
    );
    assert!(packets.iter().all(|packet| packet.len() <= 1100 || payloads(packet).len() == 1));
}

#[test]
fn send_errors_name_the_size_and_the_limit() {
    let (mut client, _) = pair(small());
    let limit = small().max_message;
    for channel in Channel::ALL {
        let result = client.send(channel, bytes(limit + 1));
        assert_eq!(result, Err(EnqueueError::MessageTooLarge { size: limit + 1, limit }));
    }
    client.send(Channel::Reliable, bytes(limit)).unwrap();
    client.send(Channel::ReliableUnordered, bytes(limit)).unwrap();
    let Err(EnqueueError::QueueFull { size, queued, .. }) = client.send(Channel::Reliable, bytes(limit)) else {
        panic!()
    };
    assert!(size == limit && queued > 2 * limit);
    let error = client.send(Channel::Reliable, bytes(limit)).unwrap_err().to_string();
    assert!(error.contains("send less"), "{error}");
}

#[test]
fn the_smaller_limit_of_both_sides_counts() {
    let large = ConnectionConfig { max_message: 1 << 20, ..Default::default() };
    let (mut client, mut host) = Connection::pair(large, small(), START);
    assert!(matches!(client.send(Channel::Reliable, bytes(1 << 20)), Err(EnqueueError::MessageTooLarge { .. })));
    assert!(matches!(host.send(Channel::Reliable, bytes(1 << 20)), Err(EnqueueError::MessageTooLarge { .. })));
}

#[test]
fn a_game_that_does_not_read_slows_its_peer_down_and_nothing_is_lost() {
    let (mut client, mut host) = pair(small());
    let (mut sent, mut received, mut now) = (0, 0, START);
    while sent < 200 {
        while sent < 200 && client.send(Channel::Reliable, bytes(5000)).is_ok() {
            sent += 1;
        }
        now += Duration::from_millis(60);
        client.handle_timeout(now);
        host.handle_timeout(now);
        exchange(&mut client, &mut host, now);
        assert!(host.stats().unconsumed <= small().receive_buffer);
        for event in events(&mut host) {
            assert!(matches!(event, ConnectionEvent::Message(_)), "{event:?}");
            received += 1;
            host.consumed(5000 + MESSAGE_OVERHEAD);
        }
    }
    for _ in 0..20 {
        now += Duration::from_millis(60);
        client.handle_timeout(now);
        host.handle_timeout(now);
        exchange(&mut client, &mut host, now);
        for _ in events(&mut host) {
            received += 1;
            host.consumed(5000 + MESSAGE_OVERHEAD);
        }
    }
    assert_eq!((received, client.stats().queued), (200, 0));
}

#[test]
fn two_partial_messages_never_deadlock() {
    let (mut client, mut host) = pair(small());
    let max = small().max_message;
    client.send(Channel::Reliable, bytes(max)).unwrap();
    client.send(Channel::ReliableUnordered, bytes(max)).unwrap();
    let (mut now, mut received) = (START, 0);
    for _ in 0..100 {
        now += Duration::from_millis(100);
        client.handle_timeout(now);
        host.handle_timeout(now);
        exchange(&mut client, &mut host, now);
        for event in events(&mut host) {
            assert!(matches!(event, ConnectionEvent::Message(_)));
            host.consumed(max + MESSAGE_OVERHEAD);
            received += 1;
        }
    }
    assert_eq!(received, 2);
}

#[test]
fn unreliable_messages_are_dropped_without_a_reader_or_a_path() {
    let (mut client, mut host) = pair(small());
    for _ in 0..1000 {
        client.send(Channel::Unreliable, bytes(1000)).unwrap();
        assert!(client.stats().queued < 300 << 10);
    }
    exchange(&mut client, &mut host, START);
    assert!(host.stats().unconsumed <= small().receive_buffer);
    let dropped = client.stats().unreliable_dropped + host.stats().unreliable_dropped;
    assert_eq!(dropped + events(&mut host).len() as u64, 1000);
    client.path_down(Path::Relay, START);
    client.send(Channel::Unreliable, bytes(1000)).unwrap();
    assert_eq!(client.stats().queued, 0);
}

fn forged(number: u64, write: impl FnOnce(&mut PacketWriter)) -> Bytes {
    let mut writer = PacketWriter::new(number, 64 << 10, 0);
    write(&mut writer);
    writer.finish().unwrap()
}

fn fragment(channel: Channel, number: u64, [first, last, text]: [bool; 3], payload: Bytes) -> Data {
    Data { stream: Stream::Channel(channel), number, first, last, text, tag: Tag::Untyped, payload }
}

/// Returns the reason with which a correct host ends on this packet.
fn verdict(packet: Bytes) -> Option<EndReason> {
    let (client, mut host) = pair(small());
    let sealed = host.seal_as_peer(&packet).unwrap();
    host.receive(Lane::Relay, sealed, START);
    let reported = host.poll_transmit(Lane::Relay, 16 << 10, START)?;
    let reported = client.peek(&reported).unwrap();
    let reported = Frames::new(&reported).unwrap().find_map(|frame| match frame.unwrap() {
        Frame::Close(Close { reason, .. }) => Some(reason),
        _ => None,
    })?;
    host.handle_timeout(START + Duration::from_secs(1));
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(reported.clone())]);
    Some(reported)
}

#[test]
fn a_violation_closes_the_connection_with_a_reason() {
    let reliable = Channel::Reliable;
    let full = Bytes::from(vec![0; FRAGMENT]);
    let too_much = [
        forged(1, |writer| {
            writer.data(&fragment(reliable, 1 << 40, [true, true, false], Bytes::new()));
        }),
        forged(1, |writer| {
            for number in 0..4 {
                writer.data(&fragment(reliable, number, [number == 0, false, false], full.clone()));
            }
        }),
    ];
    for packet in too_much {
        assert_eq!(verdict(packet), Some(EndReason::TooMuchData));
    }
    let nonsense = [
        forged(1, |writer| {
            writer.ack(0, [99, 0], [(0, &[]), (0, &[]), (0, &[])]);
        }),
        forged(1, |writer| {
            writer.ack(0, [0, 0], [(7, &[]), (0, &[]), (0, &[])]);
        }),
        forged(1, |writer| {
            writer.data(&fragment(reliable, 0, [true, true, true], Bytes::from_static(&[0xFF])));
        }),
        forged(1, |writer| {
            writer.data(&fragment(reliable, 0, [true, false, false], Bytes::from_static(b"tiny")));
        }),
        forged(1, |writer| {
            writer.data(&fragment(reliable, 0, [false, true, false], Bytes::from_static(b"no first")));
        }),
        Bytes::from_static(&[1, 0x7F]),
        // A tag with an invalid number.
        Bytes::from_static(&[1, 0x8B, 0, 0, 0]),
    ];
    for packet in nonsense {
        assert!(matches!(verdict(packet), Some(EndReason::ProtocolError(_))));
    }
    assert_eq!(verdict(forged(1, |writer| assert!(writer.pong(77)))), None);
}

#[test]
fn a_grant_that_is_exceeded_ends_the_connection() {
    let (_, mut host) = pair(small());
    let payload = Bytes::from(vec![0; 10_000]);
    for number in 0..9 {
        let packet = forged(number + 1, |writer| {
            writer.data(&fragment(Channel::ReliableUnordered, number, [true, true, false], payload.clone()));
        });
        let sealed = host.seal_as_peer(&packet).unwrap();
        host.receive(Lane::Relay, sealed, START);
    }
    host.handle_timeout(START + Duration::from_secs(3));
    assert_eq!(events(&mut host).pop(), Some(ConnectionEvent::Closed(EndReason::TooMuchData)));
}

#[test]
fn a_small_message_does_not_hold_a_large_packet() {
    let (_, mut host) = pair(small());
    let packet = forged(1, |writer| {
        writer.data(&fragment(Channel::Reliable, 0, [true, true, false], Bytes::from_static(b"small")));
        while writer.pong(1) {}
    });
    let sealed = host.seal_as_peer(&packet).unwrap();
    // Where it is opened, and stays.
    let place = sealed.as_ptr_range();
    host.receive(Lane::Relay, sealed, START);
    let Some(ConnectionEvent::Message(Received { payload, .. })) = host.poll_event() else { panic!() };
    assert!(!place.contains(&payload.as_bytes().as_ptr()));
}

/// Packets that are almost valid.
fn packet() -> impl Strategy<Value = Bytes> {
    let data = (0_u8..5, prop_oneof![0_u64..40, any::<u32>().prop_map(u64::from)], any::<[bool; 3]>(), 0_usize..3000);
    let frame = prop_oneof![
        6 => data.prop_map(|(stream, number, flags, size)| {
            let payload = Bytes::from(vec![b'a'; size]);
            let channel = Channel::ALL[usize::from(stream) % 4];
            let mut data = fragment(channel, number, flags, payload);
            if stream == 4 {
                data.stream = Stream::Signal;
            }
            forged(1, |writer| assert!(writer.data(&data))).slice(1..)
        }),
        1 => (any::<u32>(), any::<[u8; 2]>(), any::<[u8; 3]>()).prop_map(|(grant, lanes, next)| {
            let next = next.map(u64::from);
            let states: [(u64, &[(u64, u64)]); 3] = [(next[0], &[]), (next[1], &[]), (next[2], &[])];
            forged(1, |writer| assert!(writer.ack(grant.into(), lanes.map(u64::from), states))).slice(1..)
        }),
        1 => any::<u32>().prop_map(|token| forged(1, |writer| assert!(writer.ping(token.into()))).slice(1..)),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
    ];
    (0_u8..60, prop::collection::vec(frame, 0..6)).prop_map(|(number, frames)| {
        let mut packet = vec![number];
        frames.iter().for_each(|frame| packet.extend_from_slice(frame));
        packet.into()
    })
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn no_packets_do_harm(
        packets in prop::collection::vec((packet(), 0_usize..3, 0_u16..300), 1..40),
        host: bool,
        reading: bool,
    ) {
        let (client, other) = pair(small());
        let mut victim = if host { other } else { client };
        let (mut now, mut ends) = (START, 0);
        for channel in Channel::ALL {
            victim.send(channel, bytes(2000)).unwrap();
        }
        for (packet, lane, time) in packets {
            let sealed = victim.seal_as_peer(&packet).filter(|_| Lane::ALL[lane] == Lane::Relay);
            victim.receive(Lane::ALL[lane], sealed.unwrap_or_else(|| packet.clone()), now);
            victim.receive(Lane::Relay, packet.clone(), now);
            let _ = victim.resume(packet, now);
            for lane in Lane::ALL {
                while let Some(packet) = victim.poll_transmit(lane, 16 << 10, now) {
                    prop_assert!(packet.len() <= 16 << 10);
                }
            }
            prop_assert!(victim.stats().unconsumed <= 2 * small().receive_buffer);
            now += Duration::from_millis(time.into());
            victim.handle_timeout(now);
            prop_assert!(victim.next_timeout().is_none_or(|next| next > now));
            while reading && let Some(event) = victim.poll_event() {
                prop_assert_eq!(ends, 0);
                ends += usize::from(matches!(event, ConnectionEvent::Closed(_)));
                if let ConnectionEvent::Message(Received { payload, .. }) = event {
                    victim.consumed(payload.len() + MESSAGE_OVERHEAD);
                }
            }
        }
        victim.abort(EndReason::Left);
        ends += events(&mut victim).iter().filter(|event| matches!(event, ConnectionEvent::Closed(_))).count();
        prop_assert_eq!(ends, 1);
    }
}

#[test]
fn unreliable_messages_of_any_size_go_in_single_datagrams_on_the_direct_path() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    for side in [&mut client, &mut host] {
        side.path_up(Path::Direct, START);
    }
    exchange(&mut client, &mut host, START);
    events(&mut host);
    for size in [0, 1000, 1159, 1160, 1161, 100_000, 16 << 20] {
        client.send(Channel::Unreliable, bytes(size)).unwrap();
        while let Some(packet) = client.poll_transmit(Lane::DirectUnreliable, 16 << 10, START) {
            assert!(packet.len() <= 1160, "{} bytes in a packet", packet.len());
            host.receive(Lane::DirectUnreliable, packet, START);
        }
        let payload = bytes(size);
        let message = ConnectionEvent::Message(Received { channel: Channel::Unreliable, tag: Tag::Untyped, payload });
        assert!(events(&mut host) == [message], "{size} bytes");
    }
}
