//! Establishing and resuming a connection: processes handshake packets, and applies the game's decision.

use bytes::Bytes;

use super::{
    Connection, ConnectionEvent, Path, ResumeError, Timestamp,
    connection::{LINGER, State},
    handshake::{Challenged, Retry},
    path_selection::DirectWait,
    resume::with_state,
};
use crate::protocol::{
    EndReason, PathPolicy,
    frame::{
        self, FrameError,
        handshake_packet::{self, HandshakePacket},
        put_ack,
    },
};

/// How often a client repeats the same resumption request.
const RESUME_TRIES: u32 = 4;

impl Connection {
    /// Host: admits the client. Does nothing if no join request is pending.
    pub fn admit(&mut self, now: Timestamp) {
        let State::Deciding(handshake) = &mut self.state else { return };
        let (limits, metadata) = match handshake.client.take() {
            Some((limits, metadata)) => (limits, metadata),
            None => return,
        };
        let welcome = handshake.welcome(self.config.limits(self.paths));
        self.secret = handshake.secret.clone();
        if !self.limit(limits) {
            return self.refuse(EndReason::ProtocolError("the client's limits cannot work".into()), now);
        }
        let State::Deciding(handshake) = &mut self.state else { return };
        handshake.answer = welcome.clone();
        self.answer = welcome;
        if let State::Deciding(handshake) = std::mem::replace(&mut self.state, State::Closed) {
            self.state = State::Open { handshake: Some(handshake) };
        }
        self.opened(metadata, now);
    }

    /// Host: refuses a client that was not admitted yet. The client receives the reason.
    pub fn refuse(&mut self, reason: EndReason, now: Timestamp) {
        if let State::Authenticating(handshake) | State::Deciding(handshake) = &self.state {
            self.secret = handshake.secret.clone();
            let answer = frame::refusal(&reason);
            self.answer = Some(answer.clone());
            self.state = State::Refused { answer, until: now + LINGER, reason };
        }
    }

    fn opened(&mut self, metadata: Bytes, now: Timestamp) {
        if self.live.is_up(Path::Relay) {
            self.live.path_up(Path::Relay, true, now);
        }
        self.live.alive(Path::Relay, now);
        self.announced = Some(Path::Relay);
        if self.paths == PathPolicy::DirectOnly {
            self.direct_wait = Some(DirectWait::new(metadata, now));
        } else {
            self.events.push_back(ConnectionEvent::Connected { metadata });
        }
        self.check_interruption(now);
    }

    /// Host: returns whether the client has yet to confirm the decision. Until then its
    /// [`Hello`](crate::protocol::frame::HandshakeKind::Hello) may arrive again on another route, if the relay was lost
    /// meanwhile. The caller then passes it to [`receive`](Self::receive), and sends to the new route.
    pub fn is_establishing(&self) -> bool {
        matches!(
            self.state,
            State::Authenticating(_) | State::Deciding(_) | State::Refused { .. } | State::Open { handshake: Some(_) }
        )
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
        let (Some(secret), false, State::Open { .. } | State::Closing(_)) =
            (self.secret.clone(), self.is_client, &self.state)
        else {
            return Err(ResumeError::NotOpen);
        };
        let before = self.replay_guard.counter();
        let checked = self.replay_guard.check(&packet, secret.id, &secret.key, self.next_packet);
        if self.replay_guard.counter() > before {
            // The packet may be a replay, but the client created it: the client is coming back.
            self.live.alive(Path::Relay, now);
        }
        let (counter, ack) = checked?;
        if let Err(violation) = self.on_ack(&ack) {
            self.violated(violation, now);
            return Ok(());
        }
        self.out.lose(Path::Relay);
        let (grant, states, received) = (self.inc.report_grant(), self.inc.states(), self.received);
        let resumed = handshake_packet::resumed(secret.id, counter);
        self.answer = Some(with_state(resumed, |out| put_ack(out, grant, received.0, states), &secret.key));
        if let State::Open { handshake } = &mut self.state {
            *handshake = None;
        }
        self.live.path_up(Path::Relay, true, now);
        self.on_peer_packet(Path::Relay, now);
        self.paths_changed(now);
        self.drain_advanced(now);
        Ok(())
    }

