//! The client's side of the handshake, until the host has decided.

use bytes::Bytes;
use core::time::Duration;

use super::{
    Credentials, Timestamp,
    handshake::{Early, Exchange, RandomSeed, client_exchange, pre_shared_key},
    keys::{LastingKeys, Random, SessionKeys},
    noise::Noise,
    packet_keys::OpeningKeys,
    packet_seal,
    retransmission::Retry,
};
use crate::protocol::{
    EndReason, PathPolicy, PublicKey,
    frame::{
        self,
        handshake_packet::{self, ConnectionId, HandshakePacket, Joiner, Limits, Sealed, Welcome},
    },
};

/// The handshake of a client that is joining.
#[derive(Debug)]
pub(super) struct ClientHandshake {
    credentials: Credentials,
    random: RandomSeed,
    limits: Limits,
    metadata: Bytes,
    hello: Bytes,
    /// The answer to the host's challenge. It survives a restart.
    answered: Option<Answered>,
    /// Whether that answer is sent, and not the hello.
    proves: bool,
    retry: Retry,
    /// Since when the host could have answered.
    waiting_since: Timestamp,
    /// When the host last answered.
    answered_at: Timestamp,
}

/// The answer to a challenge.
#[derive(Debug)]
struct Answered {
    challenge: Bytes,
    proof: Bytes,
    early: Early,
    keys: SessionKeys,
    host: PublicKey,
}

/// What a packet of the host means to a joining client.
#[derive(Debug)]
pub(super) enum ClientStep {
    /// The handshake goes on.
    Continue,
    /// The host admits the client.
    Admitted { keys: SessionKeys, limits: Limits, metadata: Bytes },
    /// The connection ends.
    End(EndReason),
}

impl ClientHandshake {
    pub(super) fn new(
        credentials: Credentials,
        limits: Limits,
        metadata: Bytes,
        seed: RandomSeed,
        now: Timestamp,
    ) -> Self {
        let mut handshake = Self {
            credentials,
            random: seed,
            limits,
            metadata,
            hello: Bytes::new(),
            answered: None,
            proves: false,
            retry: Retry::new(),
            waiting_since: now,
            answered_at: now,
        };
        handshake.hello = handshake.begin().map_or_else(Bytes::new, |(_, _, hello)| hello);
        handshake
    }

    /// Begins the handshake, or restores its beginning. Returns the hello, which is the same each time.
    fn begin(&self) -> Option<(Noise, Exchange, Bytes)> {
        let exchange = client_exchange(&self.credentials, Random::new(&self.random.0, b"spake"));
        let mut noise = Noise::client(&self.credentials.key, Random::new(&self.random.0, b"noise"))?;
        let hello = handshake_packet::hello(&noise.write(&exchange.1)?);
        Some((noise, exchange, hello))
    }

    /// Sets the allowed paths, before the first packet.
    pub(super) fn allow(&mut self, paths: PathPolicy) {
        self.limits.paths = paths;
    }

