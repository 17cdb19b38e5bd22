//! The states of a connection, and what its owner can do.

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;

use super::{
    ConnectionConfig, ConnectionEvent, ConnectionId, ConnectionStats, Credentials, Lane, MetadataTooLarge, Path,
    SendError, Timestamp, Tombstone,
    config::check_metadata,
    cost::message_cost,
    handshake::{ClientHandshake, HostHandshake, Retry, Secret},
    incoming::Incoming,
    interruption::{FinalClose, Interrupted},
    keys::Key,
    liveness::Liveness,
    losses::Losses,
    outgoing::Outgoing,
    path::PerPath,
    path_selection::DirectWait,
    receive::Violation,
    resume::{ReplayGuard, Resuming},
};
use crate::protocol::{Channel, EndReason, PathPolicy, Payload, Tag, frame::handshake_packet::Limits};

/// How long a refusal, or a goodbye whose drain expired, is repeated.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How long a peer that broke the rules is told so.
const VIOLATION_LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum State {
    /// Client: until the host's welcome.
    Joining(ClientHandshake),
    /// Host: until the client has proven that it knows the password.
    Authenticating(HostHandshake),
    /// Host: until the game has decided.
    Deciding(HostHandshake),
    /// Host: the refusal waits for more copies of the client's proof.
    Refused {
        answer: Bytes,
        until: Timestamp,
        reason: EndReason,
    },
    /// Messages flow. Host: the handshake is kept until the client shows that it has the welcome.
    Open {
        handshake: Option<HostHandshake>,
    },
    /// We have ended it, and the peer is being told.
    Closing(Closing),
    Closed,
}

/// Our end of the connection.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) reason: EndReason,
    pub(super) started: Timestamp,
    /// When the last acknowledgement advanced, or another path took over.
    pub(super) progress: Timestamp,
    /// What waited then, in bytes.
    pub(super) waiting: usize,
    /// The path in use then.
    pub(super) path: Option<Path>,
    /// When to say it again on each path; `None`: now.
    pub(super) retry: PerPath<Option<Timestamp>>,
    /// Nothing needs to arrive before it, and it is repeated until then.
    pub(super) immediate: Option<Timestamp>,
}

/// The peer's end of the connection, while something that comes before it is missing.
#[derive(Debug)]
pub(super) struct PeerClose {
    pub(super) ends: [u64; 3],
    pub(super) reason: EndReason,
    pub(super) until: Timestamp,
    /// The path it came on.
    pub(super) path: Path,
}

/// When to acknowledge.
#[derive(Debug, Default)]
pub(super) struct AckTimer {
    pub(super) now: bool,
    pub(super) due: Option<Timestamp>,
    /// As long as more arrives, it may wait until then.
    pub(super) latest: Option<Timestamp>,
    /// Bytes received since the last one.
    pub(super) bytes: usize,
}

/// The connection with one peer. See [the module](super) for what its owner must do.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: ConnectionConfig,
    pub(super) is_client: bool,
    pub(super) state: State,
    pub(super) secret: Option<Secret>,
    pub(super) live: Liveness,
    pub(super) out: Outgoing,
    pub(super) inc: Incoming,
    pub(super) losses: Losses,
    /// The next packet of first contact or resumption.
    pub(super) answer: Option<Bytes>,
    /// The one that was sent last: a POST that fails may have carried it.
    pub(super) last_answer: Option<Bytes>,
    /// The largest packet number received on each lane that is acknowledged.
    pub(super) received: PerPath<u64>,
    pub(super) next_packet: u64,
    pub(super) ack: AckTimer,
    /// Client: proving that we are who we were.
    pub(super) resuming: Option<Resuming>,
    pub(super) resumptions: u64,
    pub(super) replay_guard: ReplayGuard,
    pub(super) peer_close: Option<PeerClose>,
    /// The peer's end is to be confirmed, on each path.
    pub(super) close_ack: PerPath<bool>,
    pub(super) end: Option<EndReason>,
    pub(super) announced: Option<Path>,
    /// What this side allows; once open, what both do.
    pub(super) paths: PathPolicy,
    pub(super) direct_wait: Option<DirectWait>,
    pub(super) interrupted: Option<Interrupted>,
    pub(super) final_close: Option<FinalClose>,
    pub(super) events: VecDeque<ConnectionEvent>,
    pub(super) stats: ConnectionStats,
}

