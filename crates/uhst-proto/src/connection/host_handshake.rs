//! The host's side of the handshake: the client proves the password, and the game decides.

use bytes::Bytes;
use core::time::Duration;

use super::{
    Credentials, Timestamp,
    handshake::{RandomSeed, SharedSecret, host_exchange, transcript},
    keys::Random,
};
use crate::protocol::{
    EndReason, PathPolicy,
    frame::handshake_packet::{self, ConnectionId, HandshakePacket, Hello, Limits},
};

/// How far a client has come.
#[derive(Debug)]
enum HostPhase {
    /// It has yet to prove the password.
    Authenticating,
    /// It waits for the game's decision.
    Deciding,
    /// It is admitted. The welcome answers every copy of its proof.
    Admitted(Bytes),
}

/// The handshake with one client. Every copy of a packet gets the same answer.
#[derive(Debug)]
pub(super) struct HostHandshake {
    credentials: Credentials,
    metadata: Bytes,
    random: RandomSeed,
    phase: HostPhase,
    /// The hello that was answered, and the answer.
    challenge: Option<(Bytes, Bytes)>,
    secret: Option<SharedSecret>,
    /// What the client's hello contains.
    client: Option<(Limits, Bytes)>,
    /// When the client last sent a handshake packet.
    last_received: Timestamp,
}

/// What a packet of the client means to its host.
#[derive(Debug)]
pub(super) enum HostStep {
    /// Nothing.
    Ignore,
    /// This answer is to be sent.
    Answer(Bytes),
    /// The client knows the password and waits for the game's decision. The answer is to be sent.
    JoinRequest { answer: Bytes, metadata: Bytes },
    /// The client has not received the welcome, which is to be sent again.
    RepeatWelcome(Bytes),
    /// The client is to be refused.
    Refuse(EndReason),
}

/// A client that the game has admitted.
#[derive(Debug)]
pub(super) struct AdmittedClient {
    pub(super) welcome: Bytes,
    pub(super) limits: Limits,
    pub(super) metadata: Bytes,
}

impl HostHandshake {
    pub(super) fn new(credentials: Credentials, metadata: Bytes, seed: [u8; 32], now: Timestamp) -> Self {
        Self {
            credentials,
            metadata,
            random: RandomSeed(seed),
            phase: HostPhase::Authenticating,
            challenge: None,
            secret: None,
            client: None,
            last_received: now,
        }
    }

    /// The secret, once a hello was answered.
    pub(super) fn secret(&self) -> Option<&SharedSecret> {
        self.secret.as_ref()
    }

    /// Whether the client has yet to prove the password.
    pub(super) fn is_authenticating(&self) -> bool {
        matches!(self.phase, HostPhase::Authenticating)
    }

    /// When the client counts as gone. While the game decides, the client repeats its proof as a heartbeat.
    pub(super) fn deadline(&self, timeout: Duration) -> Timestamp {
        self.last_received + if self.is_authenticating() { 2 * timeout } else { timeout }
    }

    /// Excludes a time in which this side was suspended.
    pub(super) fn slept(&mut self, time: Duration) {
        self.last_received += time;
    }

    /// Processes a packet of the client. `policy` is which paths this side allows.
    pub(super) fn receive(
        &mut self,
        packet: &Bytes,
        message: HandshakePacket<'_>,
        policy: PathPolicy,
        now: Timestamp,
    ) -> HostStep {
        match message {
            HandshakePacket::Hello(hello) => {
                let mismatch = || hello.game.mismatch(&self.credentials.game);
                if let Some(reason) = self.is_authenticating().then(mismatch).flatten() {
                    return HostStep::Refuse(reason);
                }
                let Some(challenge) = self.answer_hello(packet, &hello) else { return HostStep::Ignore };
                self.last_received = now;
                HostStep::Answer(challenge)
            }
            HandshakePacket::Proof { id } => match self.proves(packet, id) {
                Some(true) => self.proven(id, policy, now),
                Some(false) if self.is_authenticating() => HostStep::Refuse(EndReason::WrongPassword),
                _ => HostStep::Ignore,
            },
            _ => HostStep::Ignore,
        }
    }

    /// Returns the challenge for a hello. `None` if the hello is malformed or from another client.
    fn answer_hello(&mut self, packet: &Bytes, hello: &Hello) -> Option<Bytes> {
        if let Some((known, challenge)) = &self.challenge {
            return (known == packet).then(|| challenge.clone());
        }
        let mut random = Random::new(&self.random.0, b"host");
        let (id, host_nonce) = (ConnectionId(random.array()), random.array());
        let (exchange, message) = host_exchange(&self.credentials, random);
        let secret = exchange.finish(&hello.spake).ok()?;
        let challenge = handshake_packet::challenge(&hello.nonce, id, &host_nonce, &message);
        self.secret = Some(SharedSecret::new(id, &secret, transcript(packet, &challenge)));
        self.client = Some((hello.limits, hello.metadata.clone()));
        self.challenge = Some((packet.clone(), challenge.clone()));
        Some(challenge)
    }

    /// Whether the client knows the password. `None` if the proof is for another connection.
    fn proves(&self, packet: &Bytes, id: ConnectionId) -> Option<bool> {
        let secret = self.secret.as_ref().filter(|secret| secret.id == id)?;
        Some(secret.opens(packet))
    }

    /// Answers a valid proof.
    fn proven(&mut self, id: ConnectionId, policy: PathPolicy, now: Timestamp) -> HostStep {
        match &self.phase {
            HostPhase::Authenticating => {
                self.last_received = now;
                let (theirs, metadata) = match &self.client {
                    Some((limits, metadata)) => (limits.paths, metadata.clone()),
                    None => Default::default(),
                };
                if policy.with(theirs).is_none() {
                    let text = "one side allows nothing else, and the other the relay only";
                    return HostStep::Refuse(EndReason::NoDirectPath(text.into()));
                }
                self.phase = HostPhase::Deciding;
                HostStep::JoinRequest { answer: handshake_packet::pending(id), metadata }
            }
            HostPhase::Deciding => {
                self.last_received = now;
                HostStep::Answer(handshake_packet::pending(id))
            }
            HostPhase::Admitted(welcome) => HostStep::RepeatWelcome(welcome.clone()),
        }
    }

    /// Admits the client. `limits` are those of this side. `None` if no join request is pending.
    pub(super) fn admit(&mut self, limits: Limits) -> Option<AdmittedClient> {
        if !matches!(self.phase, HostPhase::Deciding) {
            return None;
        }
        let (client, metadata) = self.client.take()?;
        let secret = self.secret.as_ref()?;
        let welcome = secret.seal(handshake_packet::welcome(secret.id, limits, &self.metadata));
        self.phase = HostPhase::Admitted(welcome.clone());
        Some(AdmittedClient { welcome, limits: client, metadata })
    }
}
