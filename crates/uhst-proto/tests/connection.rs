//! Two connections over a hostile network: every channel keeps its promise, whatever the paths do.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "connection/bounds.rs"]
mod bounds;
#[path = "connection/joining.rs"]
mod joining;
#[path = "connection/losses.rs"]
mod losses;
#[path = "connection/network.rs"]
mod network;
#[path = "connection/policy.rs"]
mod policy;

use std::time::Duration;

use network::{Network, Step, Weather};
use proptest::prelude::*;
use uhst_proto::connection::{Connection, ConnectionConfig, ConnectionEvent, Lane, Path};
use uhst_proto::protocol::{EndReason, PathPolicy};

const START: Duration = Duration::from_secs(1000);

/// Small, so that every bound is met.
fn small() -> ConnectionConfig {
    ConnectionConfig { max_message: 48 << 10, send_buffer: 120 << 10, receive_buffer: 80 << 10, ..Default::default() }
}

fn weather() -> impl Strategy<Value = Weather> {
    (0_u8..40, 0_u8..40, 0_u16..200, 0_u16..150, any::<bool>(), 0_u8..25).prop_map(
        |(loss, double, jitter, delay, reported, unanswered)| Weather {
            loss,
            double,
            jitter,
            delay,
            reported,
            unanswered,
        },
    )
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0_u32..100, 2 => 100_u32..20_000, 1 => 15_300_u32..15_420, 1 => 20_000_u32..49_152]
}

fn send() -> impl Strategy<Value = Step> {
    (any::<bool>(), 0_usize..4, size(), 1_u8..6).prop_map(|(client, channel, size, count)| Step::Send {
        client,
        channel,
        size,
        count,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => send(),
        1 => any::<bool>().prop_map(|client| Step::Signal { client }),
        4 => (0_u16..400).prop_map(Step::Wait),
        1 => (400_u16..9000).prop_map(Step::Wait),
        2 => weather().prop_map(Step::Weather),
        1 => (0_u16..20_000).prop_map(|outage| Step::RestartRelay { outage }),
        1 => Just(Step::Reroute),
        1 => (0_u16..1500).prop_map(|outage| Step::HostStream { outage }),
        1 => (any::<bool>(), 0_u16..1500).prop_map(|(client, time)| Step::Suspect { client, time }),
        2 => (0_u16..1500).prop_map(|skew| Step::DirectUp { skew }),
        1 => Just(Step::DirectDown),
        1 => Just(Step::DirectSilent),
        1 => (any::<bool>(), prop_oneof![0_u32..1500, 1500_u32..8000])
            .prop_map(|(client, time)| Step::Stall { client, time }),
        1 => (0_u32..70_000).prop_map(|time| Step::Suspend { time }),
        1 => (0_u32..8000).prop_map(|time| Step::Silence { time }),
        1 => (any::<bool>(), 0_u16..3000).prop_map(|(client, time)| Step::Lazy { client, time }),
        1 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(client, bytes)| Step::UnknownPeer {
            client,
            packet: [&[0], &bytes[..]].concat().into(),
        }),
    ]
}

fn drive(config: &ConnectionConfig, paths: PathPolicy, steps: &[Step], seed: u64, client_closes: bool) {
    let (client, host) = Connection::pair(config.clone(), config.clone(), START);
    let (client, host) = (client.with_paths(paths), host.with_paths(paths));
    let mut network = Network::new(config, client, host, seed, START);
    network.direct_only = paths == PathPolicy::DirectOnly;
    steps.iter().for_each(|step| network.step(step));
    network.settle();
    network.may_close = true;
    let now = network.now;
    network.sides[usize::from(!client_closes)].connection.close(EndReason::Kicked("enough".into()), now);
    network.run(Duration::from_secs(3));
    for side in &network.sides {
        assert_eq!(side.closed, [EndReason::Kicked("enough".into())]);
    }
}

fn drive_to_leaving(steps: &[Step], seed: u64, client_leaves: bool) {
    let config = small();
    let (client, host) = Connection::pair(config.clone(), config.clone(), START);
    let mut network = Network::new(&config, client, host, seed, START);
    steps.iter().for_each(|step| network.step(step));
    network.leave(client_leaves);
}

/// As many, unless the environment asks for another number.
fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(cases(8000))]

    #[test]
    fn promises_hold_whatever_the_paths_do(
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
        client_closes: bool,
    ) {
        drive(&small(), PathPolicy::Automatic, &steps, seed, client_closes);
    }

    #[test]
    fn what_was_sent_before_leaving_arrives_whatever_the_paths_do(
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
        client_leaves: bool,
    ) {
        drive_to_leaving(&steps, seed, client_leaves);
    }

    #[test]
    fn no_message_crosses_the_relay_of_those_who_allow_direct_paths_only(
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
        client_closes: bool,
    ) {
        // Nobody looks for a direct path here: it may be away for as long as the steps say.
        let config = ConnectionConfig { resume_timeout: Duration::from_secs(3600), ..small() };
        drive(&config, PathPolicy::DirectOnly, &steps, seed, client_closes);
    }
}

