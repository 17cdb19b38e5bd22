//! The host's side of the handshake: the client proves the password, and the game decides.

use bytes::Bytes;
use core::time::Duration;

use super::{
    Credentials, Timestamp,
    handshake::{Early, RandomSeed, host_exchange, pre_shared_key},
    keys::{LastingKeys, Random, SessionKeys},
    noise::Noise,
};
use crate::protocol::{
    EndReason, PathPolicy, PublicKey,
    frame::{
        self,
        handshake_packet::{self, ConnectionId, HandshakePacket, Joiner, Limits, Sealed, Welcome},
    },
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

/// The first two messages, and what they gave.
#[derive(Debug)]
struct FirstMessages {
    hello: Bytes,
    challenge: Bytes,
    early: Early,
    /// Reads the third message, once.
    noise: Option<Noise>,
}

/// A client that has proved the password.
#[derive(Debug)]
struct Proven {
    /// Its proof. Copies of it are answered alike.
    proof: Bytes,
    keys: SessionKeys,
    key: PublicKey,
    limits: Limits,
    metadata: Bytes,
}

/// The handshake with one client. Every copy of a packet gets the same answer.
#[derive(Debug)]
pub(super) struct HostHandshake {
    credentials: Credentials,
    metadata: Bytes,
    random: RandomSeed,
    phase: HostPhase,
    first: Option<FirstMessages>,
    proven: Option<Proven>,
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
    /// The client has given up.
    End(EndReason),
}

/// A client that the game has admitted.
#[derive(Debug)]
pub(super) struct AdmittedClient {
    pub(super) welcome: Bytes,
    pub(super) keys: SessionKeys,
    pub(super) limits: Limits,
    pub(super) metadata: Bytes,
}

/// A refusal, for clients that have come this far.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// For a client that has no key yet.
    pub(super) open: Bytes,
    /// For a client that has sent its proof.
    pub(super) sealed: Option<Bytes>,
}

impl HostHandshake {
    pub(super) fn new(credentials: Credentials, metadata: Bytes, seed: RandomSeed, now: Timestamp) -> Self {
        Self {
            credentials,
            metadata,
            random: seed,
            phase: HostPhase::Authenticating,
            first: None,
            proven: None,
            last_received: now,
        }
    }

