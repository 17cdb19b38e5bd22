//! Two connections over a hostile network. The guarantee of every channel holds, whatever the paths do.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "connection/bounds.rs"]
mod bounds;
#[path = "connection/closing.rs"]
mod closing;
#[path = "connection/heartbeats.rs"]
mod heartbeats;
#[path = "connection/joining.rs"]
mod joining;
#[path = "connection/losses.rs"]
mod losses;
#[path = "connection/network.rs"]
mod network;
#[path = "connection/pair.rs"]
mod pair;
#[path = "connection/policy.rs"]
mod policy;
#[path = "connection/renewal.rs"]
mod renewal;
#[path = "connection/resuming.rs"]
mod resuming;
#[path = "connection/sealing.rs"]
mod sealing;
#[path = "connection/silence.rs"]
mod silence;

use std::time::Duration;

use network::{Conditions, Network, Step};
use proptest::prelude::*;
use uhst_proto::connection::{Connection, ConnectionConfig, ConnectionEvent, Lane, Path};
use uhst_proto::protocol::{EndReason, PathPolicy};

const START: Duration = Duration::from_secs(1000);

/// Small limits, so that tests reach them.
fn small() -> ConnectionConfig {
    ConnectionConfig { max_message: 48 << 10, send_buffer: 120 << 10, receive_buffer: 80 << 10, ..Default::default() }
}

fn conditions() -> impl Strategy<Value = Conditions> {
    (0_u8..40, 0_u8..40, 0_u16..200, 0_u16..150, any::<bool>(), 0_u8..25).prop_map(
        |(loss, double, jitter, delay, reported, unanswered)| Conditions {
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
        2 => conditions().prop_map(Step::Conditions),
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

/// The number of cases, unless `PROPTEST_CASES` sets another.
fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

/// Runs the network until something is so, for ten seconds at most.
fn run_until(network: &mut Network, is_so: fn(&Network) -> bool) {
    for _ in 0..100 {
        network.run(Duration::from_millis(100));
        if is_so(network) {
            break;
        }
    }
}

/// Joins over a hostile network, from the first packet on. `None` if the network was too bad for it.
fn joined(conditions: Conditions, seed: u64) -> Option<Network> {
    let (client, host) = joining::unconnected_with(&small());
    let mut network = Network::new(&small(), client, host, seed, START);
    network.may_close = true;
    network.step(&Step::Conditions(conditions));
    run_until(&mut network, |network| network.sides[1].asked);
    let now = network.now;
    network.sides[1].connection.admit(now);
    run_until(&mut network, |network| network.sides[0].connected);
    network.may_close = false;
    network.sides.iter().all(|side| side.connected && side.closed.is_empty()).then_some(network)
}

proptest! {
    #![proptest_config(cases(2000))]

    /// As `guarantees_hold_whatever_the_paths_do`, with keys that a handshake has agreed on.
    #[test]
    fn guarantees_hold_from_the_first_packet_on(
        joining in conditions(),
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
    ) {
        let Some(mut network) = joined(joining, seed) else { return Ok(()) };
        steps.iter().for_each(|step| network.step(step));
        network.settle();
        for side in &network.sides {
            prop_assert_eq!(side.connection.stats().packets_forged, 0);
        }
    }
}

proptest! {
    #![proptest_config(cases(8000))]

    #[test]
    fn guarantees_hold_whatever_the_paths_do(
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
        client_closes: bool,
    ) {
        drive(&small(), PathPolicy::Automatic, &steps, seed, client_closes);
    }

    #[test]
    fn messages_sent_before_closing_arrive_whatever_the_paths_do(
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
        client_leaves: bool,
    ) {
        drive_to_leaving(&steps, seed, client_leaves);
    }

    #[test]
    fn no_message_crosses_the_relay_of_a_direct_only_connection(
        steps in prop::collection::vec(step(), 1..24),
        seed: u64,
        client_closes: bool,
    ) {
        // No test code restores the direct path here, so it may be down for as long as the steps say.
        let config = ConnectionConfig { resume_timeout: Duration::from_secs(3600), ..small() };
        drive(&config, PathPolicy::DirectOnly, &steps, seed, client_closes);
    }
}

/// The host is suspended while the client's resumption arrives and the relay goes down.
#[test]
fn a_suspended_side_processes_its_inputs_in_order() {
    let conditions = Conditions { jitter: 148, delay: 15, ..Default::default() };
    let steps = [
        Step::Wait(0),
        Step::Reroute,
        Step::Conditions(conditions),
        Step::Wait(230),
        Step::Stall { client: false, time: 357 },
        Step::Wait(207),
        Step::RestartRelay { outage: 5131 },
    ];
    drive(&small(), PathPolicy::Automatic, &steps, 8775426710365174770, false);
}

/// Every packet is lost when a side leaves, on one path or two, and for a while after. Once packets pass again, the
/// other side receives the close and everything sent before it. It does not time out.
#[test]
fn a_close_without_paths_arrives_once_they_are_back() {
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

/// A client gives up while the relay is unreachable. Its close may still reach the host later, which then ends at once.
#[test]
fn a_client_that_gives_up_leaves_a_close_for_an_unreachable_relay() {
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
    let close = client.poll_transmit(Lane::Relay, 1 << 16, now).unwrap();
    assert_eq!(client.poll_transmit(Lane::Relay, 1 << 16, now), None, "once");
    // The host was suspended meanwhile.
    host.receive(Lane::Relay, close, START);
    let ends = std::iter::from_fn(|| host.poll_event()).filter_map(|event| match event {
        ConnectionEvent::Closed(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [EndReason::TimedOut]);
}

/// A silence longer than both timeouts ends both sides with the same reason. A shorter one loses nothing.
#[test]
fn both_sides_end_with_the_same_reason() {
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

/// A side that was suspended does not give up its peer. If the peer gave it up, it learns so.
#[test]
fn a_suspended_side_resumes_or_learns_that_it_timed_out() {
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
            // The peer may already be gone, so that nobody answers.
            network.run(Duration::from_secs(40));
            assert_eq!(network.sides[asleep].closed, [EndReason::TimedOut]);
        }
    }
}
