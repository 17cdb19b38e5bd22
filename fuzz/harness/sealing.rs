//! A relay between a client and a host that join, talk and part. It drops, changes, repeats, swaps, reflects and invents
//! packets as the input says. No panic, and what arrives is what the other side sent: its metadata, its messages in their
//! order, its reason.

use std::time::Duration;

use bytes::Bytes;
use uhst_proto::{
    connection::{Connection, ConnectionEvent, Lane, MIN_PACKET_LIMIT, Path, Received},
    protocol::{Channel, EndReason, Payload},
};

use super::{
    connection::{START, unconnected},
    source::Source,
};

/// More steps are not worth the time.
const MAX_STEPS: usize = 120;

struct Relay {
    sides: [Connection; 2],
    /// What each side has sent.
    sent: [Vec<Bytes>; 2],
    /// The messages that each side has sent, and how many of them have arrived.
    messages: [u32; 2],
    arrived: [u32; 2],
    now: Duration,
}

pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let (client, host) = unconnected();
    let (sides, sent) = ([client, host], [Vec::new(), Vec::new()]);
    let mut relay = Relay { sides, sent, messages: [0; 2], arrived: [0; 2], now: START };
    for _ in 0..MAX_STEPS {
        if source.is_empty() {
            break;
        }
        relay.step(&mut source);
        relay.collect();
    }
}

impl Relay {
    fn step(&mut self, source: &mut Source<'_>) {
        let (code, side) = (source.u8(), usize::from(source.bool()));
        match code % 12 {
            // The relay does its work.
            0..5 => self.deliver(side, usize::MAX, 1 - side, None),
            5 => {
                let (which, change) = (source.u8().into(), (source.u16().into(), source.u8()));
                self.deliver(side, which, 1 - side, Some(change));
            }
            6 => self.deliver(side, source.u8().into(), 1 - side, None),
            7 => self.deliver(side, source.u8().into(), side, None),
            8 => {
                let length = source.u8();
                let packet = Bytes::copy_from_slice(source.bytes(length.into()));
                let _ = self.sides[side].resume(packet.clone(), self.now);
                self.sides[side].receive(Lane::Relay, packet, self.now);
            }
            9 => {
                self.now += Duration::from_millis(u64::from(source.u16() % 3000));
                self.sides.iter_mut().for_each(|side| side.handle_timeout(self.now));
            }
            10 => {
                self.sides[0].path_down(Path::Relay, self.now);
                self.sides[0].path_up(Path::Relay, self.now);
            }
            _ => match source.u8() % 8 {
                0 => self.sides[side].close(EndReason::Kicked("enough".into()), self.now),
                1..4 => self.sides[1].admit(self.now),
                _ => {
                    let payload = Payload::Binary(self.messages[side].to_be_bytes().to_vec().into());
                    self.messages[side] += u32::from(self.sides[side].send(Channel::Reliable, payload).is_ok());
                }
            },
        }
    }

    /// Delivers a packet of a side, the last one or another, as it is or with one byte changed.
    fn deliver(&mut self, from: usize, which: usize, to: usize, change: Option<(usize, u8)>) {
        let len = self.sent[from].len();
        let Some(packet) = self.sent[from].get(if which < len { which } else { len.wrapping_sub(1) }) else { return };
        let mut bytes = packet.to_vec();
        if let Some((at, flip)) = change {
            let at = at % bytes.len();
            bytes[at] ^= flip;
        }
        let packet = Bytes::from(bytes);
        if self.sides[to].resume(packet.clone(), self.now).is_err() {
            self.sides[to].receive(Lane::Relay, packet, self.now);
        }
    }

    /// Takes what both sides send, and checks what they report.
    fn collect(&mut self) {
        for side in 0..2 {
            while let Some(packet) = self.sides[side].poll_transmit(Lane::Relay, MIN_PACKET_LIMIT, self.now) {
                self.sent[side].push(packet);
            }
            while let Some(event) = self.sides[side].poll_event() {
                self.check(side, event);
            }
        }
    }

    fn check(&mut self, side: usize, event: ConnectionEvent) {
        match event {
            ConnectionEvent::JoinRequest { metadata } => assert_eq!(metadata, "Ada"),
            ConnectionEvent::Connected { metadata } => assert_eq!(metadata, ["Arena", "Ada"][side]),
            ConnectionEvent::Message(Received { payload, .. }) => {
                assert!(self.arrived[side] < self.messages[1 - side], "a message that nobody sent");
                assert_eq!(payload.as_bytes(), self.arrived[side].to_be_bytes());
                self.arrived[side] += 1;
            }
            ConnectionEvent::Signal(_) => panic!("a signal that nobody sent"),
            ConnectionEvent::Closed(EndReason::Kicked(reason)) => assert_eq!(reason, "enough"),
            _ => {}
        }
    }
}
