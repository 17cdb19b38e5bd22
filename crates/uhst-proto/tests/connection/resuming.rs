//! Resumptions, and packets that must not resume a connection.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use uhst_proto::connection::{Connection, ConnectionEvent, Interruption, Lane, Path, Received, ResumeError, Timestamp};
use uhst_proto::protocol::{
    Channel, EndReason, Tag,
    frame::{self, HandshakeKind},
};

use crate::{
    START,
    joining::{connected, exchange, packets, unconnected},
    pair::{self, alone, events},
};

/// Starts a resumption and answers the host's challenge. Returns the answer.
fn ask_back(client: &mut Connection, host: &mut Connection, now: Timestamp) -> Bytes {
    client.path_down(Path::Relay, now);
    client.path_up(Path::Relay, now);
    let first = packets(client, now).remove(0);
    assert_eq!(HandshakeKind::peek(&first), HandshakeKind::Resume(host.id().unwrap()));
    let Err(ResumeError::Challenge(again)) = host.resume(first, now) else { panic!() };
    client.receive(Lane::Relay, again, now);
    packets(client, now).remove(0)
}

#[test]
fn resuming_retransmits_in_both_directions() {
    let (mut client, mut host) = connected();
    client.send(Channel::Reliable, "up".into()).unwrap();
    host.send(Channel::Reliable, "down".into()).unwrap();
    assert!(!packets(&mut client, START).is_empty() && !packets(&mut host, START).is_empty());
    let resume = ask_back(&mut client, &mut host, START);
    host.resume(resume, START).unwrap();
    exchange(&mut client, &mut host, START);
    let message = |text: &str| {
        ConnectionEvent::Message(Received { channel: Channel::Reliable, tag: Tag::Untyped, payload: text.into() })
    };
    let lost = ConnectionEvent::Interrupted(Interruption::NoPath);
    assert_eq!(events(&mut client), [lost, ConnectionEvent::Resumed, message("down")]);
    assert_eq!(events(&mut host), [message("up")]);
}

/// The client has the host's goodbye, and not the message before it.
fn with_goodbye() -> (Connection, Connection) {
    let (mut client, mut host) = connected();
    host.send(Channel::Reliable, "last words".into()).unwrap();
    assert!(!packets(&mut host, START).is_empty(), "they are lost");
    host.close(EndReason::Left, START);
    packets(&mut host, START).into_iter().for_each(|packet| client.receive(Lane::Relay, packet, START));
    assert_eq!(events(&mut client), []);
    (client, host)
}

#[test]
fn a_goodbye_waits_while_no_path_leads_to_the_peer_for_what_was_sent_before() {
    for silent in [false, true] {
        for back in [false, true] {
            let (mut client, mut host) = with_goodbye();
            if !silent {
                client.path_down(Path::Relay, START);
            }
            let until = START + Duration::from_secs(if back { 20 } else { 60 });
            let mut reported = events(&mut client);
            reported.extend(alone(&mut client, START, until).into_iter().map(|(_, event)| event));
            reported.retain(|event| !matches!(event, ConnectionEvent::PathSilent(_)));
            let reason = if silent { Interruption::Silent } else { Interruption::NoPath };
            assert_eq!(reported[0], ConnectionEvent::Interrupted(reason));
            if !back {
                assert_eq!(reported[1..], [ConnectionEvent::Closed(EndReason::Left)]);
                continue;
            }
            alone(&mut host, START, until);
            let resume = ask_back(&mut client, &mut host, until);
            host.resume(resume, until).unwrap();
            exchange(&mut client, &mut host, until);
            let message = Received { channel: Channel::Reliable, tag: Tag::Untyped, payload: "last words".into() };
            let expected =
                [ConnectionEvent::Resumed, ConnectionEvent::Message(message), ConnectionEvent::Closed(EndReason::Left)];
            assert_eq!(events(&mut client), expected, "silent: {silent}");
            assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Left)]);
        }
    }
}

#[test]
fn a_side_that_gives_up_says_so() {
    let (mut client, mut host) = with_goodbye();
    host.give_up();
    let reported = events(&mut host);
    assert!(matches!(reported[..], [ConnectionEvent::Cut { .. }, ConnectionEvent::Closed(EndReason::Left)]));
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Left)]);
    client.give_up();
    assert_eq!(events(&mut client), []);
}

