//! The client's side of the handshake, until the host has decided.

use bytes::Bytes;
use core::time::Duration;

use super::{
    Credentials, Timestamp,
    handshake::{RandomSeed, SharedSecret, client_exchange, transcript},
    keys::Random,
    retransmission::Retry,
};
use crate::protocol::{
    EndReason, PathPolicy,
    frame::handshake_packet::{self, ConnectionId, HandshakePacket, Hello, Limits},
};

/// The handshake of a client that is joining.
#[derive(Debug)]
pub(super) struct ClientHandshake {
    credentials: Credentials,
    random: RandomSeed,
    hello: Hello,
    proof: Option<(SharedSecret, Bytes)>,
    /// The transcript that the last proof answered. It survives a restart.
    answered: Option<[u8; 32]>,
    retry: Retry,
    /// Since when the host could have answered.
    waiting_since: Timestamp,
    /// When the host last answered.
    answered_at: Timestamp,
}

/// What a packet of the host means to a joining client.
#[derive(Debug)]
pub(super) enum ClientStep {
    /// The handshake goes on.
    Continue,
    /// The host admits the client.
    Admitted { secret: SharedSecret, limits: Limits, metadata: Bytes },
    /// The connection ends.
    End(EndReason),
}

impl ClientHandshake {
    pub(super) fn new(
        credentials: Credentials,
        limits: Limits,
        metadata: Bytes,
        seed: [u8; 32],
        now: Timestamp,
    ) -> Self {
        let nonce = Random::new(&seed, b"nonce").array();
        let (_, spake) = client_exchange(&credentials, Random::new(&seed, b"spake"));
        let game = credentials.game.clone();
        Self {
            credentials,
            random: RandomSeed(seed),
            hello: Hello { nonce, spake, limits, game, metadata },
            proof: None,
            answered: None,
            retry: Retry::new(),
            waiting_since: now,
            answered_at: now,
        }
    }

    /// Sets the allowed paths, before the first packet.
    pub(super) fn allow(&mut self, paths: PathPolicy) {
        self.hello.limits.paths = paths;
    }

    /// Starts over on a new path, which may lead to another connection of the same host.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.proof = None;
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
        let packet = || self.proof.as_ref().map_or_else(|| self.hello.encode(), |(_, proof)| proof.clone());
        self.retry.poll(now).then(packet)
    }

    /// Sends the proof again: the host sends packets of an open connection, so its welcome was lost.
    pub(super) fn repeat_proof(&mut self, now: Timestamp) {
        if self.proof.is_some() {
            self.retry = Retry::new();
            self.host_answered(now);
        }
    }

    /// The secret, once the host has sent a challenge.
    pub(super) fn secret(&self) -> Option<&SharedSecret> {
        self.proof.as_ref().map(|(secret, _)| secret)
    }

    /// Processes a packet of the host. `interval` is the time between two heartbeats.
    pub(super) fn receive(
        &mut self,
        packet: &Bytes,
        message: HandshakePacket<'_>,
        interval: Duration,
        now: Timestamp,
    ) -> ClientStep {
        match message {
            HandshakePacket::Challenge { nonce, id, spake, .. } if nonce == self.hello.nonce => {
                self.challenged(packet, id, &spake, now)
            }
            HandshakePacket::Pending { id } if self.secret().is_some_and(|secret| secret.id == id) => {
                self.host_answered(now);
                self.retry.slow_down(now, interval);
                ClientStep::Continue
            }
            HandshakePacket::Welcome { id, limits, metadata } => {
                let Some(secret) = self.secret().filter(|secret| secret.id == id) else { return ClientStep::Continue };
                if secret.opens(packet) {
                    return ClientStep::Admitted { secret: secret.clone(), limits, metadata };
                }
                let text = "the host could not prove that it knows the password";
                ClientStep::End(EndReason::ProtocolError(text.into()))
            }
            HandshakePacket::Refusal { reason } => ClientStep::End(reason),
            _ => ClientStep::Continue,
        }
    }

    /// Processes the host's answer to our hello. Copies of it are ignored.
    fn challenged(&mut self, packet: &Bytes, id: ConnectionId, spake: &[u8; 33], now: Timestamp) -> ClientStep {
        if self.proof.is_some() {
            return ClientStep::Continue;
        }
        let transcript = transcript(&self.hello.encode(), packet);
        // Every proof lets the other side test one guess of our password. A relay must not get a second one by cutting
        // the stream and asking again.
        if self.credentials.password.is_some() && self.answered.is_some_and(|answered| answered != transcript) {
            let text = "the host forgot this attempt to join and asked for the password again: join again";
            return ClientStep::End(EndReason::ProtocolError(text.into()));
        }
        // The exchange is deterministic, so it is restored here.
        let (exchange, _) = client_exchange(&self.credentials, Random::new(&self.random.0, b"spake"));
        let Ok(secret) = exchange.finish(spake) else { return ClientStep::Continue };
        let secret = SharedSecret::new(id, &secret, transcript);
        self.answered = Some(transcript);
        let proof = secret.seal(handshake_packet::proof(id));
        self.proof = Some((secret, proof));
        self.retry = Retry::new();
        self.host_answered(now);
        ClientStep::Continue
    }
}
