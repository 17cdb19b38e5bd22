//! Establishing and resuming a connection: handshake packets, and the game's decision.

use bytes::Bytes;

use super::{
    super::{
        Path, ResumeError, Timestamp, client_handshake::ClientStep, closing::LINGER, host_handshake::HostStep,
        path::PerPath, receive::Violation, resumption::ResumeStep,
    },
    Connection, ConnectionEvent, State,
};
use crate::protocol::{
    EndReason,
    frame::{self, Ack, FrameError, handshake_packet::HandshakePacket},
};

impl Connection {
    /// Host: admits the client. Does nothing if no join request is pending.
    pub fn admit(&mut self, now: Timestamp) {
        let State::Admitting(handshake) = &mut self.state else { return };
        let Some(client) = handshake.admit(self.config.limits(self.paths.policy())) else { return };
        self.set_keys(&client.keys);
        if !self.limit(client.limits) {
            return self.refuse(EndReason::ProtocolError("the client's limits cannot work".into()), now);
        }
        self.answer.set(Some(client.welcome));
        self.admitted_until = now + self.paths.timeout();
        let handshake = match std::mem::replace(&mut self.state, State::Open { handshake: None }) {
            State::Admitting(handshake) => Some(handshake),
            _ => None,
        };
        self.state = State::Open { handshake };
        self.opened(client.metadata, now);
    }

    /// Host: refuses a client that was not admitted yet. The client receives the reason.
    pub fn refuse(&mut self, reason: EndReason, now: Timestamp) {
        if let State::Admitting(handshake) = &self.state {
            self.resumption.set_keys(handshake.keys());
            let refusal = handshake.refusal(&reason);
            let sealed = refusal.sealed.as_ref().filter(|_| handshake.has_proof());
            self.answer.set(Some(sealed.unwrap_or(&refusal.open).clone()));
            self.state = State::Refused { refusal, until: now + LINGER, reason, leaving: false };
        }
    }

    /// Host: returns whether the client waits to be admitted or refused.
    pub fn has_join_request(&self) -> bool {
        matches!(&self.state, State::Admitting(handshake) if !handshake.is_authenticating())
    }

    /// Starts the open connection. `metadata` is that of the peer.
    fn opened(&mut self, metadata: Bytes, now: Timestamp) {
        self.paths.open(metadata, now, &mut self.events);
        self.check_interruption(now);
    }

    /// Host: returns whether the client has yet to confirm the decision. Until then its handshake packets may arrive again on
    /// another route, if the relay was lost meanwhile. Anybody can copy them, so the caller passes them to
    /// [`receive`](Self::receive), sends the [`answer`](Self::answer) to both routes, and moves to the other one when a
    /// packet [is new](Self::is_new) there.
    pub fn is_establishing(&self) -> bool {
        matches!(self.state, State::Admitting(_) | State::Refused { .. } | State::Open { handshake: Some(_) })
    }

    /// Returns whether the peer has sealed this packet after the handshake, and it has not arrived before.
    pub fn is_new(&self, packet: &Bytes) -> bool {
        self.seal.as_ref().is_some_and(|seal| seal.is_new(packet))
    }

    /// Returns a copy of the answer for which [`has_answer`](Self::has_answer).
    pub fn answer(&self) -> Option<Bytes> {
        self.answer.next()
    }

    /// Returns whether the peer waits for an answer to its handshake or its resumption, which is the next packet on the
    /// relay's lane.
    pub fn has_answer(&self) -> bool {
        self.answer.is_waiting()
    }

    /// Processes a handshake or resumption packet.
    pub(super) fn receive_handshake(&mut self, packet: &Bytes, now: Timestamp) {
        let message = match HandshakePacket::read(packet) {
            Ok(message) => message,
            Err(error) => return self.unreadable(&error, now),
        };
        match (&mut self.state, message) {
            (State::Open { .. } | State::Closing(_), message) if self.resumption.is_client() => {
                let step = self.resumption.receive(message);
                self.resume_step(step, now);
            }
            (_, HandshakePacket::Resume { .. }) => self.resume_on_known_route(packet, now),
            (State::Joining(handshake), message) => {
                let step = handshake.receive(packet, message, self.paths.interval(), now);
                self.peer_key = handshake.peer_key();
                self.client_step(step, now);
            }
            (State::Admitting(handshake) | State::Open { handshake: Some(handshake) }, message) => {
                let step = handshake.receive(packet, message, self.paths.policy(), now);
                self.peer_key = handshake.peer_key();
                self.host_step(step, now);
            }
            (State::Refused { refusal, .. }, HandshakePacket::Hello { .. }) => {
                self.answer.set(Some(refusal.open.clone()));
            }
            (State::Refused { refusal, .. }, HandshakePacket::Proof { .. }) => {
                self.answer.set(refusal.sealed.clone());
            }
            _ => {}
        }
    }

    /// Tells a client of another version why it is refused. Other packets that cannot be read are ignored.
    fn unreadable(&mut self, error: &FrameError, now: Timestamp) {
        if let (State::Admitting(handshake), FrameError::Version(_)) = (&self.state, error)
            && handshake.is_authenticating()
        {
            self.refuse(EndReason::ProtocolError(error.to_string()), now);
        }
    }

