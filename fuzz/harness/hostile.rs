//! A peer, or a stranger, that sends what it likes: no panic, bounded memory, one end.

use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use uhst_proto::{
    connection::{Connection, ConnectionEvent, Lane, MESSAGE_OVERHEAD, MIN_PACKET_LIMIT, Path, Received, Timestamp},
    protocol::{
        Channel, EndReason, Payload, Tag,
        frame::{Close, Data, PacketWriter, Stream},
    },
};

use super::{
    connection::{START, small, unconnected},
    source::Source,
};

/// More steps are not worth the time.
const MAX_STEPS: usize = 200;

/// What one peer may cost with these limits: 80 KiB of messages, 512 KiB of signals and 256 KiB of parts on each of the
/// unreliable channels wait, each within a packet of at most eight times its size.
const MEMORY: u64 = 12 << 20;

pub fn run(bytes: &[u8]) {
    let memory = measure(|| drive(bytes)).bytes_max;
    assert!(memory < MEMORY, "{memory} bytes of memory");
}

fn drive(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut victim = Victim::new(source.u8());
    for _ in 0..MAX_STEPS {
        if source.is_empty() {
            break;
        }
        victim.step(&mut source);
        victim.pump();
    }
    victim.connection.abort(EndReason::Left);
    victim.reading = true;
    victim.pump();
    assert_eq!(victim.ends, 1);
    assert_eq!(victim.connection.next_timeout(), None);
}

struct Victim {
    connection: Connection,
    /// An honest peer: what it says reaches the victim as the bytes decide.
    other: Connection,
    said: Vec<(Lane, Bytes)>,
    now: Timestamp,
    reading: bool,
    unread: usize,
    ends: usize,
    /// For packets, and for fragments.
    number: u64,
}

impl Victim {
    fn new(how: u8) -> Self {
        let (client, host) = if how & 2 == 0 { Connection::pair(small(), small(), START) } else { unconnected() };
        let (connection, other) = if how & 1 == 0 { (client, host) } else { (host, client) };
        let reading = how & 4 == 0;
        Self { connection, other, said: Vec::new(), now: START, reading, unread: 0, ends: 0, number: 0 }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.u8() % 18 {
            0 => {
                let (lane, length) = (lane(source), source.u8());
                self.receive(lane, Bytes::copy_from_slice(source.bytes(length.into())));
            }
            1..4 => self.fragments(source),
            4 => self.ack(source),
            5 => self.control(source),
            6 => {
                let length = source.u8();
                let packet = [&[0], source.bytes(length.into())].concat();
                self.receive(Lane::Relay, packet.into());
            }
            7 => {
                let length = source.u8();
                let packet = [&[0, 6], source.bytes(length.into())].concat();
                let _ = self.connection.resume(packet.into(), self.now);
            }
            8 => self.pass(u64::from(source.u16() % 2000)),
            9 => self.reading = source.bool(),
            10 => {
                let (channel, size) = (source.u8(), usize::from(source.u16()) % (49 << 10));
                let payload = Payload::Binary(Bytes::from(vec![7; size]));
                let _ = self.connection.send(Channel::ALL[usize::from(channel) % 4], payload);
            }
            11 => {
                let _ = self.connection.send_signal(Bytes::from(vec![7; usize::from(source.u16())]));
            }
            12 => {
                let path = if source.bool() { Path::Direct } else { Path::Relay };
                match source.u8() % 3 {
                    0 => self.connection.path_down(path, self.now),
                    _ => self.connection.path_up(path, self.now),
                }
            }
            13 => self.connection.lost_in_flight(lane(source)),
            14 => match source.u8() % 8 {
                0 => self.connection.close(EndReason::Left, self.now),
                1 => self.connection.refuse(EndReason::Full, self.now),
                _ => self.connection.admit(self.now),
            },
            15 => {
                let (reroute, time) = (source.bool(), u64::from(source.u8()));
                if reroute {
                    self.other.path_down(Path::Relay, self.now);
                    self.other.path_up(Path::Relay, self.now);
                }
                self.other.handle_timeout(self.now + Duration::from_millis(time));
                self.other.admit(self.now);
                let _ = self.other.send(Channel::Reliable, "honest".into());
                self.listen();
            }
            _ => self.replay(source),
        }
    }

    fn receive(&mut self, lane: Lane, packet: Bytes) {
        self.connection.receive(lane, packet, self.now);
    }

    fn write(&mut self, source: &mut Source<'_>, write: impl FnOnce(&mut PacketWriter)) {
        self.number = if source.bool() { 1 + source.number() } else { self.number + 1 };
        let lane = lane(source);
        let mut writer = PacketWriter::new(self.number.max(1), 128 << 10, 0);
        write(&mut writer);
        if let Some(packet) = writer.finish() {
            // The peer owns the keys, once there are some.
            let sealed = self.connection.seal_as_peer(&packet).filter(|_| lane == Lane::Relay);
            self.receive(lane, sealed.unwrap_or(packet));
        }
    }

