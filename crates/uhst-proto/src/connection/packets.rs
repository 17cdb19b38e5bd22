//! Packets of an open connection: receiving and sending.

use bytes::Bytes;

use super::{
    Connection, Lane, Path, Timestamp,
    connection::{AckTimer, Closing, PeerClose, State},
    incoming::compact_events,
    liveness::PROBE,
    receive::Violation,
};
use crate::protocol::{
    PathPolicy,
    frame::{Ack, Close, FRAGMENT, Frame, Frames, PacketWriter, Stream},
};

use core::time::Duration;

/// The bytes that may be received before an acknowledgement is sent.
const ACK_BYTES: usize = 64 << 10;
/// An acknowledgement of data on the reliable data channel waits for a pause of this length, but no longer than
/// [`DIRECT_ACK`]. That channel loses nothing while it is up: its sender keeps data only for a later path, and a
/// separate acknowledgement costs as much as a message. The pause is shorter than the sender's probe timeout, which is
/// at least four times [`ACK_DELAY`](super::ACK_DELAY).
const DIRECT_PAUSE: Duration = Duration::from_millis(150);
const DIRECT_ACK: Duration = Duration::from_secs(1);
/// The largest packet of the unreliable lane: what WebRTC sends in one datagram. WebRTC splits larger packets, and one
/// lost part loses the packet. The parts that arrived then stay in the receiver's buffer until it is full and the path
/// stalls.
const DATAGRAM: usize = 1160;
/// The payload of a fragment in such a packet, which leaves room for headers and a heartbeat. Receivers reject
/// fragments of less than 1 KiB.
const DATAGRAM_FRAGMENT: usize = DATAGRAM - 56;
/// How often the close is repeated until the peer confirms it.
const CLOSE_RETRY: Duration = Duration::from_millis(250);
/// The minimum time to wait for data sent before the peer's close, after the last copy of that close.
const MISSING: Duration = Duration::from_secs(2);

impl Connection {
    /// Processes a packet that arrived over a lane. Packets that are late, duplicated or from an unknown peer do no
    /// harm. A peer that violates the protocol is [closed](super::ConnectionEvent::Closed).
    pub fn receive(&mut self, lane: Lane, packet: Bytes, now: Timestamp) {
        self.stats.packets_received += 1;
        self.stats.bytes_received += packet.len() as u64;
        if packet.first() == Some(&0) {
            if lane == Lane::Relay {
                self.handshake_packet(&packet, now);
            }
            return;
        }
        match &mut self.state {
            // Until the resumption is proven, another host may have taken the id.
            State::Open { .. } | State::Closing(_) if lane == Lane::Relay && self.resuming.is_some() => {}
            State::Open { handshake } => {
                *handshake = None;
                self.frames(lane, &packet, now);
            }
            State::Closing(_) => self.frames(lane, &packet, now),
            State::Joining(handshake) if lane == Lane::Relay => handshake.repeat_proof(now),
            State::Authenticating(_) | State::Deciding(_) if lane == Lane::Relay => self.joiner_left(&packet),
            State::Closed => self.close_ack[lane.path()] |= self.peer_close_again(&packet),
            _ => {}
        }
    }

    /// Ends a join request when the client gives up.
    fn joiner_left(&mut self, packet: &Bytes) {
        let Ok(mut frames) = Frames::new(packet) else { return };
        let reason = frames.find_map(|frame| match frame {
            Ok(Frame::Close(close)) => Some(close.reason),
            _ => None,
        });
        if let Some(reason) = reason {
            self.finish(reason);
        }
    }

    /// Whether the packet repeats the peer's close, which shows that our confirmation was lost.
    fn peer_close_again(&self, packet: &Bytes) -> bool {
        Frames::new(packet).is_ok_and(|mut frames| frames.any(|frame| matches!(frame, Ok(Frame::Close(_)))))
    }