    fn client_step(&mut self, step: ClientStep, now: Timestamp) {
        match step {
            ClientStep::Continue => {}
            ClientStep::Admitted { keys, limits, metadata } => {
                if !self.limit(limits) {
                    return self.finish(EndReason::ProtocolError("the host's limits cannot work".into()));
                }
                self.set_keys(&keys);
                self.state = State::Open { handshake: None };
                self.opened(metadata, now);
            }
            ClientStep::End(reason) => self.finish(reason),
        }
    }

    fn host_step(&mut self, step: HostStep, now: Timestamp) {
        match step {
            HostStep::Ignore => {}
            HostStep::Answer(answer) => self.answer.set(Some(answer)),
            HostStep::JoinRequest { answer, metadata } => {
                self.answer.set(Some(answer));
                self.events.push_back(ConnectionEvent::JoinRequest { metadata });
            }
            HostStep::RepeatWelcome(welcome) => {
                self.answer.set(Some(welcome));
                // Anybody can repeat the proof, so it does not keep a client alive that has sent nothing since.
                if now < self.admitted_until {
                    self.paths.alive(Path::Relay, now);
                }
            }
            HostStep::Refuse(reason) => self.refuse(reason, now),
            HostStep::End(reason) => self.finish(reason),
        }
    }

    /// Host: processes a [`Resume`](frame::HandshakeKind::Resume) packet of this connection that arrived on a new
    /// route. On the current route, [`receive`](Self::receive) processes it like any other packet. `Ok` means that the
    /// relay path is up, and leads to the sender of this packet from now on.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] if the packet does not resume the connection. Nothing has changed then. Send a
    /// [challenge](ResumeError::Challenge) back to the sender.
    pub fn resume(&mut self, packet: Bytes, now: Timestamp) -> Result<(), ResumeError> {
        if !self.state.is_established() {
            return Err(ResumeError::NotOpen);
        }
        let before = self.resumption.counter();
        let checked = self.resumption.check(&packet, self.acks.next_packet());
        if self.resumption.counter() > before {
            // The packet may be a replay, but the client created it: the client is coming back.
            self.paths.alive(Path::Relay, now);
        }
        let (counter, contents) = checked?;
        let ack = frame::read_ack(&contents).map_err(|_| ResumeError::Malformed)?;
        if let State::Open { handshake } = &mut self.state {
            *handshake = None;
        }
        if self.resumed(&ack, now) {
            let Self { acks, incoming, .. } = self;
            self.answer.set(self.resumption.resumed(counter, |out| acks.put(out, incoming)));
        }
        Ok(())
    }

    /// Handles a resumption on the current route: the client's stream broke and its id stayed, or the client was only
    /// slow.
    fn resume_on_known_route(&mut self, packet: &Bytes, now: Timestamp) {
        match self.resume(packet.clone(), now) {
            Err(ResumeError::Challenge(challenge)) => self.answer.set(Some(challenge)),
            Err(ResumeError::NotOpen) => {
                self.answer.set(self.tombstone().and_then(|tombstone| tombstone.answer(packet)));
            }
            // A late copy, or not a packet of this connection.
            Ok(()) | Err(_) => {}
        }
    }

    fn resume_step(&mut self, step: ResumeStep, now: Timestamp) {
        match step {
            ResumeStep::Continue => {}
            ResumeStep::Resumed(contents) => match frame::read_ack(&contents) {
                Ok(ack) => {
                    self.resumed(&ack, now);
                }
                Err(_) => self.violated(Violation::Protocol("a resumption that cannot be read"), now),
            },
            ResumeStep::Gone(reason) => {
                let ours =
                    if let State::Closing(closing) = &self.state { Some(closing.reason().clone()) } else { None };
                self.finish(ours.unwrap_or(reason));
            }
            // Another host may have the id for a while. It does not end the connection while the host is alive on
            // another path.
            ResumeStep::Unknown if self.is_interrupted() => {
                let reason = self.closes.reason_or(EndReason::HostRestarted);
                self.finish(reason);
            }
            ResumeStep::Unknown => {}
        }
    }

    /// Continues on the relay path, after the peer has proven itself. What it did not acknowledge is sent again.
    /// Returns `false` if the acknowledgement violates the protocol.
    fn resumed(&mut self, ack: &Ack<'_>, now: Timestamp) -> bool {
        if let Err(violation) = self.on_ack(ack, now) {
            self.violated(violation, now);
            return false;
        }
        self.outgoing.lose(Path::Relay);
        self.paths.resumed(now);
        self.paths_changed(now);
        true
    }

    /// Applies an acknowledgement, in a packet of its own or in a resumption.
    ///
    /// # Errors
    ///
    /// A violation if it acknowledges a packet or fragment that was never sent.
    pub(super) fn on_ack(&mut self, ack: &Ack<'_>, now: Timestamp) -> Result<(), Violation> {
        self.acks.on_ack(ack, &mut self.outgoing)?;
        self.resumption.acked(PerPath(ack.largest)[Path::Relay]);
        self.drain_advanced(now);
        Ok(())
    }
}
