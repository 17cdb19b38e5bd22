//! Packets of an open connection, in and out.

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

/// So much may be received without an acknowledgement.
const ACK_BYTES: usize = 64 << 10;
/// An acknowledgement of what comes over the reliable data channel waits for such a pause, and no longer than
/// [`DIRECT_ACK`]. The channel loses nothing while it is there, so its sender only keeps what it sent for the path that
/// may follow, and an acknowledgement alone costs as much as a message. The pause is shorter than the sender's patience,
/// which is four times [`ACK_DELAY`](super::ACK_DELAY).
const DIRECT_PAUSE: Duration = Duration::from_millis(150);
const DIRECT_ACK: Duration = Duration::from_secs(1);
/// A packet of the unreliable lane, at most: what WebRTC sends in one datagram. It cuts what is larger into several, and
/// all are lost with one. What did arrive then stays in the receiver's buffer for good, until that is full and the path
/// stands still.
const DATAGRAM: usize = 1160;
/// The payload of a fragment in such a packet: what its headers and a heartbeat leave. Receivers take no fragments of less
/// than 1 KiB.
const DATAGRAM_FRAGMENT: usize = DATAGRAM - 56;
/// How often the end is said until it is confirmed.
const CLOSE_RETRY: Duration = Duration::from_millis(250);
/// So long at least we wait for what the peer sent before its end, once it says its end no more.
const MISSING: Duration = Duration::from_secs(2);

impl Connection {
    /// Takes a packet that came over a lane. What comes from a stranger, too late or twice does no harm; a peer that
    /// breaks the rules is [closed](super::ConnectionEvent::Closed).
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
            // Until the host has proven itself again, this may be a stranger who took its id.
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

    /// A client that gives up while it joins says goodbye, so that nobody waits for it.
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

    /// Our confirmation of the peer's end was lost.
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
            let (pause, patience) = match lane {
                Lane::DirectReliable => (DIRECT_PAUSE, DIRECT_ACK),
                _ => (super::ACK_DELAY, super::ACK_DELAY),
            };
            let latest = self.ack.latest.unwrap_or(Timestamp::MAX).min(now + patience);
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
                    // Repeated as long as the peer still sends what comes before it. It may have given that up since.
                    let close = PeerClose { ends, reason, until: now + self.config.timeout.max(MISSING), path };
                    self.peer_close = Some(close);
                    // Tells the peer what is missing.
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

    /// Applies an acknowledgement. One of a packet or fragment that was never sent is a violation.
    pub(super) fn on_ack(&mut self, ack: &Ack<'_>) -> Result<(), Violation> {
        let never_sent = ack.largest.iter().any(|largest| *largest >= self.next_packet);
        if never_sent || self.out.acked(ack).is_err() {
            return Err(Violation::Protocol("an acknowledgement of what was never sent"));
        }
        Ok(())
    }

    /// The peer's end is ours when everything before it is here.
    fn check_peer_close(&mut self) {
        if let (State::Open { .. }, Some(close)) = (&self.state, &self.peer_close)
            && self.inc.reached(&close.ends)
        {
            let (reason, path) = (close.reason.clone(), close.path);
            self.close_ack[path] = true;
            self.finish(reason);
        }
    }

    /// The next packet for a lane, of at most `limit` bytes, which must be at least
    /// [`MIN_PACKET_LIMIT`](super::MIN_PACKET_LIMIT). `None`: nothing to send there now. To be called again until then,
    /// after anything else was called; over the relay when no POST is on its way, so that more messages share one.
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
                // It may be lost: the reliable lane says it again when it is due.
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
        // On the reliable lane they would wait for what is sent again, and measure that instead of the way.
        let pong = lane == Lane::Relay && self.write_heartbeats(&mut writer, path, now);
        if lane == Lane::DirectReliable && self.out.in_flight(path) && self.live.probe_is_wanted() && writer.ping(PROBE)
        {
            self.live.probe_sent();
        }
        if self.ack_belongs(path, pong, now) && self.write_ack(&mut writer) {
            self.ack = AckTimer::default();
        }
        if contents.messages && lane == Lane::Relay {
            // Half of a packet at most, while reliable messages wait too.
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

    /// `true`: an answer is among them.
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

    /// An acknowledgement travels with every pong, with anything else when one is due soon, and alone when it is due.
    fn ack_belongs(&self, path: Path, with_pong: bool, now: Timestamp) -> bool {
        let is_main = self.live.active() == Some(path);
        let due = self.ack.now || self.ack.due.is_some_and(|due| now >= due);
        with_pong || is_main && (due || self.ack.due.is_some() && self.out.sendable(self.contents(path)))
    }

    /// On every path: the one in use may be dead without our knowing it.
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