/// It has waited for a path in vain, and one comes up right after that.
#[test]
fn a_side_that_gives_up_without_a_path_says_so_on_the_next_one() {
    let (mut client, mut host) = connected();
    client.send(Channel::Reliable, "last words".into()).unwrap();
    assert!(!packets(&mut client, START).is_empty(), "they are lost");
    client.close(EndReason::Left, START);
    client.path_down(Path::Relay, START);
    let mut until = START;
    while let Some(next) = client.next_timeout() {
        until = next;
        client.handle_timeout(until);
    }
    assert!(client.is_closed());
    client.path_up(Path::Relay, until);
    packets(&mut client, until).into_iter().for_each(|packet| host.receive(Lane::Relay, packet, until));
    assert_eq!(events(&mut host).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
}

/// The other side takes nothing more, so there is nothing to wait for.
#[test]
fn a_close_after_a_goodbye_ends_at_once() {
    let (mut client, mut host) = with_goodbye();
    client.send(Channel::Reliable, "late".into()).unwrap();
    client.close(EndReason::Left, START);
    let reported = events(&mut client);
    assert!(matches!(reported[..], [ConnectionEvent::Cut { .. }, ConnectionEvent::Closed(EndReason::Left)]));
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut host).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
}

/// The side that leaves has lost the relay. The other one knows its new route only once it has resumed.
#[test]
fn a_close_after_a_goodbye_resumes_first() {
    let (mut client, mut host) = with_goodbye();
    let resume = ask_back(&mut client, &mut host, START);
    client.close(EndReason::Left, START);
    assert!(!client.is_closed());
    host.resume(resume, START).unwrap();
    exchange(&mut client, &mut host, START);
    assert_eq!(events(&mut client).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
    assert_eq!(events(&mut host).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
}

/// The goodbye came over the relay, which breaks, and what was sent before it comes directly.
#[test]
fn a_goodbye_is_confirmed_where_the_last_of_it_arrived() {
    let (mut client, mut host) = connected();
    for side in [&mut client, &mut host] {
        side.path_up(Path::Direct, START);
    }
    pair::exchange(&mut client, &mut host, START);
    events(&mut client);
    events(&mut host);
    host.send(Channel::Reliable, "last words".into()).unwrap();
    let mut late = Vec::new();
    while let Some(packet) = host.poll_transmit(Lane::DirectReliable, 16 << 10, START) {
        late.push(packet);
    }
    host.close(EndReason::Left, START);
    packets(&mut host, START).into_iter().for_each(|packet| client.receive(Lane::Relay, packet, START));
    client.path_down(Path::Relay, START);
    late.into_iter().for_each(|packet| client.receive(Lane::DirectReliable, packet, START));
    assert_eq!(events(&mut client).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
    pair::carry(&mut client, &mut host, START);
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Left)]);
}

/// The host that said goodbye is gone, and another one has its id.
#[test]
fn a_goodbye_counts_although_the_host_has_restarted() {
    let (mut client, _) = with_goodbye();
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    let request = packets(&mut client, START).remove(0);
    client.receive(Lane::Relay, frame::unknown(&request).unwrap(), START);
    assert_eq!(events(&mut client).last(), Some(&ConnectionEvent::Closed(EndReason::Left)));
}

#[test]
fn a_challenge_is_answered_however_many_requests_were_lost_before_it() {
    for lost in 0..10 {
        let (mut client, mut host) = connected();
        client.path_down(Path::Relay, START);
        client.path_up(Path::Relay, START);
        let mut now = START;
        let mut ask = || {
            while now < START + Duration::from_secs(30) {
                if let Some(packet) = packets(&mut client, now).pop() {
                    return packet;
                }
                now = client.next_timeout().unwrap();
                client.handle_timeout(now);
            }
            panic!("no request");
        };
        (0..lost).for_each(|_| drop(ask()));
        let Err(ResumeError::Challenge(again)) = host.resume(ask(), START) else { panic!() };
        client.receive(Lane::Relay, again, now);
        assert_eq!(host.resume(packets(&mut client, now).remove(0), now), Ok(()), "after {lost} lost requests");
    }
}