    /// The id of the connection, once a hello was answered.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.first.as_ref().map(|first| first.early.id)
    }

    /// The keys, once the client has proved the password.
    pub(super) fn keys(&self) -> Option<&LastingKeys> {
        self.proven.as_ref().map(|proven| &proven.keys.lasting)
    }

    /// The client's static key, once it has proved that it owns it.
    pub(super) fn peer_key(&self) -> Option<PublicKey> {
        self.proven.as_ref().map(|proven| proven.key)
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
            HandshakePacket::Hello { noise } => {
                let Some(challenge) = self.answer_hello(packet, noise) else { return HostStep::Ignore };
                self.last_received = now;
                HostStep::Answer(challenge)
            }
            HandshakePacket::Proof { id, sealed } if self.id() == Some(id) => {
                self.receive_proof(packet, sealed, policy, now)
            }
            HandshakePacket::Leave { id, sealed } if self.id() == Some(id) => self.left(sealed),
            _ => HostStep::Ignore,
        }
    }

    /// Returns the challenge for a hello. `None` if the hello is malformed or from another client.
    fn answer_hello(&mut self, packet: &Bytes, message: &[u8]) -> Option<Bytes> {
        if let Some(first) = &self.first {
            return (first.hello == packet).then(|| first.challenge.clone());
        }
        let mut noise = Noise::host(&self.credentials.key, Random::new(&self.random.0, b"noise"))?;
        let theirs = noise.read(message)?;
        let (exchange, ours) = host_exchange(&self.credentials, Random::new(&self.random.0, b"spake"));
        noise.set_psk(&*pre_shared_key(exchange, &theirs)?)?;
        let challenge = handshake_packet::challenge(&noise.write(&ours)?);
        let early = Early::new(&mut noise);
        self.first =
            Some(FirstMessages { hello: packet.clone(), challenge: challenge.clone(), early, noise: Some(noise) });
        Some(challenge)
    }

    fn receive_proof(&mut self, packet: &Bytes, sealed: Sealed<'_>, policy: PathPolicy, now: Timestamp) -> HostStep {
        if let Some(proven) = &self.proven {
            return if proven.proof == packet { self.repeat_answer(now) } else { HostStep::Ignore };
        }
        let Some(first) = &mut self.first else { return HostStep::Ignore };
        // Whoever changes the proof on its way uses up no attempt.
        let Some(message) = first.early.control.open(sealed) else { return HostStep::Ignore };
        let Some(mut noise) = first.noise.take() else { return HostStep::Ignore };
        let Some(contents) = noise.read(&message) else { return HostStep::Refuse(EndReason::WrongPassword) };
        let (Some(key), Ok(joiner)) = (noise.peer(), Joiner::read(&contents.into())) else {
            return HostStep::Refuse(EndReason::ProtocolError("a malformed request to join".into()));
        };
        let keys = SessionKeys::new(first.early.id, &noise.root());
        let Joiner { limits, game, metadata } = joiner;
        self.last_received = now;
        self.proven = Some(Proven { proof: packet.clone(), keys, key, limits, metadata: metadata.clone() });
        if let Some(reason) = game.mismatch(&self.credentials.game) {
            return HostStep::Refuse(reason);
        }
        if policy.with(limits.paths).is_none() {
            let text = "one side allows nothing else, and the other the relay only";
            return HostStep::Refuse(EndReason::NoDirectPath(text.into()));
        }
        self.phase = HostPhase::Deciding;
        self.pending().map_or(HostStep::Ignore, |answer| HostStep::JoinRequest { answer, metadata })
    }

    /// Answers a copy of the proof.
    fn repeat_answer(&mut self, now: Timestamp) -> HostStep {
        match &self.phase {
            HostPhase::Authenticating => HostStep::Ignore,
            HostPhase::Deciding => {
                self.last_received = now;
                self.pending().map_or(HostStep::Ignore, HostStep::Answer)
            }
            HostPhase::Admitted(welcome) => HostStep::RepeatWelcome(welcome.clone()),
        }
    }

    fn pending(&self) -> Option<Bytes> {
        self.keys().map(|keys| keys.control.seal(handshake_packet::pending(keys.id), &[]))
    }

    /// Ends the handshake with a client that has given up.
    fn left(&self, sealed: Sealed<'_>) -> HostStep {
        let contents = self.first.as_ref().and_then(|first| first.early.control.open(sealed));
        let reason = contents.and_then(|contents| frame::read_reason(&contents).ok());
        reason.map_or(HostStep::Ignore, HostStep::End)
    }

    /// Returns the refusal of the client.
    pub(super) fn refusal(&self, reason: &EndReason) -> Refusal {
        let seal = |first: &FirstMessages| {
            // A client with another password has only the early key.
            let control = self.keys().map_or(&first.early.control, |keys| &keys.control);
            control.seal(handshake_packet::refused(first.early.id), &frame::reason_bytes(reason))
        };
        Refusal { open: frame::refusal(reason), sealed: self.first.as_ref().map(seal) }
    }

    /// Whether the client's proof has arrived.
    pub(super) fn has_proof(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.noise.is_none())
    }

    /// Admits the client. `limits` are those of this side. `None` if no join request is pending.
    pub(super) fn admit(&mut self, limits: Limits) -> Option<AdmittedClient> {
        if !matches!(self.phase, HostPhase::Deciding) {
            return None;
        }
        let Proven { keys, limits: theirs, metadata, .. } = self.proven.as_ref()?;
        let contents = Welcome { limits, metadata: self.metadata.clone() }.encode();
        let welcome = keys.lasting.control.seal(handshake_packet::welcome(keys.lasting.id), &contents);
        let admitted = AdmittedClient {
            welcome: welcome.clone(),
            keys: keys.clone(),
            limits: *theirs,
            metadata: metadata.clone(),
        };
        self.phase = HostPhase::Admitted(welcome);
        Some(admitted)
    }
}
