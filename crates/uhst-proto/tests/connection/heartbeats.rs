//! The heartbeats of idle connections.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use uhst_proto::connection::{Connection, ConnectionConfig, Lane, Path, Timestamp};

use crate::{START, pair::pair};

/// An idle connection: when its host woke up for a timer, and when its client did.
struct Wakes {
    host: Vec<Timestamp>,
    client: Vec<Timestamp>,
}

/// Runs an idle connection whose direct path opens at `from`, for 100 s. Packets need `delay`.
fn idle(from: Timestamp, delay: Duration) -> Wakes {
    let (mut client, mut host) = pair(ConnectionConfig::default());
    for side in [&mut client, &mut host] {
        side.handle_timeout(from);
        side.path_up(Path::Direct, from);
    }
    let mut wakes = [Vec::new(), Vec::new()];
    let mut packets: VecDeque<(Timestamp, usize, Lane, Bytes)> = VecDeque::new();
    let mut sides = [client, host];
    let mut now = from;
    while now < from + Duration::from_secs(100) {
        for (from, side) in sides.iter_mut().enumerate() {
            for lane in Lane::ALL {
                while let Some(packet) = side.poll_transmit(lane, 16 << 10, now) {
                    packets.push_back((now + delay, 1 - from, lane, packet));
                }
            }
        }
        let timer = sides.iter().filter_map(Connection::next_timeout).min().unwrap();
        match packets.front() {
            Some((at, ..)) if *at <= timer => {
                let (at, to, lane, packet) = packets.pop_front().unwrap();
                now = at;
                sides[to].receive(lane, packet, now);
            }
            _ => {
                now = timer;
                for (side, wakes) in sides.iter_mut().zip(&mut wakes) {
                    if side.next_timeout().is_some_and(|at| at <= now) {
                        side.handle_timeout(now);
                        wakes.push(now);
                    }
                }
            }
        }
    }
    assert!(sides.iter().all(|side| side.stats().path == Some(Path::Direct)));
    let settled =
        |wakes: &[Timestamp]| wakes.iter().copied().filter(|at| *at > from + Duration::from_secs(10)).collect();
    let [client, host] = wakes.each_ref().map(|wakes| settled(wakes));
    Wakes { host, client }
}

#[test]
fn the_connections_of_a_host_ping_at_common_times() {
    let (mut times, mut wakes) = (BTreeSet::new(), 0);
    for number in 0..64 {
        let connection = idle(START + number * Duration::from_millis(137), (1 + number) * Duration::from_millis(2));
        // The sides take turns, and each exchange takes two fifths of the timeout.
        assert!((20..=28).contains(&connection.host.len()), "{:?}", connection.host);
        assert!((20..=28).contains(&connection.client.len()), "{:?}", connection.client);
        wakes += connection.host.len();
        times.extend(connection.host);
    }
    assert!(wakes > 1300, "{wakes}");
    // One for each tenth of the timeout.
    assert!(times.len() <= 220, "{} times", times.len());
}