/// The host's stream may be far behind, for example on a slow line or a busy machine. A client that waited for the answer
/// to its latest request alone would not resume at all.
#[test]
fn a_resumption_is_answered_however_late() {
    // It takes two round trips, and the connection ends after 30 s.
    for one_way in (0..7500).step_by(250).map(Duration::from_millis) {
        let (mut client, mut host) = connected();
        client.path_down(Path::Relay, START);
        client.path_up(Path::Relay, START);
        let mut in_flight: VecDeque<(Timestamp, bool, Bytes)> = VecDeque::new();
        let mut now = START;
        while client.stats().path.is_none() {
            assert!(now < START + 4 * one_way + Duration::from_secs(1), "{one_way:?} one way: {now:?}");
            while in_flight.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, to_host, packet) = in_flight.pop_front().unwrap();
                match to_host.then(|| host.resume(packet.clone(), now)) {
                    Some(Err(ResumeError::Challenge(answer))) => in_flight.push_back((now + one_way, false, answer)),
                    Some(Ok(())) => {
                        in_flight
                            .extend(packets(&mut host, now).into_iter().map(|answer| (now + one_way, false, answer)));
                    }
                    // A late copy.
                    Some(Err(error)) => assert_eq!(error, ResumeError::Replayed),
                    None => client.receive(Lane::Relay, packet, now),
                }
            }
            in_flight.extend(packets(&mut client, now).into_iter().map(|packet| (now + one_way, true, packet)));
            in_flight.make_contiguous().sort_by_key(|(at, ..)| *at);
            let next = in_flight.front().map(|(at, ..)| *at);
            now = [next, client.next_timeout()].into_iter().flatten().min().unwrap().max(now);
            client.handle_timeout(now);
            host.handle_timeout(now);
        }
    }
}

#[test]
fn a_copied_resumption_is_answered_until_it_is_confirmed() {
    let (mut client, mut host) = connected();
    let resume = ask_back(&mut client, &mut host, START);
    host.resume(resume.clone(), START).unwrap();
    packets(&mut host, START);
    host.resume(resume.clone(), START).unwrap();
    client.send(Channel::Reliable, "back".into()).unwrap();
    exchange(&mut client, &mut host, START);
    assert_eq!(host.resume(resume, START), Err(ResumeError::Replayed));
    assert_eq!(events(&mut host).len(), 1);
}

/// An answer whose POST failed is sent again, without another request of the client.
#[test]
fn an_answer_to_a_resumption_outlives_the_hosts_stream_and_its_post() {
    let (mut client, mut host) = connected();
    let resume = ask_back(&mut client, &mut host, START);
    host.resume(resume, START).unwrap();
    host.path_down(Path::Relay, START);
    assert!(packets(&mut host, START).is_empty());
    host.path_up(Path::Relay, START);
    // One POST at a time.
    let answer = host.poll_transmit(Lane::Relay, 64 << 10, START).unwrap();
    host.lost_in_flight(Lane::Relay);
    assert_eq!(packets(&mut host, START)[0], answer, "its POST has failed");
    client.receive(Lane::Relay, answer, START);
    assert_eq!(client.stats().path, Some(Path::Relay));
}

#[test]
fn a_replayed_resumption_is_rejected() {
    let (mut client, mut host) = connected();
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    // An unknown peer had the host's id for a moment, and received this packet.
    let kept = packets(&mut client, START).remove(0);
    assert!(matches!(host.resume(kept.clone(), START), Err(ResumeError::Challenge(_))));
    let resume = ask_back(&mut client, &mut host, START);
    host.resume(resume, START).unwrap();
    assert_eq!(host.resume(kept, START), Err(ResumeError::Replayed));
}

#[test]
fn a_forged_resumption_is_refused_without_harm() {
    let (mut client, mut host) = connected();
    let resume = ask_back(&mut client, &mut host, START);
    for byte in 18..resume.len() {
        let mut forged = resume.to_vec();
        forged[byte] ^= 0x40;
        assert!(matches!(host.resume(forged.into(), START), Err(ResumeError::Forged | ResumeError::Malformed)));
    }
    host.resume(resume, START).unwrap();
    exchange(&mut client, &mut host, START);
    assert_eq!(client.stats().path, Some(Path::Relay));
}

