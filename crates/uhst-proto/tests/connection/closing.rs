//! The end of connections.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use uhst_proto::connection::{
    ConnectionConfig, ConnectionEvent, EnqueueError, Interruption, Lane, MESSAGE_OVERHEAD, Path, Received,
};
use uhst_proto::protocol::{Channel, EndReason, Payload};

use crate::{
    START,
    pair::{alone, bytes, carry, events, exchange, idle, pair},
    small,
};

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

/// The relay breaks and returns again and again, and the peer is gone.
#[test]
fn paths_that_come_and_go_do_not_prolong_a_close() {
    let config =
        ConnectionConfig { timeout: Duration::from_secs(5), resume_timeout: Duration::from_secs(30), ..small() };
    for (bytes, up, down) in [(0, 1, 1), (99, 1, 1), (99, 4, 9), (99, 20, 2), (99, 2, 20)] {
        let (_, mut host) = pair(config.clone());
        if bytes > 0 {
            host.send(Channel::Reliable, Bytes::from(vec![0; bytes]).into()).unwrap();
        }
        host.close(EndReason::Left, START);
        let (mut now, mut is_up) = (START, true);
        let mut change = now + Duration::from_secs(up);
        while let Some(next) = host.next_timeout() {
            now = next.min(change);
            if now == change {
                is_up = !is_up;
                change = now + Duration::from_secs(if is_up { up } else { down });
                if is_up { host.path_up(Path::Relay, now) } else { host.path_down(Path::Relay, now) }
            }
            host.handle_timeout(now);
            while host.poll_transmit(Lane::Relay, 16 << 10, now).is_some() {}
        }
        // A path that came up at the last moment has its time, and a close after a cut is repeated for two seconds.
        assert!(now <= START + Duration::from_secs(30 + 10 + 2), "{bytes} {up} {down}: {now:?}");
        assert_eq!(events(&mut host).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
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
            if let ConnectionEvent::Message(Received { payload, .. }) = event {
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
                ConnectionEvent::Message(Received { payload, .. }) => {
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

#[test]
fn messages_that_a_close_of_the_other_side_crosses_are_reported_as_cut() {
    let (mut client, mut host) = pair(small());
    client.send(Channel::Reliable, bytes(100)).unwrap();
    client.close(EndReason::Left, START);
    host.close_now(EndReason::Rejoined);
    carry(&mut host, &mut client, START);
    carry(&mut client, &mut host, START);
    let reported = events(&mut client);
    assert!(
        matches!(&reported[..], [ConnectionEvent::Cut { bytes: 100.. }, ConnectionEvent::Closed(EndReason::Left)]),
        "{reported:?}"
    );
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Rejoined)]);
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

/// The texts among these events.
fn texts(events: &[ConnectionEvent]) -> Vec<Payload> {
    let text = |event: &ConnectionEvent| match event {
        ConnectionEvent::Message(message) => Some(message.payload.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[test]
fn a_side_that_receives_no_answer_sends_all_again_before_its_close() {
    for direct in [false, true] {
        let (mut client, mut host) = pair(small());
        if direct {
            client.path_up(Path::Direct, START);
            host.path_up(Path::Direct, START);
            exchange(&mut client, &mut host, START);
        }
        client.send(Channel::Reliable, "lost".into()).unwrap();
        for lane in Lane::ALL {
            while client.poll_transmit(lane, 16 << 10, START).is_some() {}
        }
        client.send(Channel::Reliable, "queued".into()).unwrap();
        client.close_unanswered(EndReason::Left, 1000, START);
        let only = client.poll_transmit(Lane::Relay, 64 << 10, START).unwrap();
        host.receive(Lane::Relay, only, START);
        let events = events(&mut host);
        assert_eq!(texts(&events), ["lost".into(), "queued".into()], "direct: {direct}");
        assert_eq!(events.last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
    }
}

#[test]
fn a_side_that_receives_no_answer_leaves_out_what_does_not_fit() {
    // The host reads nothing, so its grant ends before the queue does.
    for (room, len) in [(1000, 1001), (1 << 20, 80 << 10)] {
        let (mut client, mut host) = pair(small());
        while client.stats().queued < len {
            client.send(Channel::Reliable, bytes(10_000)).unwrap();
        }
        client.close_unanswered(EndReason::Left, room, START);
        let only = client.poll_transmit(Lane::Relay, 64 << 10, START).unwrap();
        assert!(only.len() < 100);
        host.receive(Lane::Relay, only, START);
        assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Left)]);
    }
}

/// The relay reports that a host is gone, and then delivers its goodbye.
#[test]
fn a_client_that_resumes_takes_only_a_goodbye_that_proves_its_sender() {
    let kicked = || EndReason::Kicked("enough".into());
    let (mut client, host) = pair(small());
    client.path_up(Path::Relay, START);
    assert!(client.poll_transmit(Lane::Relay, 16 << 10, START).is_some(), "a resumption");
    assert_eq!((host.farewell(), client.farewell()), (None, None));
    client.close_unanswered(kicked(), 1000, START);
    assert_eq!(client.farewell(), None, "a host takes the close of a client");

    let (mut client, mut host) = pair(small());
    client.path_up(Path::Relay, START);
    host.close_unanswered(kicked(), 1000, START);
    carry(&mut host, &mut client, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Interrupted(Interruption::NoPath)], "a close has no proof");

    for resumes in [false, true] {
        let (mut client, mut host) = pair(small());
        if resumes {
            client.path_up(Path::Relay, START);
        }
        host.close_unanswered(kicked(), 1000, START);
        let farewell = host.farewell().unwrap();
        for byte in 2..farewell.len() {
            let mut forged = farewell.to_vec();
            forged[byte] ^= 0x20;
            client.receive(Lane::Relay, forged.into(), START);
        }
        assert!(client.is_open());
        client.receive(Lane::Relay, farewell, START);
        assert_eq!(events(&mut client).last(), Some(&ConnectionEvent::Closed(kicked())));
    }
}
