//! Two connected sides without a network between them.

use std::time::Duration;

use bytes::Bytes;
use uhst_proto::connection::{Connection, ConnectionConfig, ConnectionEvent, Lane, Timestamp};
use uhst_proto::protocol::Payload;

use crate::START;

pub fn pair(config: ConnectionConfig) -> (Connection, Connection) {
    Connection::pair(config.clone(), config, START)
}

pub fn carry(from: &mut Connection, to: &mut Connection, now: Timestamp) -> usize {
    let mut count = 0;
    for lane in Lane::ALL {
        while let Some(packet) = from.poll_transmit(lane, 16 << 10, now) {
            to.receive(lane, packet, now);
            count += 1;
        }
    }
    count
}

pub fn exchange(a: &mut Connection, b: &mut Connection, now: Timestamp) {
    while carry(a, b, now) + carry(b, a, now) > 0 {}
}

pub fn events(of: &mut Connection) -> Vec<ConnectionEvent> {
    std::iter::from_fn(|| of.poll_event()).collect()
}

pub fn bytes(size: usize) -> Payload {
    Payload::Binary(Bytes::from(vec![7; size]))
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

/// Runs both sides with a delay of 10 ms and no messages. Returns how many packets each sent.
pub fn idle(client: &mut Connection, host: &mut Connection, from: Timestamp, time: Duration) -> (u64, u64) {
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
