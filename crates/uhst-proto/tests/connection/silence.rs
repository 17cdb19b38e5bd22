//! Silent peers, silent paths and suspended processes.

use std::time::Duration;

use uhst_proto::connection::{ConnectionConfig, ConnectionEvent, Interruption, Lane, Path, Received, ResumeError};
use uhst_proto::protocol::{Channel, EndReason, Tag};

use crate::{
    START,
    joining::packets,
    pair::{alone, carry, events, idle, pair},
};

#[test]
fn an_idle_connection_stays_up_and_is_cheap() {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    idle(&mut client, &mut host, START, Duration::from_secs(1));
    assert_eq!(events(&mut client), [ConnectionEvent::PathChanged(Path::Direct)]);
    let bytes = client.stats().bytes_sent;
    let (a, b) = idle(&mut client, &mut host, START + Duration::from_secs(1), Duration::from_secs(100));
    assert!(a + b <= 115, "{a} {b}");
    assert!((client.stats().bytes_sent - bytes) / a < 30);
    assert!(client.stats().rtt.is_some() && host.stats().rtt.is_some());
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
        // The client was suspended. It missed the packets in the meantime, and does not count the time as silence.
        idle(&mut client, &mut host, now, Duration::from_secs(2));
        assert_eq!(events(&mut host), [ConnectionEvent::Resumed]);
        let message = |text: &str| {
            ConnectionEvent::Message(Received { channel: Channel::Reliable, tag: Tag::Untyped, payload: text.into() })
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

/// A side that wakes up reads its sockets before its clock. The progress that it finds there counts from then.
#[test]
fn a_suspension_does_not_prolong_a_close_that_has_advanced_since() {
    let woken = START + Duration::from_secs(600);

    let (mut client, mut host) = pair(ConnectionConfig::default());
    client.send(Channel::Reliable, "last words".into()).unwrap();
    carry(&mut client, &mut host, START);
    client.close(EndReason::Left, START);
    assert!(!packets(&mut client, START).is_empty(), "the close is lost");
    carry(&mut host, &mut client, woken);
    client.handle_timeout(woken);
    let reported = alone(&mut client, woken, woken + Duration::from_secs(600));
    let (end, _) = reported.iter().find(|(_, event)| matches!(event, ConnectionEvent::Closed(_))).unwrap();
    assert!(*end <= Duration::from_secs(40), "{end:?}");
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
    let message = ConnectionEvent::Message(Received { channel: Channel::Reliable, tag: Tag::Untyped, payload });
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