    /// Many fragments that are almost right.
    fn fragments(&mut self, source: &mut Source<'_>) {
        let (stream, flags, count) = (source.u8(), source.u8(), 1 + u64::from(source.u8()));
        let (start, stride) = (source.number(), 1 + u64::from(source.u8() % 4));
        let size = match source.u16() {
            size if size % 4 == 0 => 0,
            size => usize::from(size) % (16 << 10),
        };
        let each = source.bool();
        let payload = Bytes::from(vec![if flags & 8 == 0 { b'a' } else { 0xff }; size]);
        let stream = match stream % 5 {
            4 => Stream::Signal,
            channel => Stream::Channel(Channel::ALL[usize::from(channel)]),
        };
        let fragment = |n: u64| Data {
            stream,
            number: start.saturating_add(n * stride).min((1 << 62) - 1),
            first: flags & 1 == 1 && (n == 0 || flags & 16 == 0),
            last: flags & 2 == 2,
            text: flags & 4 == 4,
            tag: if flags & 64 == 0 { Tag::Untyped } else { Tag::Typed(flags.into()) },
            payload: payload.clone(),
        };
        if each {
            for n in 0..count {
                self.write(&mut Source::new(&[]), |writer| {
                    writer.data(&fragment(n));
                });
                self.pump();
            }
        } else {
            self.write(source, |writer| {
                (0..count).all(|n| writer.data(&fragment(n)));
                if flags & 32 != 0 {
                    // A large packet around little.
                    while writer.pong(1) {}
                }
            });
        }
    }

    fn ack(&mut self, source: &mut Source<'_>) {
        let (grant, largest) = (source.number(), [source.number(), source.number()]);
        let mut ranges = Vec::new();
        let next = source.number();
        let mut end = next;
        for _ in 0..source.u8() % 65 {
            let start = end + 1 + u64::from(source.u8());
            end = start + 1 + u64::from(source.u8());
            ranges.push((start, end));
        }
        let others = (source.number(), source.number());
        self.write(source, |writer| {
            writer.ack(grant, largest, [(next, &ranges), (others.0, &[]), (others.1, &[])]);
        });
    }

    fn control(&mut self, source: &mut Source<'_>) {
        let (kind, token) = (source.u8(), source.number());
        let close = Close { ends: [token, source.number(), 0], reason: EndReason::Left };
        self.write(source, |writer| {
            match kind % 5 {
                0 => writer.ping(token),
                1 => writer.pong(token),
                2 => writer.blocked(),
                3 => writer.close_ack(),
                _ => writer.close(&close),
            };
        });
    }

    /// Keeps what the honest peer says.
    fn listen(&mut self) {
        while self.other.poll_event().is_some() {}
        for lane in Lane::ALL {
            while let Some(packet) = self.other.poll_transmit(lane, MIN_PACKET_LIMIT, self.now) {
                self.said.push((lane, packet));
            }
        }
        let old = self.said.len().saturating_sub(16);
        self.said.drain(..old);
    }

    /// Brings something that was said, or something like it.
    fn replay(&mut self, source: &mut Source<'_>) {
        let (index, flip) = (usize::from(source.u8()), source.u8());
        let Some((lane, packet)) = self.said.get(index % self.said.len().max(1)).cloned() else { return };
        let mut bytes = packet.to_vec();
        if flip != 0 {
            let at = usize::from(source.u8()) % bytes.len();
            bytes[at] ^= flip;
        }
        let packet = Bytes::from(bytes);
        if self.connection.resume(packet.clone(), self.now).is_err() {
            self.receive(lane, packet);
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.connection.handle_timeout(self.now);
        let next = self.connection.next_timeout();
        assert!(next.is_none_or(|next| next > self.now), "a timeout that does not pass: {next:?} at {:?}", self.now);
    }

    fn pump(&mut self) {
        for lane in Lane::ALL {
            for packets in 0.. {
                assert!(packets < 1000, "endless packets: {:?}", self.connection.stats());
                let Some(packet) = self.connection.poll_transmit(lane, MIN_PACKET_LIMIT, self.now) else { break };
                assert!(packet.len() <= MIN_PACKET_LIMIT);
                if lane == Lane::Relay {
                    self.other.receive(lane, packet, self.now);
                }
            }
        }
        self.listen();
        let stats = self.connection.stats();
        assert!(stats.unconsumed <= 2 * small().receive_buffer, "{stats:?}");
        assert!(stats.queued <= small().send_buffer + (300 << 10), "{stats:?}");
        while self.reading
            && let Some(event) = self.connection.poll_event()
        {
            assert_eq!(self.ends, 0, "{event:?} after the end");
            match event {
                ConnectionEvent::Message(Received { payload, .. }) => self.unread += payload.len() + MESSAGE_OVERHEAD,
                ConnectionEvent::Closed(_) => self.ends += 1,
                _ => {}
            }
        }
        if self.reading && self.unread > 0 {
            self.connection.consumed(self.unread);
            self.unread = 0;
        }
    }
}

fn lane(source: &mut Source<'_>) -> Lane {
    Lane::ALL[usize::from(source.u8() % 3)]
}