#[test]
fn a_client_ignores_an_unknown_peer_with_the_hosts_id() {
    let (mut client, mut host) = connected();
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    client.receive(Lane::Relay, frame::refusal(&EndReason::NoSuchHost), START);
    let (_, mut other) = connected();
    other.close(EndReason::Left, START);
    packets(&mut other, START).into_iter().for_each(|packet| client.receive(Lane::Relay, packet, START));
    assert_eq!(events(&mut client), [ConnectionEvent::Interrupted(Interruption::NoPath)]);
    let mut now = START;
    for _ in 0..100 {
        now += Duration::from_millis(200);
        client.handle_timeout(now);
        assert!(client.poll_event().is_none());
        for packet in packets(&mut client, now) {
            assert!(matches!(HandshakeKind::peek(&packet), HandshakeKind::Resume(_)));
            client.receive(Lane::Relay, frame::refusal(&EndReason::NoSuchHost), now);
        }
    }
    // The host's stream was down too. Now both are up.
    host.path_down(Path::Relay, START);
    let resume = ask_back(&mut client, &mut host, now);
    host.resume(resume, now).unwrap();
    exchange(&mut client, &mut host, now);
    assert_eq!((client.stats().path, host.stats().path), (Some(Path::Relay), Some(Path::Relay)));
}

#[test]
fn an_unknown_connection_ends_an_interrupted_client() {
    let (mut client, mut host) = connected();
    client.path_up(Path::Direct, START);
    host.path_up(Path::Direct, START);
    let ping = host.poll_transmit(Lane::DirectUnreliable, 16 << 10, START).unwrap();
    client.receive(Lane::DirectUnreliable, ping, START);
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    let request = packets(&mut client, START).remove(0);
    let unknown = frame::unknown(&request).unwrap();
    events(&mut client);
    // The host is alive on another path, so another host has its id.
    client.receive(Lane::Relay, unknown.clone(), START);
    assert_eq!(events(&mut client), []);
    client.path_down(Path::Direct, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Interrupted(Interruption::NoPath)]);
    for byte in 2..unknown.len() {
        let mut forged = unknown.to_vec();
        forged[byte] ^= 0x20;
        client.receive(Lane::Relay, forged.into(), START);
        assert_eq!(events(&mut client), [], "byte {byte}");
    }
    client.receive(Lane::Relay, unknown, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::HostRestarted)]);
}

#[test]
fn a_lost_client_times_out_after_the_resume_timeout() {
    let (mut client, mut host) = connected();
    for side in [&mut client, &mut host] {
        side.path_down(Path::Relay, START);
        assert_eq!(events(side), [ConnectionEvent::Interrupted(Interruption::NoPath)]);
        let reported = alone(side, START, START + Duration::from_secs(60));
        assert_eq!(reported, [(Duration::from_secs(30), ConnectionEvent::Closed(EndReason::TimedOut))]);
    }
}

#[test]
fn a_client_that_comes_back_late_learns_the_reason() {
    let (mut client, mut host) = connected();
    let (mut other, _) = unconnected(None, None);
    host.close(EndReason::Kicked("idle".into()), START);
    host.abort(EndReason::Left);
    assert_eq!(events(&mut host), [ConnectionEvent::Closed(EndReason::Left)]);
    assert_eq!(host.resume(Bytes::new(), START), Err(ResumeError::NotOpen));
    let tombstone = host.tombstone().unwrap();
    client.path_down(Path::Relay, START);
    client.path_up(Path::Relay, START);
    let resume = packets(&mut client, START).remove(0);
    assert_eq!(HandshakeKind::peek(&resume), HandshakeKind::Resume(tombstone.id()));
    assert_eq!(tombstone.answer(&packets(&mut other, START).remove(0)), None);
    let gone = tombstone.answer(&resume).unwrap();
    let mut forged = gone.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    client.receive(Lane::Relay, forged.into(), START);
    assert_eq!(events(&mut client), [ConnectionEvent::Interrupted(Interruption::NoPath)]);
    client.receive(Lane::Relay, gone, START);
    assert_eq!(events(&mut client), [ConnectionEvent::Closed(EndReason::Left)]);
}
