//! Resource limits against the peer, and the end of connections.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use uhst_proto::connection::{
    Connection, ConnectionConfig, ConnectionEvent, EnqueueError, Interruption, Lane, MESSAGE_OVERHEAD, Path,
    ResumeError, Timestamp,
};
use uhst_proto::protocol::{
    Channel, EndReason, Payload, Tag,
    frame::{Close, Data, FRAGMENT, Frame, Frames, PacketWriter, Stream},
};

use crate::{START, cases, small};

fn pair(config: ConnectionConfig) -> (Connection, Connection) {
    Connection::pair(config.clone(), config, START)
}

fn carry(from: &mut Connection, to: &mut Connection, now: Timestamp) -> usize {
    let mut count = 0;
    for lane in Lane::ALL {
        while let Some(packet) = from.poll_transmit(lane, 16 << 10, now) {
            to.receive(lane, packet, now);
            count += 1;
        }
    }
    count
}

fn exchange(a: &mut Connection, b: &mut Connection, now: Timestamp) {
    while carry(a, b, now) + carry(b, a, now) > 0 {}
}

fn events(of: &mut Connection) -> Vec<ConnectionEvent> {
    std::iter::from_fn(|| of.poll_event()).collect()
}

fn bytes(size: usize) -> Payload {
    Payload::Binary(Bytes::from(vec![7; size]))
}

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
            assert!(matches!(event, ConnectionEvent::Message { .. }), "{event:?}");
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
            assert!(matches!(event, ConnectionEvent::Message { .. }));
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
    let (_, mut host) = pair(small());
    host.receive(Lane::Relay, packet, START);
    let reported = host.poll_transmit(Lane::Relay, 16 << 10, START)?;
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
        host.receive(
            Lane::Relay,
            forged(number + 1, |writer| {
                writer.data(&fragment(Channel::ReliableUnordered, number, [true, true, false], payload.clone()));
            }),
            START,
        );
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
    host.receive(Lane::Relay, packet.clone(), START);
    let Some(ConnectionEvent::Message { payload, .. }) = host.poll_event() else { panic!() };
    assert!(!packet.as_ptr_range().contains(&payload.as_bytes().as_ptr()));
}

#[test]
fn a_close_is_reported_once_after_everything_sent_before() {
    let (mut client, mut host) = pair(small());
    for number in 0..10_u8 {
        client.send(Channel::Reliable, bytes(number.into())).unwrap();
    }
    client.close(EndReason::Left, START);
    client.close(EndReason::Full, START);
    assert_eq!(client.send(Channel::Reliable, "late".into()), Err(EnqueueError::Closed));
    exchange(&mut client, &mut host, START);
    let events_of_host = events(&mut host);
    assert_eq!(events_of_host.len(), 11);
    assert_eq!(events_of_host.last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Left)]);
    for side in [&mut client, &mut host] {
        side.close(EndReason::Left, START);
        side.abort(EndReason::Left);
        assert_eq!((events(side), side.next_timeout(), side.is_closed()), (vec![], None, true));
    }
}

#[test]
fn an_unconfirmed_close_still_ends() {
    for (drain, has_path, bytes) in [(60, true, 0), (60, false, 0), (2, true, 0), (2, true, 99), (2, false, 99)] {
        let (mut client, _) = pair(ConnectionConfig { drain_timeout: Duration::from_secs(drain), ..small() });
        if !has_path {
            client.path_down(Path::Relay, START);
        }
        if bytes > 0 {
            client.send(Channel::Reliable, Bytes::from(vec![0; bytes]).into()).unwrap();
        }
        client.close(EndReason::Left, START);
        let mut now = START;
        while let Some(next) = client.next_timeout() {
            assert!(next > now);
            now = next;
            client.handle_timeout(now);
            while client.poll_transmit(Lane::Relay, 16 << 10, now).is_some() {}
        }
        // A close after a cut is repeated for two seconds.
        let last_word = if has_path && bytes > 0 { 2 } else { 0 };
        assert!(now <= START + Duration::from_secs(drain + last_word), "{drain} {has_path} {bytes}: {now:?}");
        let events = events(&mut client);
        assert_eq!(events.last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
        let cut = |event: &&ConnectionEvent| matches!(event, ConnectionEvent::Cut { bytes } if *bytes > 0);
        assert_eq!(events.iter().filter(cut).count(), usize::from(bytes > 0), "{events:?}");
    }
}

/// A link of two packets of 16 KiB a second, and a receiver that reads half a second late.
#[test]
fn a_drain_lasts_as_long_as_it_advances() {
    let (mut client, mut host) = pair(small());
    let mut sent = 0;
    while client.send(Channel::Reliable, bytes(20_000)).is_ok() {
        sent += 1;
    }
    client.close(EndReason::Left, START);
    let (mut now, mut received, mut unread) = (START, 0, VecDeque::new());
    while !host.is_closed() {
        now += Duration::from_millis(500);
        assert!(now < START + Duration::from_secs(30), "{received} of {sent}");
        client.handle_timeout(now);
        host.handle_timeout(now);
        // Slow links take one packet at a time.
        if let Some(packet) = client.poll_transmit(Lane::Relay, 16 << 10, now) {
            host.receive(Lane::Relay, packet, now);
        }
        carry(&mut host, &mut client, now);
        for event in events(&mut host) {
            if let ConnectionEvent::Message { payload, .. } = event {
                received += 1;
                unread.push_back((now + Duration::from_millis(500), payload.len() + MESSAGE_OVERHEAD));
            }
        }
        while let Some((_, cost)) = unread.pop_front_if(|(at, _)| *at <= now) {
            host.consumed(cost);
        }
    }
    carry(&mut host, &mut client, now);
    assert_eq!(received, sent);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Left)]);
}