impl Connection {
    fn new(config: ConnectionConfig, is_client: bool, state: State, seed: &[u8; 32], now: Timestamp) -> Self {
        Self {
            is_client,
            state,
            secret: None,
            live: Liveness::new(config.timeout, now),
            out: Outgoing::new(0, 0, 0),
            inc: Incoming::new(&config),
            losses: Losses::default(),
            config,
            answer: None,
            last_answer: None,
            received: PerPath::default(),
            next_packet: 1,
            ack: AckTimer::default(),
            resuming: None,
            resumptions: 0,
            replay_guard: ReplayGuard::new(seed),
            peer_close: None,
            close_ack: PerPath::default(),
            end: None,
            announced: None,
            paths: PathPolicy::default(),
            direct_wait: None,
            interrupted: None,
            final_close: None,
            events: VecDeque::new(),
            stats: ConnectionStats::default(),
        }
    }

    /// A client's connection, which introduces itself as soon as [`path_up`](Self::path_up) gives it the relay.
    /// `metadata` goes to the host's game with the join request.
    ///
    /// The seed must be random and used once: the secrets of the connection come from it. Limits are
    /// [corrected](ConnectionConfig::corrected).
    pub fn connect(
        config: ConnectionConfig,
        credentials: &Credentials,
        metadata: Bytes,
        seed: [u8; 32],
        now: Timestamp,
    ) -> Result<Self, MetadataTooLarge> {
        let (config, metadata) = (config.corrected(), check_metadata(metadata)?);
        let handshake =
            ClientHandshake::new(credentials.clone(), config.limits(PathPolicy::default()), metadata, seed, now);
        Ok(Self::new(config, true, State::Joining(handshake), &seed, now))
    }

    /// A host's connection for a client whose [`Hello`](crate::protocol::frame::HandshakeKind::Hello) came over the relay: the caller hands
    /// that packet to [`receive`](Self::receive) next. `metadata` goes to the client once it is admitted.
    pub fn accept(
        config: ConnectionConfig,
        credentials: &Credentials,
        metadata: Bytes,
        seed: [u8; 32],
        now: Timestamp,
    ) -> Result<Self, MetadataTooLarge> {
        let (config, metadata) = (config.corrected(), check_metadata(metadata)?);
        let handshake = HostHandshake::new(credentials.clone(), metadata, seed, now);
        let mut connection = Self::new(config, false, State::Authenticating(handshake), &seed, now);
        connection.live.path_up(Path::Relay, true, now);
        Ok(connection)
    }

    /// A client and a host that are connected already, for tests: no handshake, and a key that everybody knows.
    #[doc(hidden)]
    pub fn pair(client: ConnectionConfig, host: ConnectionConfig, now: Timestamp) -> (Self, Self) {
        let make = |config: &ConnectionConfig, is_client, peer: &ConnectionConfig| {
            let state = State::Open { handshake: None };
            let mut connection = Self::new(config.clone(), is_client, state, &[0; 32], now);
            connection.live.path_up(Path::Relay, true, now);
            connection.announced = Some(Path::Relay);
            connection.secret =
                Some(Secret { id: ConnectionId([7; 16]), key: Key::new(&[0; 32]), transcript: [0; 32] });
            connection.limit(peer.limits(PathPolicy::default()));
            connection
        };
        let (client, host) = (client.corrected(), host.corrected());
        (make(&client, true, &host), make(&host, false, &client))
    }

    /// Takes the peer's limits. `false`: they cannot work.
    pub(super) fn limit(&mut self, peer: Limits) -> bool {
        let Some(paths) = self.paths.with(peer.paths) else { return false };
        self.paths = paths;
        let max_message = self.config.max_message.min(usize::try_from(peer.max_message).unwrap_or(usize::MAX));
        self.out = Outgoing::new(self.config.send_buffer, max_message, peer.receive_buffer);
        (self.config.timeout, self.config.resume_timeout) = self.config.agreed_timeouts(peer);
        self.live.set_timeout(self.config.timeout);
        message_cost(max_message) as u64 <= peer.receive_buffer
    }