    /// Starts over on a new path, which may lead to another connection of the same host.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.proves = false;
        self.undelivered(now);
    }

    /// Sends the packet again, because the relay did not deliver it, and gives the host the full time to answer.
    pub(super) fn undelivered(&mut self, now: Timestamp) {
        self.retry = Retry::new();
        self.waiting_since = now;
    }

    /// Records an answer of the host.
    fn host_answered(&mut self, now: Timestamp) {
        (self.waiting_since, self.answered_at) = (now, now);
    }

    /// Excludes a time in which this side was suspended.
    pub(super) fn slept(&mut self, time: Duration) {
        self.waiting_since += time;
        self.answered_at += time;
    }

    /// When the host counts as gone: after `silence` without an answer that it could have given, or after `trouble` if
    /// a failing relay keeps it from answering.
    pub(super) fn deadline(&self, silence: Duration, trouble: Duration) -> Timestamp {
        (self.waiting_since + silence).min(self.answered_at + trouble.max(silence))
    }

    /// When to repeat the packet; `None`: it is due now.
    pub(super) fn next_retry(&self) -> Option<Timestamp> {
        self.retry.at()
    }

    /// Applies the passing of time.
    pub(super) fn advance(&mut self, now: Timestamp) {
        self.retry.advance(now);
    }

    /// Returns the packet to send now. It is repeated until it is answered.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Bytes> {
        let is_due = self.retry.poll(now);
        is_due.then(|| self.proving().map_or(&self.hello, |answered| &answered.proof).clone())
    }

    /// The answer to the challenge, while it is sent.
    fn proving(&self) -> Option<&Answered> {
        self.answered.as_ref().filter(|_| self.proves)
    }

    /// Processes a sealed packet of an open connection: the host has admitted this client, and its welcome was lost. So the
    /// proof is sent again.
    pub(super) fn receive_early(&mut self, packet: Bytes, now: Timestamp) {
        let is_authentic =
            |answered: &Answered| packet_seal::peek(&OpeningKeys::new(answered.keys.host.clone()), packet).is_some();
        if self.proving().is_some_and(is_authentic) {
            self.retry = Retry::new();
            self.host_answered(now);
        }
    }

    /// The id of the connection, once the host has sent a challenge.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.proving().map(|answered| answered.early.id)
    }

    /// The keys, once the host has sent a challenge.
    pub(super) fn keys(&self) -> Option<&LastingKeys> {
        self.proving().map(|answered| &answered.keys.lasting)
    }

    /// The host's static key, once it has proved that it owns it.
    pub(super) fn peer_key(&self) -> Option<PublicKey> {
        self.proving().map(|answered| answered.host)
    }

    /// Returns the packet by which this client gives up. `None` if the host has not answered: it may be an original, which
    /// would read the packet as text.
    pub(super) fn leave(&self, reason: &EndReason) -> Option<Bytes> {
        let early = &self.proving()?.early;
        Some(early.control.seal(handshake_packet::leave(early.id), &frame::reason_bytes(reason)))
    }

    /// Processes a packet of the host. `interval` is the time between two heartbeats.
    pub(super) fn receive(
        &mut self,
        packet: &Bytes,
        message: HandshakePacket<'_>,
        interval: Duration,
        now: Timestamp,
    ) -> ClientStep {
        match (message, self.proving()) {
            (HandshakePacket::Challenge { noise }, None) => self.challenged(packet, noise, now),
            (HandshakePacket::Refusal { reason }, None) => ClientStep::End(reason),
            (HandshakePacket::Pending { id, sealed }, Some(Answered { keys, .. }))
                if keys.lasting.id == id && keys.lasting.control.open(sealed).is_some() =>
            {
                self.host_answered(now);
                self.retry.slow_down(now, interval);
                ClientStep::Continue
            }
            (HandshakePacket::Welcome { id, sealed }, Some(Answered { keys, .. })) if keys.lasting.id == id => {
                // A welcome that cannot be opened was changed on its way: a host with another password sends a refusal.
                let contents = keys.lasting.control.open(sealed).and_then(|contents| Welcome::read(&contents).ok());
                contents.map_or(ClientStep::Continue, |Welcome { limits, metadata }| ClientStep::Admitted {
                    keys: keys.clone(),
                    limits,
                    metadata,
                })
            }
            (HandshakePacket::Refused { id, sealed }, Some(answered)) if answered.keys.lasting.id == id => {
                answered.refused(sealed).map_or(ClientStep::Continue, ClientStep::End)
            }
            _ => ClientStep::Continue,
        }
    }

    /// Processes the host's answer to our hello. It is ignored if a stranger made or changed it.
    fn challenged(&mut self, packet: &Bytes, message: &[u8], now: Timestamp) -> ClientStep {
        if self.answered.as_ref().is_none_or(|answered| answered.challenge != packet) {
            let answered = match self.answer(packet, message) {
                Ok(answered) => answered,
                Err(Some(reason)) => return ClientStep::End(reason),
                Err(None) => return ClientStep::Continue,
            };
            // Every proof lets the other side test one guess of our password. A relay must not get a second one by cutting
            // the stream and asking again.
            if self.answered.is_some() && self.credentials.password.is_some() {
                let text = "the host forgot this attempt to join and asked for the password again: join again";
                return ClientStep::End(EndReason::ProtocolError(text.into()));
            }
            self.answered = Some(answered);
        }
        self.proves = true;
        self.retry = Retry::new();
        self.host_answered(now);
        ClientStep::Continue
    }

    /// Answers a challenge, after a check of the host's key: nothing of this client is told to another host.
    ///
    /// # Errors
    ///
    /// The reason for which the connection ends; none if the challenge is to be ignored.
    fn answer(&self, packet: &Bytes, message: &[u8]) -> Result<Answered, Option<EndReason>> {
        let (mut noise, (exchange, _), _) = self.begin().ok_or(None)?;
        let theirs = noise.read(message).ok_or(None)?;
        let host = noise.peer().ok_or(None)?;
        if self.credentials.host_key.is_some_and(|pinned| pinned != host.hash()) {
            return Err(Some(EndReason::WrongHostKey));
        }
        let early = Early::new(&mut noise);
        let psk = pre_shared_key(exchange, &theirs).ok_or(None)?;
        noise.set_psk(&psk).ok_or(None)?;
        let joiner =
            Joiner { limits: self.limits, game: self.credentials.game.clone(), metadata: self.metadata.clone() };
        let message = noise.write(&joiner.encode()).ok_or(None)?;
        let keys = SessionKeys::new(early.id, &noise.root());
        let proof = early.control.seal(handshake_packet::proof(early.id), &message);
        Ok(Answered { challenge: packet.clone(), proof, early, keys, host })
    }
}

impl Answered {
    /// Returns the reason of a refusal. A host that does not know the password has only the early key.
    fn refused(&self, sealed: Sealed<'_>) -> Option<EndReason> {
        let contents = self.keys.lasting.control.open(sealed).or_else(|| self.early.control.open(sealed))?;
        frame::read_reason(&contents).ok()
    }
}