/// A host with a full send buffer leaves over a relay that takes 500 kB/s of base64. The client keeps receiving, and
/// never counts the host as silent.
#[test]
fn a_full_send_buffer_drains_over_a_slow_relay() {
    const RATE: u64 = 500_000 * 3 / 4;
    let (mut client, mut host) = pair(ConnectionConfig::default());
    let mut sent = 0;
    while host.send(Channel::Reliable, bytes(1 << 20)).is_ok() {
        sent += 1;
    }
    assert!(sent >= 20);
    host.close(EndReason::Left, START);
    let (mut now, mut last, mut received, mut ended) = (START, START, 0, None);
    while ended.is_none() {
        let packet = host.poll_transmit(Lane::Relay, 48 << 10, now);
        let takes = packet
            .as_ref()
            .map_or(Duration::from_millis(100), |packet| Duration::from_micros(packet.len() as u64 * 1_000_000 / RATE));
        now += takes;
        if let Some(packet) = packet {
            client.receive(Lane::Relay, packet, now);
        }
        client.handle_timeout(now);
        host.handle_timeout(now);
        carry(&mut client, &mut host, now);
        for event in events(&mut client) {
            match event {
                ConnectionEvent::Message { payload, .. } => {
                    received += 1;
                    last = now;
                    client.consumed(payload.len() + MESSAGE_OVERHEAD);
                }
                ConnectionEvent::Closed(reason) => ended = Some(reason),
                event => panic!("{event:?}, {:?} after the beginning", now - START),
            }
        }
        assert!(now - last < Duration::from_secs(5), "nothing came for 5 s, {received} of {sent} had come");
    }
    assert_eq!((received, ended), (sent, Some(EndReason::Left)));
    assert!(now - START > Duration::from_secs(60) && now - last < Duration::from_secs(1));
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Left)]);
}

#[test]
fn both_sides_may_close_at_once() {
    let (mut client, mut host) = pair(small());
    client.close(EndReason::Left, START);
    host.close(EndReason::Kicked("bye".into()), START);
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Left)]);
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Kicked("bye".into()))]);
}

/// Runs both sides with a delay of 10 ms and no messages. Returns how many packets each sent.
fn idle(client: &mut Connection, host: &mut Connection, from: Timestamp, time: Duration) -> (u64, u64) {
    let before = (client.stats().packets_sent, host.stats().packets_sent);
    let mut now = from;
    while now < from + time {
        now += Duration::from_millis(10);
        client.handle_timeout(now);
        host.handle_timeout(now);
        carry(client, host, now);
        carry(host, client, now);
    }
    (client.stats().packets_sent - before.0, host.stats().packets_sent - before.1)
}

#[test]
fn an_idle_connection_stays_up_and_is_cheap() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    idle(&mut client, &mut host, START, Duration::from_secs(1));
    assert_eq!(events(&mut client), [ConnectionEvent::PathChanged(Path::Direct)]);
    let bytes = client.stats().bytes_sent;
    let (a, b) = idle(&mut client, &mut host, START + Duration::from_secs(1), Duration::from_secs(100));
    assert!(a + b <= 180, "{a} {b}");
    assert!((client.stats().bytes_sent - bytes) / a < 30);
    assert!(client.stats().rtt.is_some() && host.stats().rtt.is_some());
}

/// Runs one side that receives nothing. Returns its events with their times.
pub fn alone(side: &mut Connection, mut now: Timestamp, until: Timestamp) -> Vec<(Duration, ConnectionEvent)> {
    let from = now;
    let mut reported = Vec::new();
    while let Some(next) = side.next_timeout().filter(|next| *next <= until) {
        now = next;
        side.handle_timeout(now);
        for lane in Lane::ALL {
            while side.poll_transmit(lane, 16 << 10, now).is_some() {}
        }
        reported.extend(events(side).into_iter().map(|event| (now - from, event)));
    }
    reported
}