    fn frames(&mut self, lane: Lane, packet: &Bytes, now: Timestamp) {
        let path = lane.path();
        let frames = match Frames::new(packet) {
            Ok(frames) => frames,
            Err(_) => return self.violated(Violation::Protocol("a packet without a number"), now),
        };
        self.live.received(path, now);
        self.on_peer_packet(path, now);
        self.paths_changed(now);
        if lane != Lane::DirectUnreliable {
            let largest = &mut self.received[path];
            *largest = frames.number().max(*largest);
        }
        let known = self.events.len();
        let mut must_ack = false;
        for frame in frames {
            let result = match frame {
                Ok(Frame::Data(data)) => {
                    if !matches!(self.state, State::Open { .. }) {
                        continue;
                    }
                    let is_message = data.stream != Stream::Signal;
                    if is_message && path == Path::Relay && self.paths == PathPolicy::DirectOnly {
                        self.violated(Violation::Protocol("a message over the relay, which may carry none"), now);
                        break;
                    }
                    must_ack |= match data.stream {
                        Stream::Channel(channel) => channel.is_reliable(),
                        Stream::Signal => true,
                    };
                    self.inc.receive(data, packet.len(), &mut self.events)
                }
                Ok(frame) => self.control(frame, path, now),
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
        if self.losses.count(self.inc.unreliable(), now) {
            self.live.want_ping();
        }
        if must_ack {
            self.ack.bytes += packet.len();
            self.ack.now |= self.ack.bytes >= ACK_BYTES;
            let (pause, max_delay) = match lane {
                Lane::DirectReliable => (DIRECT_PAUSE, DIRECT_ACK),
                _ => (super::ACK_DELAY, super::ACK_DELAY),
            };
            let latest = self.ack.latest.unwrap_or(Timestamp::MAX).min(now + max_delay);
            (self.ack.latest, self.ack.due) = (Some(latest), Some(latest.min(now + pause)));
        }
        self.check_peer_close();
    }

    fn control(&mut self, frame: Frame<'_>, path: Path, now: Timestamp) -> Result<(), Violation> {
        match frame {
            Frame::Ack(ack) => {
                self.on_ack(&ack)?;
                self.replay_guard.acked(ack.largest[Path::Relay as usize]);
                self.drain_advanced(now);
            }
            Frame::Ping(token) => {
                self.losses.ping(token);
                self.live.ping_received(path, token, now);
            }
            Frame::Pong(token) => self.live.pong_received(path, token, now),
            Frame::Close(Close { ends, reason }) => match &self.state {
                State::Closing(closing) => {
                    let reason = closing.reason.clone();
                    self.close_ack[path] = true;
                    self.finish(reason);
                }
                _ => {
                    // The peer repeats its close while it sends the data before it. It stops when it has given up on
                    // that data.
                    let close = PeerClose { ends, reason, until: now + self.config.timeout.max(MISSING), path };
                    self.peer_close = Some(close);
                    // The acknowledgement shows the peer what is missing.
                    self.ack.now = true;
                }
            },
            Frame::CloseAck => {
                if let State::Closing(Closing { reason, .. }) = &self.state {
                    let reason = reason.clone();
                    self.finish(reason);
                }
            }
            Frame::Blocked => {
                self.inc.peer_is_blocked();
                self.ack.now |= self.inc.grant_is_due();
            }
            Frame::Data(_) => {}
        }
        Ok(())
    }

    /// Applies an acknowledgement. Acknowledging a packet or fragment that was never sent is a violation.
    pub(super) fn on_ack(&mut self, ack: &Ack<'_>) -> Result<(), Violation> {
        let never_sent = ack.largest.iter().any(|largest| *largest >= self.next_packet);
        if never_sent || self.out.acked(ack).is_err() {
            return Err(Violation::Protocol("an acknowledgement of what was never sent"));
        }
        Ok(())
    }

    /// Applies the peer's close once everything sent before it has arrived.
    fn check_peer_close(&mut self) {
        if let (State::Open { .. }, Some(close)) = (&self.state, &self.peer_close)
            && self.inc.reached(&close.ends)
        {
            let (reason, path) = (close.reason.clone(), close.path);
            self.close_ack[path] = true;
            self.finish(reason);
        }
    }

    /// Returns the next packet for a lane, of at most `limit` bytes, or `None` if there is nothing to send. `limit`
    /// must be at least [`MIN_PACKET_LIMIT`](super::MIN_PACKET_LIMIT).
    ///
    /// Call it after every other call, until it returns `None`. On the relay lane, call it only while no POST is in
    /// flight, so that more messages share one.
    #[must_use]
    pub fn poll_transmit(&mut self, lane: Lane, limit: usize, now: Timestamp) -> Option<Bytes> {
        let packet = match lane {
            Lane::Relay => self.poll_handshake(now).or_else(|| self.packet(lane, limit, now)),
            _ => self.packet(lane, limit, now),
        }?;
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += packet.len() as u64;
        Some(packet)
    }

    fn poll_handshake(&mut self, now: Timestamp) -> Option<Bytes> {
        if !self.live.is_up(Path::Relay) {
            return None;
        }
        if let State::Joining(handshake) = &mut self.state {
            handshake.retry.is_due().then_some(())?;
            handshake.retry.sent(now);
            return Some(handshake.packet());
        }
        if let Some(resuming) = &mut self.resuming
            && resuming.retry.is_due()
        {
            resuming.retry.sent(now);
            resuming.tries += 1;
            return self.resumption();
        }
        self.last_answer = self.answer.take();
        self.last_answer.clone()
    }

    fn packet(&mut self, lane: Lane, limit: usize, now: Timestamp) -> Option<Bytes> {
        let path = lane.path();
        let open = matches!(self.state, State::Open { .. } | State::Closing(_));
        let usable = self.live.is_up(path) && !(lane == Lane::Relay && self.resuming.is_some());
        if self.final_close.is_none() && !(usable && (open || self.close_ack[path])) {
            return None;
        }
        let contents = self.contents(path);
        if lane == Lane::DirectUnreliable {
            let waiting = if contents.messages { self.out.unreliable.cost() } else { 0 };
            let mut writer = PacketWriter::new(self.next_packet, limit.min(DATAGRAM), waiting + 64);
            if open && self.write_heartbeats(&mut writer, path, now) {
                // This copy may be lost. The reliable lane sends another when it is due.
                self.write_ack(&mut writer);
            }
            if contents.messages {
                self.out.unreliable.write(&mut writer, DATAGRAM_FRAGMENT, 0);
            }
            return self.finish_packet(writer);
        }
        let mut writer = PacketWriter::new(self.next_packet, limit, self.out.ready(limit, contents) + 64);
        if self.close_ack[path] && writer.close_ack() {
            self.close_ack[path] = false;
        }
        if !open {
            self.write_final_close(&mut writer, path);
            return self.finish_packet(writer);
        }
        // On the reliable lane, heartbeats would wait behind retransmissions and measure these.
        let pong = lane == Lane::Relay && self.write_heartbeats(&mut writer, path, now);
        if lane == Lane::DirectReliable && self.out.in_flight(path) && self.live.probe_is_wanted() && writer.ping(PROBE)
        {
            self.live.probe_sent();
        }
        if self.ack_belongs(path, pong, now) && self.write_ack(&mut writer) {
            self.ack = AckTimer::default();
        }
        if contents.messages && lane == Lane::Relay {
            // Unreliable messages take at most half of the packet while reliable ones are queued.
            self.out.unreliable.write(&mut writer, FRAGMENT, limit / 2);
        }
        if self.out.write_reliable(&mut writer, path, contents) {
            self.live.reliable_sent(path, now);
        }
        if contents.messages && lane == Lane::Relay {
            self.out.unreliable.write(&mut writer, FRAGMENT, 0);
        }
        self.write_close(&mut writer, path, now);
        self.finish_packet(writer)
    }

    /// Writes the heartbeats that are due. Returns whether a pong is among them.
    fn write_heartbeats(&mut self, writer: &mut PacketWriter, path: Path, now: Timestamp) -> bool {
        let pong = self.live.pong(path).filter(|token| writer.pong(*token));
        if pong.is_some() {
            self.live.pong_sent(path);
        }
        if self.live.ping_is_wanted(path) {
            let token = self.losses.token(self.live.next_number());
            if writer.ping(token) {
                self.live.ping_sent(path, token, now);
            }
        }
        pong.is_some()
    }

    fn write_ack(&mut self, writer: &mut PacketWriter) -> bool {
        let grant = self.inc.report_grant();
        writer.ack(grant, self.received.0, self.inc.states())
    }

    /// Whether to write an acknowledgement: with every pong, with other frames when one is due soon, and alone when it
    /// is due.
    fn ack_belongs(&self, path: Path, with_pong: bool, now: Timestamp) -> bool {
        let is_main = self.live.active() == Some(path);
        let due = self.ack.now || self.ack.due.is_some_and(|due| now >= due);
        with_pong || is_main && (due || self.ack.due.is_some() && self.out.sendable(self.contents(path)))
    }

    /// Writes the close on every path, because the path in use may be dead.
    fn write_close(&mut self, writer: &mut PacketWriter, path: Path, now: Timestamp) {
        let State::Closing(closing) = &mut self.state else { return };
        if closing.retry[path].is_some() || !(closing.immediate.is_some() || self.out.drained()) {
            return;
        }
        let ends = if closing.immediate.is_some() { [0; 3] } else { self.out.ends() };
        if writer.close(&Close { ends, reason: closing.reason.clone() }) {
            closing.retry[path] = Some(now + CLOSE_RETRY);
        }
    }

    fn finish_packet(&mut self, writer: PacketWriter) -> Option<Bytes> {
        let packet = writer.finish()?;
        self.next_packet += 1;
        Some(packet)
    }
}
