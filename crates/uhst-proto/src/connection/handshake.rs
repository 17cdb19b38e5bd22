//! The handshake: SPAKE2 proves the password and gives both sides a shared secret.
//!
//! The client repeats its packets until they are answered. The host only answers, and answers duplicates alike. So a
//! lost or duplicated POST costs only time.

use bytes::Bytes;
use core::time::Duration;
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::{
    Credentials, Timestamp,
    keys::{Key, Random},
};
use crate::protocol::{
    EndReason, PathPolicy,
    frame::handshake_packet::{self, ConnectionId, Hello, Limits},
};

const CLIENT: &[u8] = b"bevy_uhst client";

/// Retransmits until an answer arrives: after 250 ms, after 500 ms, and then every second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// When to send again; `None`: it is due now.
    at: Option<Timestamp>,
    delay: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(1);

    pub(super) fn new() -> Self {
        Self { at: None, delay: Self::FIRST }
    }

    pub(super) fn is_due(&self) -> bool {
        self.at.is_none()
    }

    pub(super) fn at(&self) -> Option<Timestamp> {
        self.at
    }

    pub(super) fn sent(&mut self, now: Timestamp) {
        self.at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(Self::LAST);
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        if self.at.is_some_and(|at| now >= at) {
            self.at = None;
        }
    }

    /// The other side has received it and has not decided yet. From now on it serves as a heartbeat.
    pub(super) fn slow_down(&mut self, now: Timestamp, interval: Duration) {
        self.delay = interval;
        self.at = Some(now + interval);
    }
}

fn password(credentials: &Credentials) -> Password {
    Password::new(credentials.password.as_deref().unwrap_or_default().as_bytes())
}

fn transcript(hello: &[u8], challenge: &[u8]) -> [u8; 32] {
    let len = (hello.len() as u64).to_be_bytes();
    Sha256::new().chain_update(len).chain_update(hello).chain_update(challenge).finalize().into()
}

/// What the handshake leaves to the connection.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) id: ConnectionId,
    pub(super) key: Key,
    pub(super) transcript: [u8; 32],
}

fn spake_message(message: Vec<u8>) -> [u8; 33] {
    let mut bytes = [0; 33];
    bytes.copy_from_slice(&message);
    bytes
}

#[derive(Debug)]
pub(super) struct ClientHandshake {
    credentials: Credentials,
    random: RandomSeed,
    hello: Hello,
    proof: Option<(Secret, Bytes)>,
    /// The transcript that the last proof answered. It survives a restart.
    answered: Option<[u8; 32]>,
    pub(super) retry: Retry,
    /// Since when the host could have answered.
    waiting_since: Timestamp,
    /// When the host last answered.
    answered_at: Timestamp,
}

/// A seed whose `Debug` hides it.
#[derive(Clone)]
pub(super) struct RandomSeed(pub(super) [u8; 32]);

impl core::fmt::Debug for RandomSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RandomSeed(…)")
    }
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
        let game = credentials.game.clone();
        let mut handshake = Self {
            credentials,
            random: RandomSeed(seed),
            hello: Hello { nonce, spake: [0; 33], limits, game, metadata },
            proof: None,
            answered: None,
            retry: Retry::new(),
            waiting_since: now,
            answered_at: now,
        };
        handshake.hello.spake = spake_message(handshake.spake().1);
        handshake
    }

    /// Deterministic, because the exchange is restored when the answer arrives.
    fn spake(&self) -> (Spake2<Ed25519Group>, Vec<u8>) {
        Spake2::start_a_with_rng(
            &password(&self.credentials),
            &Identity::new(CLIENT),
            &Identity::new(self.credentials.host_id.as_bytes()),
            Random::new(&self.random.0, b"spake"),
        )
    }

    /// Sets the allowed paths, before the first packet.
    pub(super) fn allow(&mut self, paths: PathPolicy) {
        self.hello.limits.paths = paths;
    }

    /// Starts over on a new path, which may lead to another connection of the same host.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.proof = None;
        self.retry = Retry::new();
        self.waiting_since = now;
    }

    /// The relay did not deliver a packet: sends it again, and gives the host the full time to answer.
    pub(super) fn undelivered(&mut self, now: Timestamp) {
        self.retry = Retry::new();
        self.waiting_since = now;
    }

    /// Records an answer of the host.
    pub(super) fn host_answered(&mut self, now: Timestamp) {
        (self.waiting_since, self.answered_at) = (now, now);
    }

    pub(super) fn slept(&mut self, time: Duration) {
        self.waiting_since += time;
        self.answered_at += time;
    }

    /// When the host counts as gone: after `silence` without an answer that it could have given, or after `trouble` if
    /// a failing relay keeps it from answering.
    pub(super) fn deadline(&self, silence: Duration, trouble: Duration) -> Timestamp {
        (self.waiting_since + silence).min(self.answered_at + trouble.max(silence))
    }

    /// The packet to send, until it is answered.
    pub(super) fn packet(&self) -> Bytes {
        self.proof.as_ref().map_or_else(|| self.hello.encode(), |(_, proof)| proof.clone())
    }

    /// The host sends packets of an open connection, so its welcome was lost: sends the proof again.
    pub(super) fn repeat_proof(&mut self, now: Timestamp) {
        if self.proof.is_some() {
            self.retry = Retry::new();
            self.host_answered(now);
        }
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        self.proof.as_ref().map(|(secret, _)| secret)
    }

    /// Processes the host's challenge.
    pub(super) fn challenged(
        &mut self,
        packet: &Bytes,
        nonce: &[u8; 16],
        id: ConnectionId,
        spake: &[u8; 33],
        now: Timestamp,
    ) -> Challenged {
        if *nonce != self.hello.nonce || self.proof.is_some() {
            return Challenged::Ignored;
        }
        let transcript = transcript(&self.hello.encode(), packet);
        // Every proof lets the other side test one guess of our password. A relay must not get a second one by cutting
        // the stream and asking again.
        if self.credentials.password.is_some() && self.answered.is_some_and(|answered| answered != transcript) {
            return Challenged::Repeated;
        }
        let Ok(secret) = self.spake().0.finish(spake) else { return Challenged::Ignored };
        let secret = Secret { id, key: Key::new(&secret), transcript };
        self.answered = Some(transcript);
        let proof = secret.key.seal(&secret.transcript, handshake_packet::proof(id));
        self.proof = Some((secret, proof));
        self.retry = Retry::new();
        self.host_answered(now);
        Challenged::Answered
    }
}