#[test]
fn a_silent_peer_is_interrupted_and_then_times_out_on_any_paths() {
    for (relay, direct) in [(true, false), (true, true), (false, true)] {
        let (mut client, mut host) = pair(ConnectionConfig::default());
        for side in [&mut client, &mut host] {
            if direct {
                side.path_up(Path::Direct, START);
            }
            if !relay {
                side.path_down(Path::Relay, START);
            }
        }
        idle(&mut client, &mut host, START, Duration::from_secs(30));
        let mut now = START + Duration::from_secs(30);
        // The last packet arrived at most 2.5 s ago.
        for side in [&mut client, &mut host] {
            events(side);
            let mut reported = alone(side, now, now + Duration::from_secs(60));
            reported.retain(|(_, event)| {
                !matches!(event, ConnectionEvent::PathSilent(_) | ConnectionEvent::PathChanged(_))
            });
            let [(at, interrupted), (end, closed)] = &reported[..] else { panic!("{reported:?}") };
            assert_eq!(*interrupted, ConnectionEvent::Interrupted(Interruption::Silent));
            assert_eq!(*closed, ConnectionEvent::Closed(EndReason::TimedOut));
            assert!((2500..=5000).contains(&at.as_millis()), "{at:?}");
            assert_eq!(*end - *at, Duration::from_secs(30));
        }
        now += Duration::from_secs(60);
        assert_eq!((client.next_timeout(), host.time_left(now)), (None, Duration::ZERO));
    }
}

#[test]
fn an_interrupted_peer_is_pinged_modestly_and_resumes_with_any_packet() {
    for path in [Path::Relay, Path::Direct] {
        let (mut client, mut host) = pair(ConnectionConfig::default());
        if path == Path::Direct {
            client.path_up(Path::Direct, START);
            host.path_up(Path::Direct, START);
            idle(&mut client, &mut host, START, Duration::from_secs(1));
            client.path_down(Path::Relay, START + Duration::from_secs(1));
            host.path_down(Path::Relay, START + Duration::from_secs(1));
        }
        idle(&mut client, &mut host, START + Duration::from_secs(1), Duration::from_secs(1));
        let mut now = START + Duration::from_secs(2);
        host.send(Channel::Reliable, "on its way".into()).unwrap();
        alone(&mut host, now, now + Duration::from_secs(6));
        now += Duration::from_secs(6);
        assert_eq!(host.stats().path, None);
        let left = host.time_left(now);
        assert!(left > Duration::from_secs(27) && left < Duration::from_secs(30), "{left:?}");
        host.send(Channel::Reliable, "waits".into()).unwrap();
        host.send(Channel::Unreliable, "dropped".into()).unwrap();
        let before = host.stats().packets_sent;
        alone(&mut host, now, now + Duration::from_secs(20));
        now += Duration::from_secs(20);
        let probes = host.stats().packets_sent - before;
        assert!((15..=40).contains(&probes), "{probes} in 20 s");
        // The client was suspended: it missed what was sent meanwhile, and counts nothing as silence.
        idle(&mut client, &mut host, now, Duration::from_secs(2));
        assert_eq!(events(&mut host), [ConnectionEvent::Resumed]);
        let message = |text: &str| ConnectionEvent::Message {
            channel: Channel::Reliable,
            tag: Tag::Untyped,
            payload: text.into(),
        };
        let mut reported = events(&mut client);
        reported.retain(|event| !matches!(event, ConnectionEvent::PathChanged(_)));
        assert_eq!(reported, [message("on its way"), message("waits")]);
    }
}

#[test]
fn a_suspension_interrupts_and_ends_nothing() {
    for (asleep, direct) in [(6, false), (6, true), (20, true), (60, false), (3600, true)] {
        let (mut client, mut host) = pair(ConnectionConfig::default());
        if direct {
            client.path_up(Path::Direct, START);
            host.path_up(Path::Direct, START);
        }
        idle(&mut client, &mut host, START, Duration::from_secs(10));
        events(&mut client);
        events(&mut host);
        let woken = START + Duration::from_secs(10 + asleep);
        // Both are suspended at once, and read their sockets later.
        client.handle_timeout(woken);
        host.handle_timeout(woken);
        idle(&mut client, &mut host, woken + Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!((events(&mut client), events(&mut host)), (vec![], vec![]), "after {asleep} s");
    }
}

#[test]
fn a_suspension_does_not_count_as_waiting() {
    let (mut client, _) = pair(ConnectionConfig::default());
    client.path_down(Path::Relay, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Interrupted(Interruption::NoPath)]);
    let woken = START + Duration::from_secs(90);
    client.handle_timeout(woken);
    let reported = alone(&mut client, woken, woken + Duration::from_secs(60));
    let [(end, ConnectionEvent::Closed(EndReason::TimedOut))] = reported[..] else { panic!("{reported:?}") };
    assert!(end > Duration::from_secs(28), "{end:?}");
}

