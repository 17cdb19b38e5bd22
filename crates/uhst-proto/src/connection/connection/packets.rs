//! Packets of a connection: receiving and sending.

use bytes::Bytes;

use super::{
    super::{
        Lane, Path, Timestamp, incoming::compact_events, packet_seal::Unopened, path::PathContents, receive::Violation,
    },
    Connection, State,
};
use crate::protocol::{
    EndReason,
    frame::{self, FRAGMENT, Frame, Frames, PacketWriter, Stream, handshake_packet::TAG},
};

/// The largest packet of the unreliable lane: what WebRTC sends in one datagram. WebRTC splits larger packets, and one
/// lost part loses the packet. The parts that arrived then stay in the receiver's buffer until it is full and the path
/// stalls.
const DATAGRAM: usize = 1160;
/// The payload of a fragment in such a packet, which leaves room for headers and a heartbeat. Receivers reject
/// fragments of less than 1 KiB.
const DATAGRAM_FRAGMENT: usize = DATAGRAM - 56;
/// The capacity of a packet for frames that are not data, and for the tag of a sealed one.
const CONTROL: usize = 64 + TAG;

impl Connection {
    /// Processes a packet that arrived over a lane. Packets that are late, duplicated or from an unknown peer do no
    /// harm. A peer that violates the protocol is [closed](super::ConnectionEvent::Closed).
    pub fn receive(&mut self, lane: Lane, packet: Bytes, now: Timestamp) {
        self.stats.packets_received += 1;
        self.stats.bytes_received += packet.len() as u64;
        if packet.first() == Some(&0) {
            if lane == Lane::Relay {
                self.receive_handshake(&packet, now);
            }
            return;
        }
        if let State::Joining(handshake) = &mut self.state {
            if lane == Lane::Relay {
                handshake.receive_early(packet, now);
            }
            return;
        }
        // Until the resumption is proven, the relay path carries nothing else.
        if lane == Lane::Relay && self.resumption.is_pending() {
            return;
        }
        let Some(packet) = self.open(lane, packet) else { return };
        match &mut self.state {
            State::Open { handshake } => {
                *handshake = None;
                self.receive_frames(lane, &packet, now);
            }
            State::Closing(_) => self.receive_frames(lane, &packet, now),
            // The peer repeats its close, so our confirmation was lost.
            State::Closed(_) if frame::find_close(&packet).is_some() => self.closes.confirm(lane.path()),
            _ => {}
        }
    }

    /// Opens a packet that is sealed because it crossed the relay. `None` if it does not count: anybody may have made it, or
    /// it arrived before.
    fn open(&mut self, lane: Lane, packet: Bytes) -> Option<Bytes> {
        if lane != Lane::Relay {
            return Some(packet);
        }
        let opened = self.seal.as_mut()?.open(packet);
        if let Err(unopened) = opened {
            let count = match unopened {
                Unopened::Replayed => &mut self.stats.packets_replayed,
                Unopened::Forged => &mut self.stats.packets_forged,
            };
            *count += 1;
        }
        opened.ok()
    }

    fn receive_frames(&mut self, lane: Lane, packet: &Bytes, now: Timestamp) {
        let Ok(frames) = Frames::new(packet) else {
            return self.violated(Violation::Protocol("a packet without a number"), now);
        };
        self.paths.received(lane.path(), now);
        self.paths_changed(now);
        self.acks.packet_received(lane, frames.number());
        if lane != Lane::Relay
            && let Some(seal) = &mut self.seal
        {
            seal.arrived_directly(frames.number());
        }
        let known = self.events.len();
        let mut must_ack = false;
        for frame in frames {
            let result = match frame {
                Ok(Frame::Data(data)) => {
                    if !self.is_open() {
                        continue;
                    }
                    if data.stream != Stream::Signal && self.paths.forbids_messages(lane.path()) {
                        self.violated(Violation::Protocol("a message over the relay, which may carry none"), now);
                        break;
                    }
                    must_ack |= data.stream.is_reliable();
                    self.incoming.receive(data, packet.len(), &mut self.events)
                }
                Ok(frame) => self.control(frame, lane.path(), now),
                Err(_) => Err(Violation::Protocol("a frame that cannot be read")),
            };
            if let Err(violation) = result {
                self.violated(violation, now);
            }
            if self.is_closed() {
                break;
            }
        }
        compact_events(&mut self.events, known, packet.len());
        self.paths.heartbeats().count_losses(self.incoming.unreliable(), now);
        if must_ack {
            self.acks.data_received(lane, packet.len(), now);
        }
        self.apply_peer_close(lane.path());
    }

    /// Processes a frame that is not data.
    fn control(&mut self, frame: Frame<'_>, path: Path, now: Timestamp) -> Result<(), Violation> {
        match frame {
            Frame::Ack(ack) => self.on_ack(&ack, now)?,
            Frame::Ping(token) => self.paths.heartbeats().ping_received(path, token, now),
            Frame::Pong(token) => self.paths.heartbeats().pong_received(path, token, now),
            Frame::Close(close) => match &self.state {
                // Both sides close at once. Neither takes messages any more.
                State::Closing(closing) => {
                    let reason = closing.reason().clone();
                    self.closes.confirm(path);
                    self.cut();
                    self.finish(reason);
                }
                _ => {
                    self.closes.receive(close, path);
                    // The acknowledgement shows the peer what is missing.
                    self.acks.request();
                }
            },
            Frame::CloseAck => {
                if let State::Closing(closing) = &self.state {
                    let reason = closing.reason().clone();
                    self.finish(reason);
                }
            }
            Frame::Blocked => {
                self.incoming.peer_is_blocked();
                self.report_grant_if_due();
            }
            Frame::Data(_) => {}
        }
        Ok(())
    }