    /// The name of this connection; known once the other side has answered.
    pub fn id(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Joining(handshake) => handshake.secret().map(|secret| secret.id),
            State::Authenticating(handshake) | State::Deciding(handshake) => {
                handshake.secret.as_ref().map(|secret| secret.id)
            }
            _ => self.secret.as_ref().map(|secret| secret.id),
        }
    }

    /// A path leads to the peer, or leads there again. A client's relay path comes back with a proof to the host,
    /// which its host hands to [`resume`](Self::resume).
    pub fn path_up(&mut self, path: Path, now: Timestamp) {
        // Over one way that is as good as another, nothing needs to be proven again.
        let mut proven = path == Path::Relay || self.live.usable(path);
        match &mut self.state {
            // For the confirmation of the peer's goodbye.
            State::Closed => return self.live.path_up(path, true, now),
            State::Refused { .. } => return,
            State::Joining(handshake) => handshake.restart(now),
            State::Authenticating(_) | State::Deciding(_) => {}
            State::Open { .. } | State::Closing(_) => {
                if self.is_client && path == Path::Relay {
                    self.resumptions += 1;
                    self.resuming = Some(Resuming::new(self.resumptions));
                    proven = false;
                }
            }
        }
        self.lose(path);
        self.live.path_up(path, proven, now);
        if path == Path::Direct {
            // Its encryption was set up with the peer itself.
            self.on_peer_packet(path, now);
        }
        self.paths_changed(now);
    }

    /// A path is gone: what it carried and was not acknowledged goes over the other, or waits for the next.
    pub fn path_down(&mut self, path: Path, now: Timestamp) {
        if path == Path::Relay && self.is_client {
            // The next path up begins another resumption. A host's answer goes by POST, which needs no stream of its own.
            (self.resuming, self.answer, self.last_answer) = (None, None, None);
        }
        self.live.path_down(path, now);
        self.lose(path);
        self.paths_changed(now);
    }

    /// A path is probably dead: only heartbeats go over it until something comes over it.
    pub fn suspect(&mut self, path: Path, now: Timestamp) {
        if self.live.suspect(path, now) {
            self.lose(path);
            self.paths_changed(now);
        }
    }

    pub(super) fn lose(&mut self, path: Path) {
        self.out.lose(path);
    }

    /// Everything that was sent on this lane and not acknowledged is to be sent again: a POST has failed.
    pub fn lost_in_flight(&mut self, lane: Lane) {
        if lane != Lane::DirectUnreliable {
            self.lose(lane.path());
            // An acknowledgement may have been lost with it.
            self.ack.now |= self.received != PerPath::default();
        }
        if lane == Lane::Relay {
            self.answer = self.answer.take().or(self.last_answer.take());
            if let Some(resuming) = &mut self.resuming {
                resuming.retry = Retry::new();
            }
        }
    }

    /// A packet of ours did not get through, and the relay is to blame. A client that is not in yet repeats it, and gives
    /// its host the full [`timeout`](ConnectionConfig::timeout) once more; all in all no longer than
    /// [`resume_timeout`](ConnectionConfig::resume_timeout) since the host last answered.
    pub fn undelivered(&mut self, now: Timestamp) {
        if let State::Joining(handshake) = &mut self.state {
            handshake.undelivered(now);
        }
    }

    /// The largest message that both sides allow, in bytes; known once connected.
    pub fn max_message(&self) -> usize {
        self.out.max_message()
    }

    /// Queues a message. `Ok` means that it will arrive as its channel promises, for as long as the connection lives.
    pub fn send(&mut self, channel: Channel, payload: Payload) -> Result<(), SendError> {
        self.send_tagged(channel, Tag::Untyped, payload)
    }

    /// As [`send`](Self::send), and the other side learns whom in the game it is for.
    pub fn send_tagged(&mut self, channel: Channel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        self.check_open()?;
        if !channel.is_reliable() && self.message_path().is_none() && payload.len() <= self.config.max_message {
            self.out.unreliable.dropped += 1;
            return Ok(());
        }
        self.out.send(channel, tag, payload)?;
        self.stats.messages_sent += 1;
        Ok(())
    }

    /// Queues a signal for the peer's owner, reliably and in order; at most 64 KiB.
    pub fn send_signal(&mut self, signal: Bytes) -> Result<(), SendError> {
        self.check_open()?;
        self.out.send_signal(signal)
    }

    fn check_open(&self) -> Result<(), SendError> {
        match self.state {
            State::Open { .. } => Ok(()),
            State::Closing(_) | State::Closed | State::Refused { .. } => Err(SendError::Closed),
            _ => Err(SendError::NotConnected),
        }
    }

    /// The game has taken messages of this size in total, each with [`MESSAGE_OVERHEAD`](super::MESSAGE_OVERHEAD): the
    /// peer may send as much again.
    pub fn consumed(&mut self, bytes: usize) {
        self.inc.consumed(bytes);
        self.ack.now |= self.inc.grant_is_due();
    }

    /// Ends the connection: what was sent reliably before arrives first, for as long as acknowledgements advance, and then
    /// the peer is told the reason. [`Closed`](ConnectionEvent::Closed) follows here once the peer has confirmed it.
    /// Without a path, it goes on trying to resume, as long as an open connection would.
    ///
    /// [`drain_timeout`](ConnectionConfig::drain_timeout) bounds all this. When it expires, or nothing advances for twice
    /// the [`timeout`](ConnectionConfig::timeout) although a path is there, what still waits is
    /// [cut](ConnectionEvent::Cut), and the peer is told the reason at once. Before the connection is open, it ends at
    /// once, and a host that has answered is told.
    pub fn close(&mut self, reason: EndReason, now: Timestamp) {
        match self.state {
            State::Open { .. } => self.closing(reason, false, now),
            State::Authenticating(_) | State::Deciding(_) => self.refuse(reason, now),
            // The host has answered, and keeps the request until it hears from us. One that has not may be an original.
            State::Joining(ref handshake) if handshake.secret().is_some() => self.close_now(reason),
            State::Joining(_) => self.finish(reason),
            State::Refused { .. } | State::Closing(_) | State::Closed => {}
        }
    }

    fn closing(&mut self, reason: EndReason, immediate: bool, now: Timestamp) {
        self.out.unreliable.clear();
        // What was sent before goes over whichever path comes.
        (self.direct_wait, self.interrupted) = (None, None);
        self.state = State::Closing(Closing {
            reason,
            started: now,
            progress: now,
            waiting: self.out.queued(),
            path: self.live.active(),
            retry: PerPath::default(),
            immediate: immediate.then_some(now + VIOLATION_LINGER),
        });
    }

    /// Ends the connection at once. The peer is not told.
    pub fn abort(&mut self, reason: EndReason) {
        self.finish(reason);
    }

    /// The peer broke the rules: it is told so, and nothing more is taken from it.
    pub(super) fn violated(&mut self, violation: Violation, now: Timestamp) {
        let reason = match violation {
            Violation::TooMuchData => EndReason::TooMuchData,
            Violation::Protocol(words) => EndReason::ProtocolError(words.into()),
        };
        if matches!(self.state, State::Open { .. }) {
            self.abandon(reason, now);
        }
    }

    /// Ends it without what waits, and tells the peer.
    pub(super) fn abandon(&mut self, reason: EndReason, now: Timestamp) {
        self.out.clear();
        self.closing(reason, true, now);
    }

    pub(super) fn finish(&mut self, reason: EndReason) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if let State::Joining(handshake) = &self.state {
            self.secret = handshake.secret().cloned();
        }
        self.state = State::Closed;
        (self.answer, self.last_answer, self.resuming, self.peer_close) = (None, None, None, None);
        self.out.clear();
        self.end = Some(reason.clone());
        self.events.push_back(ConnectionEvent::Closed(reason));
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        let event = self.events.pop_front()?;
        if let ConnectionEvent::Signal(signal) = &event {
            self.inc.signal_taken(signal.len());
        }
        Some(event)
    }

    /// Whether [`close`](Self::close) waits for the peer.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }

    /// Whether the peer has tried a wrong password.
    pub fn has_wrong_password(&self) -> bool {
        matches!(self.state, State::Refused { reason: EndReason::WrongPassword, .. })
    }

    /// Whether it has ended. A last packet may still be waiting for [`poll_transmit`](Self::poll_transmit).
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// What to keep of a connection that has ended, so that a peer which comes back learns why. `None`: it has not
    /// ended, or the peer never knew its secret.
    pub fn tombstone(&self) -> Option<Tombstone> {
        let secret = self.secret.as_ref()?;
        Some(Tombstone { id: secret.id, key: secret.key.clone(), reason: self.end.clone()? })
    }

    /// Numbers about this connection.
    pub fn stats(&self) -> ConnectionStats {
        let path = self.message_path().filter(|_| self.announced.is_some());
        ConnectionStats {
            rtt: path.and_then(|path| self.live.rtt(path)),
            path,
            queued: self.out.queued(),
            unconsumed: self.inc.unconsumed(),
            messages_received: self.inc.messages,
            resent: self.out.resent,
            unreliable_dropped: self.out.unreliable.dropped + self.inc.unreliable_dropped(),
            unreliable_lost: self.losses.reported_by_peer(),
            ..self.stats
        }
    }
}