#[test]
fn closing_an_interrupted_peer_ends_at_once_and_notifies_it() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    idle(&mut client, &mut host, START, Duration::from_secs(2));
    let mut now = START + Duration::from_secs(2);
    alone(&mut host, now, now + Duration::from_secs(8));
    now += Duration::from_secs(8);
    events(&mut client);
    host.close_now(EndReason::Kicked("too late".into()));
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Kicked("too late".into()))]);
    carry(&mut host, &mut client, now);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Kicked("too late".into()))]);
    assert_eq!(host.next_timeout(), None);
}

#[test]
fn a_dead_direct_path_falls_back_to_the_relay() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    idle(&mut client, &mut host, START, Duration::from_secs(60));
    events(&mut client);
    client.send(Channel::Reliable, "on its way".into()).unwrap();
    let mut now = START + Duration::from_secs(60);
    for _ in 0..600 {
        now += Duration::from_millis(10);
        for (from, to) in [(0, 1), (1, 0)] {
            let sides = [&mut client, &mut host];
            sides[from].handle_timeout(now);
            for lane in Lane::ALL {
                while let Some(packet) = sides[from].poll_transmit(lane, 16 << 10, now) {
                    if lane == Lane::Relay {
                        sides[to].receive(lane, packet, now);
                    }
                }
            }
        }
    }
    let expected = [ConnectionEvent::PathSilent(Path::Direct), ConnectionEvent::PathChanged(Path::Relay)];
    assert_eq!(events(&mut client), expected);
    let payload = "on its way".into();
    let message = ConnectionEvent::Message { channel: Channel::Reliable, tag: Tag::Untyped, payload };
    assert!(events(&mut host).contains(&message));
}

#[test]
fn a_broken_stream_is_waited_for_while_the_direct_path_is_dead() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    let mut now = START;
    while now < START + Duration::from_secs(40) {
        now += Duration::from_millis(10);
        // The direct path is silent from second 10 on. The relay's stream breaks in second 14, after a packet arrived
        // there, and comes back in second 20.
        let passed = now - START;
        if passed == Duration::from_millis(13_500) {
            client.path_down(Path::Relay, now);
            host.path_down(Path::Relay, now);
        }
        if passed == Duration::from_secs(20) {
            client.path_up(Path::Relay, now);
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let sides = [&mut client, &mut host];
            sides[from].handle_timeout(now);
            for lane in Lane::ALL {
                while let Some(packet) = sides[from].poll_transmit(lane, 16 << 10, now) {
                    if lane != Lane::Relay && passed >= Duration::from_secs(10) {
                        continue;
                    }
                    match sides[to].resume(packet.clone(), now) {
                        Ok(()) => {}
                        Err(ResumeError::Challenge(again)) => sides[from].receive(lane, again, now),
                        Err(_) => sides[to].receive(lane, packet, now),
                    }
                }
            }
        }
    }
    for side in [&mut client, &mut host] {
        assert_eq!(side.stats().path, Some(Path::Relay), "{:?}", events(side));
    }
}

#[test]
fn a_silent_direct_path_is_waited_for_while_the_relay_is_down() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    idle(&mut client, &mut host, START, Duration::from_secs(10));
    let silent = START + Duration::from_secs(10);
    for side in [&mut client, &mut host] {
        side.path_down(Path::Relay, silent);
        events(side);
    }
    for side in [&mut client, &mut host] {
        while let Some(next) = side.next_timeout() {
            side.handle_timeout(next);
            for lane in Lane::ALL {
                while side.poll_transmit(lane, 16 << 10, next).is_some() {}
            }
            let reported = events(side);
            if reported.contains(&ConnectionEvent::PathSilent(Path::Direct)) {
                assert!(reported.contains(&ConnectionEvent::Interrupted(Interruption::Silent)), "{reported:?}");
                assert!(next - silent <= Duration::from_secs(5), "{:?}", next - silent);
            } else if let [ConnectionEvent::Closed(reason)] = &reported[..] {
                assert_eq!(*reason, EndReason::TimedOut);
                assert!(next - silent >= Duration::from_secs(30), "{:?}", next - silent);
            } else {
                assert_eq!(reported, []);
            }
        }
        assert!(side.is_closed());
    }
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
            victim.receive(Lane::ALL[lane], packet.clone(), now);
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
                if let ConnectionEvent::Message { payload, .. } = event {
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
        let message = ConnectionEvent::Message { channel: Channel::Unreliable, tag: Tag::Untyped, payload };
        assert!(events(&mut host) == [message], "{size} bytes");
    }
}