    /// Handles a resumption on the current route: the client's stream broke and its id stayed, or the client was only
    /// slow.
    fn resumed_on_known_route(&mut self, packet: &Bytes, now: Timestamp) {
        match self.resume(packet.clone(), now) {
            Err(ResumeError::Challenge(challenge)) => self.answer = Some(challenge),
            Err(ResumeError::NotOpen) => self.answer = self.tombstone().and_then(|tombstone| tombstone.answer(packet)),
            // A late copy, or not a packet of this connection.
            Ok(()) | Err(_) => {}
        }
    }

    /// Returns the client's resumption request, or `None` if there is nothing to resume.
    pub(super) fn resumption(&mut self) -> Option<Bytes> {
        let (secret, resuming) = (self.secret.as_ref()?, self.resuming.as_mut()?);
        if resuming.tries > RESUME_TRIES {
            // The host may already have completed this resumption. A new one starts with an empty nonce.
            self.resumptions += 1;
            (resuming.counter, resuming.nonce, resuming.tries) = (self.resumptions, [0; 16], 1);
        }
        let packet = handshake_packet::resume(secret.id, resuming.counter, &resuming.nonce);
        let (grant, states, received) = (self.inc.report_grant(), self.inc.states(), self.received);
        Some(with_state(packet, |out| put_ack(out, grant, received.0, states), &secret.key))
    }

    /// Processes a handshake or resumption packet.
    pub(super) fn handshake_packet(&mut self, packet: &Bytes, now: Timestamp) {
        let message = match HandshakePacket::read(packet) {
            Ok(message) => message,
            Err(error) => {
                if let (State::Authenticating(_), FrameError::Version(_)) = (&self.state, error) {
                    self.refuse(EndReason::ProtocolError(error.to_string()), now);
                }
                return;
            }
        };
        match (&mut self.state, message) {
            (State::Authenticating(handshake), HandshakePacket::Hello(hello)) => {
                if let Some(reason) = handshake.mismatch(&hello) {
                    return self.refuse(reason, now);
                }
                if let Some(challenge) = handshake.answer_hello(packet, &hello) {
                    handshake.last_received = now;
                    self.answer = Some(challenge);
                }
            }
            (State::Deciding(handshake), HandshakePacket::Hello(hello))
            | (State::Open { handshake: Some(handshake) }, HandshakePacket::Hello(hello)) => {
                if let Some(challenge) = handshake.answer_hello(packet, &hello) {
                    handshake.last_received = now;
                    self.answer = Some(challenge);
                }
            }
            (State::Authenticating(handshake), HandshakePacket::Proof { id }) => match handshake.proves(packet, id) {
                Some(true) => {
                    handshake.last_received = now;
                    let theirs = handshake.client.as_ref().map(|(limits, _)| limits.paths).unwrap_or_default();
                    if self.paths.with(theirs).is_none() {
                        let text = "one side allows nothing else, and the other the relay only";
                        return self.refuse(EndReason::NoDirectPath(text.into()), now);
                    }
                    let metadata = handshake.client.as_ref().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
                    self.answer = Some(handshake_packet::pending(id));
                    if let State::Authenticating(handshake) = std::mem::replace(&mut self.state, State::Closed) {
                        self.state = State::Deciding(handshake);
                    }
                    self.events.push_back(ConnectionEvent::JoinRequest { metadata });
                }
                Some(false) => self.refuse(EndReason::WrongPassword, now),
                None => {}
            },
            (State::Deciding(handshake), HandshakePacket::Proof { id })
                if handshake.proves(packet, id) == Some(true) =>
            {
                handshake.last_received = now;
                self.answer = Some(handshake_packet::pending(id));
            }
            (State::Open { handshake: Some(handshake) }, HandshakePacket::Proof { id })
                if handshake.proves(packet, id) == Some(true) =>
            {
                self.answer = handshake.answer.clone();
                self.live.alive(Path::Relay, now);
            }
            (State::Refused { answer, .. }, HandshakePacket::Proof { .. } | HandshakePacket::Hello(_)) => {
                self.answer = Some(answer.clone());
            }
            (State::Joining(handshake), HandshakePacket::Challenge { nonce, id, spake, .. }) => {
                let challenged = handshake.challenged(packet, &nonce, id, &spake, now);
                if challenged == Challenged::Repeated {
                    let text = "the host forgot this attempt to join and asked for the password again: join again";
                    self.finish(EndReason::ProtocolError(text.into()));
                }
            }
            (State::Joining(handshake), HandshakePacket::Pending { id })
                if handshake.secret().is_some_and(|secret| secret.id == id) =>
            {
                handshake.host_answered(now);
                handshake.retry.slow_down(now, self.live.interval());
            }
            (State::Joining(handshake), HandshakePacket::Welcome { id, limits, metadata }) => {
                let Some(secret) = handshake.secret().filter(|secret| secret.id == id).cloned() else { return };
                if !secret.key.opens(&secret.transcript, packet) {
                    let text = "the host could not prove that it knows the password";
                    return self.finish(EndReason::ProtocolError(text.into()));
                }
                if !self.limit(limits) {
                    return self.finish(EndReason::ProtocolError("the host's limits cannot work".into()));
                }
                self.secret = Some(secret);
                self.state = State::Open { handshake: None };
                self.opened(metadata, now);
            }
            (State::Joining(_), HandshakePacket::Refusal { reason }) => self.finish(reason),
            (State::Open { .. } | State::Closing(_), message) if self.is_client => {
                self.resumption_answered(packet, &message, now);
            }
            (_, HandshakePacket::Resume { .. }) => self.resumed_on_known_route(packet, now),
            _ => {}
        }
    }