/// The host sleeps while the client's resumption comes in and the relay goes down.
#[test]
fn a_side_that_slept_hears_of_things_in_their_order() {
    let weather = Weather { jitter: 148, delay: 15, ..Default::default() };
    let steps = [
        Step::Wait(0),
        Step::Reroute,
        Step::Weather(weather),
        Step::Wait(230),
        Step::Stall { client: false, time: 357 },
        Step::Wait(207),
        Step::RestartRelay { outage: 5131 },
    ];
    drive(&small(), PathPolicy::Automatic, &steps, 8775426710365174770, false);
}

/// Every packet is lost when it leaves, on one path or two, and for so long after that. The other side hears the goodbye, and
/// what was sent before it, once packets pass again; it does not end as one that is missed.
#[test]
fn a_side_that_leaves_while_its_paths_are_cut_says_goodbye_when_they_are_back() {
    let sides = [(true, false), (true, true), (false, false), (false, true)];
    for (cut, (client, direct)) in [1, 4, 6, 12, 25].into_iter().flat_map(|cut| sides.map(|side| (cut, side))) {
        let (of_client, of_host) = Connection::pair(small(), small(), START);
        let mut network = Network::new(&small(), of_client, of_host, cut, START);
        if direct {
            network.step(&Step::DirectUp { skew: 30 });
        }
        network.run(Duration::from_secs(4));
        network.step(&Step::Silence { time: cut as u32 * 1000 });
        network.run(Duration::from_millis(100));
        network.step(&Step::Send { client, channel: 0, size: 20_000, count: 3 });
        network.leave(client);
    }
}

/// The relay is out of reach when a client gives up. What it says then may yet find the host, which ends at once.
#[test]
fn a_client_that_gives_up_has_a_last_word_for_a_relay_that_is_away() {
    let (mut client, mut host) = Connection::pair(small(), small(), START);
    client.path_up(Path::Relay, START);
    host.path_up(Path::Relay, START);
    client.path_down(Path::Relay, START);
    let mut now = START;
    while !client.is_closed() {
        assert_eq!(client.poll_transmit(Lane::Relay, 1 << 16, now), None, "a packet for a path that is down");
        now = client.next_timeout().unwrap();
        client.handle_timeout(now);
    }
    let word = client.poll_transmit(Lane::Relay, 1 << 16, now).unwrap();
    assert_eq!(client.poll_transmit(Lane::Relay, 1 << 16, now), None, "once");
    // It slept meanwhile.
    host.receive(Lane::Relay, word, START);
    let ends = std::iter::from_fn(|| host.poll_event()).filter_map(|event| match event {
        ConnectionEvent::Closed(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [EndReason::TimedOut]);
}

/// Whatever lasts for longer than both timeouts ends both sides alike, and what is shorter loses nothing.
#[test]
fn both_sides_end_alike() {
    let config = small();
    for (silence, ends) in [(2, false), (7, false), (20, false), (27, false), (43, true), (70, true)] {
        for direct in [false, true] {
            let (client, host) = Connection::pair(config.clone(), config.clone(), START);
            let mut network = Network::new(&config, client, host, silence, START);
            if direct {
                network.step(&Step::DirectUp { skew: 30 });
            }
            network.run(Duration::from_secs(4));
            network.may_close = ends;
            network.step(&Step::Silence { time: silence as u32 * 1000 });
            for client in [false, true] {
                network.step(&Step::Send { client, channel: 0, size: 20, count: 3 });
            }
            network.run(Duration::from_secs(silence));
            let long = usize::from(silence > 5);
            for side in &network.sides {
                assert_eq!(side.interruptions, long, "{silence} s");
                assert_eq!(side.closed, if ends { vec![EndReason::TimedOut] } else { vec![] }, "{silence} s");
            }
            if !ends {
                network.settle();
                network.run(Duration::from_secs(60));
                assert_eq!(network.sides.each_ref().map(|side| side.interruptions), [long; 2]);
            }
        }
    }
}

/// One side sleeps: it gives up nobody, and learns from the other, if that was too long for it.
#[test]
fn one_that_slept_goes_on_or_learns_that_it_was_given_up() {
    let config = small();
    for (time, client) in [(6, true), (6, false), (20, true), (20, false), (28, true), (60, false)] {
        let (of_client, of_host) = Connection::pair(config.clone(), config.clone(), START);
        let mut network = Network::new(&config, of_client, of_host, time, START);
        network.run(Duration::from_secs(4));
        network.may_close = time > 35;
        let asleep = usize::from(!client);
        network.step(&Step::Stall { client, time: time as u32 * 1000 });
        for client in [false, true] {
            network.step(&Step::Send { client, channel: 0, size: 20, count: 3 });
        }
        network.run(Duration::from_secs(time));
        assert_eq!((network.sides[asleep].interruptions, network.sides[1 - asleep].interruptions), (0, 1));
        if time < 35 {
            network.settle();
            assert_eq!(network.sides[asleep].interruptions, 0);
        } else {
            assert_eq!(network.sides[1 - asleep].closed, [EndReason::TimedOut]);
            // It may be that nobody is left to tell it.
            network.run(Duration::from_secs(40));
            assert_eq!(network.sides[asleep].closed, [EndReason::TimedOut]);
        }
    }
}
