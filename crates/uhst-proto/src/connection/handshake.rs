//! First contact: SPAKE2 proves the password and gives both sides a secret that nobody else knows.
//!
//! The client repeats itself until it is answered; the host only answers, and answers a copy as it did the original.
//! So a lost or doubled POST costs time and nothing else.

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

/// Repeats something until it is answered: after 250 ms, 500 ms, and then every second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// When to send it again; `None`: it waits to be sent now.
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

    /// The other side has it and thinks about it: from now on this is a heartbeat.
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

/// What a handshake leaves to the connection.
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
    /// The transcript that the last proof answers. It survives a restart.
    answered: Option<[u8; 32]>,
    pub(super) retry: Retry,
    /// Since when the host could have answered.
    waiting_since: Timestamp,
    /// When the host last answered.
    answered_at: Timestamp,
}

/// A seed that no log shows.
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

    /// The same every time: it is needed again when the answer has come.
    fn spake(&self) -> (Spake2<Ed25519Group>, Vec<u8>) {
        Spake2::start_a_with_rng(
            &password(&self.credentials),
            &Identity::new(CLIENT),
            &Identity::new(self.credentials.host_id.as_bytes()),
            Random::new(&self.random.0, b"spake"),
        )
    }

    /// Says which paths it may take, before the first packet.
    pub(super) fn allow(&mut self, paths: PathPolicy) {
        self.hello.limits.paths = paths;
    }

    /// Starts over on a new path, perhaps towards another connection of the same host.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.proof = None;
        self.retry = Retry::new();
        self.waiting_since = now;
    }

    /// The relay failed to bring a packet: it goes again, and the host has its full time to answer.
    pub(super) fn undelivered(&mut self, now: Timestamp) {
        self.retry = Retry::new();
        self.waiting_since = now;
    }

    /// The host has answered.
    pub(super) fn host_answered(&mut self, now: Timestamp) {
        (self.waiting_since, self.answered_at) = (now, now);
    }

    pub(super) fn slept(&mut self, time: Duration) {
        self.waiting_since += time;
        self.answered_at += time;
    }

    /// When the host counts as gone: it has been silent for so long since it could have answered, or a relay that fails
    /// again and again has kept it from answering for so long.
    pub(super) fn deadline(&self, silence: Duration, trouble: Duration) -> Timestamp {
        (self.waiting_since + silence).min(self.answered_at + trouble.max(silence))
    }

    /// What to send, and again until it is answered.
    pub(super) fn packet(&self) -> Bytes {
        self.proof.as_ref().map_or_else(|| self.hello.encode(), |(_, proof)| proof.clone())
    }

    /// The host speaks as if we had its welcome: ask for it again.
    pub(super) fn repeat_proof(&mut self, now: Timestamp) {
        if self.proof.is_some() {
            self.retry = Retry::new();
            self.host_answered(now);
        }
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        self.proof.as_ref().map(|(secret, _)| secret)
    }

    /// Takes the host's challenge.
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
        // Every proof tests one guess of the other side at our password. A relay that cuts the stream to ask again
        // must not get a second one.
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

/// What a client makes of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenged {
    /// The proof is ready to be sent.
    Answered,
    /// It does not answer our hello, or comes twice.
    Ignored,
    /// It asks for a second proof of the password in one attempt to join.
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
    /// The password was proven: what the client gets for every copy of its proof.
    pub(super) answer: Option<Bytes>,
    /// When the client last showed that it is there.
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

    /// Why this client cannot play here, whatever it knows.
    pub(super) fn mismatch(&self, hello: &Hello) -> Option<EndReason> {
        hello.game.mismatch(&self.credentials.game)
    }

    /// The challenge to a hello. `None`: no answer, because it is another client's or broken.
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

    /// Whether the client knows the password. `None`: the proof is for another connection.
    pub(super) fn proves(&self, packet: &Bytes, id: ConnectionId) -> Option<bool> {
        let secret = self.secret.as_ref().filter(|secret| secret.id == id)?;
        Some(secret.key.opens(&secret.transcript, packet))
    }

    pub(super) fn welcome(&self, limits: Limits) -> Option<Bytes> {
        let secret = self.secret.as_ref()?;
        Some(secret.key.seal(&secret.transcript, handshake_packet::welcome(secret.id, limits, &self.metadata)))
    }
}