/// The result of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenged {
    /// The proof is ready to be sent.
    Answered,
    /// The challenge does not answer our hello, or is a duplicate.
    Ignored,
    /// The challenge asks for a second proof of the password in one attempt to join.
    Repeated,
}

#[derive(Debug)]
pub(super) struct HostHandshake {
    credentials: Credentials,
    metadata: Bytes,
    random: RandomSeed,
    /// The hello that was answered, and the answer.
    challenge: Option<(Bytes, Bytes)>,
    pub(super) secret: Option<Secret>,
    pub(super) client: Option<(Limits, Bytes)>,
    /// The answer to every copy of the client's proof, once the password is proven.
    pub(super) answer: Option<Bytes>,
    /// When the client last sent a handshake packet.
    pub(super) last_received: Timestamp,
}

impl HostHandshake {
    pub(super) fn new(credentials: Credentials, metadata: Bytes, seed: [u8; 32], now: Timestamp) -> Self {
        Self {
            credentials,
            metadata,
            random: RandomSeed(seed),
            challenge: None,
            secret: None,
            client: None,
            answer: None,
            last_received: now,
        }
    }

    /// Returns why the client's game does not match, if it does not.
    pub(super) fn mismatch(&self, hello: &Hello) -> Option<EndReason> {
        hello.game.mismatch(&self.credentials.game)
    }

    /// Returns the challenge for a hello. `None` if the hello is malformed or from another client.
    pub(super) fn answer_hello(&mut self, packet: &Bytes, hello: &Hello) -> Option<Bytes> {
        if let Some((known, challenge)) = &self.challenge {
            return (known == packet).then(|| challenge.clone());
        }
        let mut random = Random::new(&self.random.0, b"host");
        let (id, host_nonce) = (ConnectionId(random.array()), random.array());
        let (spake, message) = Spake2::<Ed25519Group>::start_b_with_rng(
            &password(&self.credentials),
            &Identity::new(CLIENT),
            &Identity::new(self.credentials.host_id.as_bytes()),
            random,
        );
        let secret = spake.finish(&hello.spake).ok()?;
        let challenge = handshake_packet::challenge(&hello.nonce, id, &host_nonce, &spake_message(message));
        self.secret = Some(Secret { id, key: Key::new(&secret), transcript: transcript(packet, &challenge) });
        self.client = Some((hello.limits, hello.metadata.clone()));
        self.challenge = Some((packet.clone(), challenge.clone()));
        Some(challenge)
    }

    /// Whether the client knows the password. `None` if the proof is for another connection.
    pub(super) fn proves(&self, packet: &Bytes, id: ConnectionId) -> Option<bool> {
        let secret = self.secret.as_ref().filter(|secret| secret.id == id)?;
        Some(secret.key.opens(&secret.transcript, packet))
    }

    pub(super) fn welcome(&self, limits: Limits) -> Option<Bytes> {
        let secret = self.secret.as_ref()?;
        Some(secret.key.seal(&secret.transcript, handshake_packet::welcome(secret.id, limits, &self.metadata)))
    }
}
