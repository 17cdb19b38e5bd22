//! Loss reports: what a sender learns about its unreliable messages.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use uhst_proto::connection::{Connection, ConnectionConfig, Lane, MESSAGE_OVERHEAD, Path, Timestamp};
use uhst_proto::protocol::{
    Channel, Payload,
    frame::{Frame, Frames, Stream},
};

use crate::{START, cases};

const FRAME: Duration = Duration::from_millis(16);

/// Counts the fragments of unreliable messages, and the pings, in a packet.
fn contents(receiver: &Connection, lane: Lane, packet: &Bytes) -> (u64, u64) {
    let (mut fragments, mut pings) = (0, 0);
    let packet = if lane == Lane::Relay { receiver.peek(packet).unwrap() } else { packet.clone() };
    for frame in Frames::new(&packet).unwrap() {
        match frame.unwrap() {
            Frame::Data(data) if matches!(data.stream, Stream::Channel(channel) if !channel.is_reliable()) => {
                fragments += 1;
            }
            Frame::Ping(_) => pings += 1,
            _ => {}
        }
    }
    (fragments, pings)
}

/// A client that sends to a host. Packets are lost in one direction.
struct Run {
    client: Connection,
    host: Connection,
    late: Vec<(Timestamp, Lane, Bytes)>,
    now: Timestamp,
    random: u64,
    dropped: u64,
    pings: u64,
}

impl Run {
    fn new(direct: bool, seed: u64) -> Self {
        let (mut client, mut host) = Connection::pair(ConnectionConfig::default(), ConnectionConfig::default(), START);
        if direct {
            client.path_up(Path::Direct, START);
            host.path_up(Path::Direct, START);
        }
        Self { client, host, late: Vec::new(), now: START, random: seed | 1, dropped: 0, pings: 0 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below.max(1)
    }

    /// Runs one frame of the game: `sends` messages, `loss` percent of packets lost, and others late.
    fn frame(&mut self, sends: u64, size: usize, loss: u64, delay: u64) {
        self.now += FRAME;
        for index in 0..sends {
            let channel = if index % 2 == 0 { Channel::Unreliable } else { Channel::UnreliableSequenced };
            self.client.send(channel, Payload::Binary(Bytes::from(vec![7; size]))).unwrap();
        }
        for lane in Lane::ALL {
            while let Some(packet) = self.client.poll_transmit(lane, 16 << 10, self.now) {
                let (fragments, _) = contents(&self.host, lane, &packet);
                if fragments > 0 && self.random(100) < loss {
                    self.dropped += fragments;
                    continue;
                }
                let delay = if fragments > 0 { self.random(delay + 1) } else { 0 };
                self.late.push((self.now + Duration::from_millis(delay), lane, packet));
            }
            while let Some(packet) = self.host.poll_transmit(lane, 16 << 10, self.now) {
                self.pings += contents(&self.client, lane, &packet).1;
                self.client.receive(lane, packet, self.now);
            }
        }
        let now = self.now;
        let (due, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|parcel| parcel.0 <= now);
        self.late = late;
        for (_, lane, packet) in due {
            self.host.receive(lane, packet, now);
        }
        while self.host.poll_event().is_some() {
            self.host.consumed(size + MESSAGE_OVERHEAD);
        }
        while self.client.poll_event().is_some() {}
        self.client.handle_timeout(now);
        self.host.handle_timeout(now);
    }

    fn seconds(&mut self, seconds: u64, size: usize, loss: u64, delay: u64) {
        for _ in 0..seconds * 60 {
            self.frame(2, size, loss, delay);
        }
    }

    fn lost(&self) -> u64 {
        self.client.stats().unreliable_lost
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_sender_learns_exactly_what_was_lost(
        direct in any::<bool>(),
        seed in any::<u64>(),
        size in prop_oneof![4 => 1_usize..900, 1 => 900_usize..6000],
        loss in prop_oneof![1 => Just(0_u64), 3 => 1_u64..60],
        delay in 0_u64..400,
    ) {
        let mut run = Run::new(direct, seed);
        run.seconds(6, size, loss, delay);
        run.seconds(5, size, 0, delay);
        prop_assert_eq!(run.lost(), run.dropped);
        prop_assert_eq!(run.host.stats().unreliable_lost, 0);
        prop_assert!(run.pings <= 11 + 2, "{} pings in 11 s", run.pings);
    }
}

#[test]
fn losses_are_reported_while_they_happen() {
    for direct in [false, true] {
        let mut run = Run::new(direct, 7);
        let mut dropped = vec![0; 3];
        for second in 0..8 {
            run.seconds(1, 100, 30, 0);
            // A fragment may be up to a second late, and losses are reported once a second.
            assert!(run.lost() >= dropped[second] && run.lost() <= run.dropped, "{} after {second} s", run.lost());
            dropped.push(run.dropped);
        }
    }
}

#[test]
fn late_fragments_are_no_longer_counted_as_lost() {
    let mut run = Run::new(true, 7);
    run.seconds(1, 100, 0, 0);
    run.frame(2, 100, 0, 0);
    let held: Vec<_> = {
        run.client.send(Channel::Unreliable, Payload::Binary(Bytes::from_static(b"late"))).unwrap();
        std::iter::from_fn(|| run.client.poll_transmit(Lane::DirectUnreliable, 16 << 10, run.now)).collect()
    };
    run.seconds(3, 100, 0, 0);
    assert_eq!(run.lost(), 1);
    for packet in held {
        run.host.receive(Lane::DirectUnreliable, packet, run.now);
    }
    run.seconds(3, 100, 0, 0);
    assert_eq!(run.lost(), 0);
}