    /// Applies the peer's close once everything sent before it has arrived.
    fn apply_peer_close(&mut self, path: Path) {
        if self.is_open()
            && let Some(reason) = self.closes.arrived(&self.incoming, path)
        {
            self.finish(reason);
        }
    }

    /// Returns the next packet for a lane, of at most `limit` bytes, or `None` if there is nothing to send. `limit`
    /// must be at least [`MIN_PACKET_LIMIT`](super::super::MIN_PACKET_LIMIT).
    ///
    /// Call it after every other call, until it returns `None`. On the relay lane, call it only while no POST is in
    /// flight, so that more messages share one.
    #[must_use]
    pub fn poll_transmit(&mut self, lane: Lane, limit: usize, now: Timestamp) -> Option<Bytes> {
        let packet = match lane {
            Lane::Relay => self.poll_handshake(now).or_else(|| self.poll_packet(lane, limit, now)),
            _ => self.poll_packet(lane, limit, now),
        }?;
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += packet.len() as u64;
        Some(packet)
    }

    fn poll_handshake(&mut self, now: Timestamp) -> Option<Bytes> {
        // The last packet may also wait for a relay that is lost.
        if !self.paths.is_up(Path::Relay) && !self.is_closed() {
            return None;
        }
        if let State::Joining(handshake) = &mut self.state {
            return handshake.poll(now);
        }
        let Self { acks, incoming, .. } = self;
        let request = self.resumption.poll(now, |out| acks.put(out, incoming));
        request.or_else(|| self.answer.take())
    }

    /// Returns a packet of an open, closing or ended connection.
    fn poll_packet(&mut self, lane: Lane, limit: usize, now: Timestamp) -> Option<Bytes> {
        let path = lane.path();
        let is_usable = self.paths.is_up(path) && !(lane == Lane::Relay && self.resumption.is_pending());
        let is_established = self.state.is_established();
        if !(is_usable && is_established || self.closes.is_pending(path, is_usable)) {
            return None;
        }
        let contents = self.paths.contents(path);
        let unreliable = if contents.messages { self.outgoing.unreliable_cost() } else { 0 };
        let (limit, capacity) = match lane {
            Lane::DirectUnreliable => (limit.min(DATAGRAM), unreliable),
            Lane::DirectReliable => (limit, self.outgoing.ready(limit, contents)),
            Lane::Relay => (limit - TAG, self.outgoing.ready(limit - TAG, contents)),
        };
        let number = self.acks.next_packet();
        let mut writer = PacketWriter::new(number, limit, capacity + CONTROL);
        match lane {
            Lane::DirectUnreliable => self.write_datagram(&mut writer, contents, now),
            _ => {
                self.closes.write_confirmation(&mut writer, path);
                if is_established {
                    self.write_reliable_lane(&mut writer, lane, contents, now);
                } else {
                    self.closes.write_last(&mut writer, path);
                }
            }
        }
        let packet = writer.finish_mut()?;
        self.acks.packet_written();
        match (lane, &mut self.seal) {
            (Lane::Relay, Some(seal)) => Some(seal.seal(packet)),
            (Lane::Relay, None) => None,
            (_, seal) => {
                if let Some(seal) = seal {
                    seal.sent_directly(number);
                }
                Some(packet.freeze())
            }
        }
    }

    /// Ends a connection whose keys are used up.
    pub(super) fn check_keys(&mut self) {
        let next = self.acks.next_packet();
        if self.seal.as_ref().is_some_and(|seal| seal.is_exhausted(next)) {
            let text = "the keys of this connection are used up: join again";
            self.finish(EndReason::ProtocolError(text.into()));
        }
    }

    fn write_datagram(&mut self, writer: &mut PacketWriter, contents: PathContents, now: Timestamp) {
        if self.state.is_established() && self.paths.heartbeats().write_heartbeats(writer, Path::Direct, now) {
            // The reliable lane sends another when it is due.
            self.acks.write_copy(writer, &mut self.incoming);
        }
        if contents.messages {
            self.outgoing.write_unreliable(writer, DATAGRAM_FRAGMENT, 0);
        }
    }

    fn write_reliable_lane(&mut self, writer: &mut PacketWriter, lane: Lane, contents: PathContents, now: Timestamp) {
        let path = lane.path();
        // On the reliable data channel, heartbeats would wait behind retransmissions and measure these.
        let has_pong = lane == Lane::Relay && self.paths.heartbeats().write_heartbeats(writer, path, now);
        if lane == Lane::DirectReliable && self.outgoing.in_flight(path) {
            self.paths.heartbeats().write_probe(writer);
        }
        if self.ack_belongs(path, contents, has_pong, now) {
            self.acks.write(writer, &mut self.incoming);
        }
        let carries_unreliable = contents.messages && lane == Lane::Relay;
        if carries_unreliable {
            // Unreliable messages take at most half of the packet while reliable ones are queued.
            self.outgoing.write_unreliable(writer, FRAGMENT, writer.limit() / 2);
        }
        if self.outgoing.write_reliable(writer, path, contents) {
            self.paths.heartbeats().reliable_sent(path, now);
        }
        if carries_unreliable {
            self.outgoing.write_unreliable(writer, FRAGMENT, 0);
        }
        if let State::Closing(closing) = &mut self.state {
            closing.write(writer, path, &self.outgoing, now);
        }
    }

    /// Whether to write an acknowledgement: with every pong, with other frames when one is due soon, and alone when it
    /// is due.
    fn ack_belongs(&self, path: Path, contents: PathContents, with_pong: bool, now: Timestamp) -> bool {
        let is_main = self.paths.active() == Some(path);
        with_pong || is_main && (self.acks.is_due(now) || self.acks.is_scheduled() && self.outgoing.sendable(contents))
    }
}