    /// Processes the host's answer to a resumption. Only answers with a valid MAC count, because another host may have
    /// taken the id.
    fn resumption_answered(&mut self, packet: &Bytes, message: &HandshakePacket<'_>, now: Timestamp) {
        let (Some(secret), Some(resuming)) = (&self.secret, &mut self.resuming) else { return };
        if let HandshakePacket::Unknown { id, counter, nonce } = message {
            let asked = *id == secret.id && (*counter, *nonce) == (resuming.counter, resuming.nonce);
            // Another host may have the id for a while. It does not end the connection while the host is alive on
            // another path.
            if asked && self.is_interrupted() {
                self.finish(EndReason::HostRestarted);
            }
            return;
        }
        let (HandshakePacket::ResumeChallenge { id, counter, .. }
        | HandshakePacket::Resumed { id, counter, .. }
        | HandshakePacket::Gone { id, counter, .. }) = message
        else {
            return;
        };
        if *id != secret.id || *counter != resuming.counter || !secret.key.opens(&[], packet) {
            return;
        }
        match message {
            // A copy of the challenge is ignored.
            HandshakePacket::ResumeChallenge { nonce, .. } if resuming.nonce != *nonce => {
                (resuming.nonce, resuming.retry, resuming.tries) = (*nonce, Retry::new(), 0);
            }
            HandshakePacket::Resumed { ack, .. } => {
                self.resuming = None;
                if let Err(violation) = self.on_ack(ack) {
                    return self.violated(violation, now);
                }
                self.drain_advanced(now);
                self.out.lose(Path::Relay);
                self.live.path_up(Path::Relay, true, now);
                self.on_peer_packet(Path::Relay, now);
                self.paths_changed(now);
            }
            HandshakePacket::Gone { reason, .. } => {
                let ours = if let State::Closing(closing) = &self.state { Some(closing.reason.clone()) } else { None };
                self.finish(ours.unwrap_or_else(|| reason.clone()));
            }
            _ => {}
        }
    }
}
