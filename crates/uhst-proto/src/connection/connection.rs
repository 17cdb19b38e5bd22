//! The states of a connection, and the commands of its owner.

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

/// How long a refusal is repeated, and a close whose drain has expired.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How long the close is repeated to a peer that violated the protocol.
const VIOLATION_LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum State {
    /// Client: waits for the host's welcome.
    Joining(ClientHandshake),
    /// Host: waits for the client to prove the password.
    Authenticating(HostHandshake),
    /// Host: waits for the game's decision.
    Deciding(HostHandshake),
    /// Host: repeats the refusal for each further copy of the client's proof.
    Refused {
        answer: Bytes,
        until: Timestamp,
        reason: EndReason,
    },
    /// Messages flow. A host keeps the handshake until the client shows that it has received the welcome.
    Open {
        handshake: Option<HostHandshake>,
    },
    /// This side has closed, and drains its queues or waits for the peer's confirmation.
    Closing(Closing),
    Closed,
}

/// The state of a close by this side.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) reason: EndReason,
    pub(super) started: Timestamp,
    /// When an acknowledgement last advanced, or the path changed.
    pub(super) progress: Timestamp,
    /// The bytes that were queued at that time.
    pub(super) waiting: usize,
    /// The path in use at that time.
    pub(super) path: Option<Path>,
    /// When to repeat the close on each path; `None`: it is due now.
    pub(super) retry: PerPath<Option<Timestamp>>,
    /// Closes without draining, and repeats the close until this time.
    pub(super) immediate: Option<Timestamp>,
}

/// A close by the peer that cannot be applied yet, because earlier fragments are missing.
#[derive(Debug)]
pub(super) struct PeerClose {
    pub(super) ends: [u64; 3],
    pub(super) reason: EndReason,
    pub(super) until: Timestamp,
    /// The path on which it arrived.
    pub(super) path: Path,
}

/// When to send the next acknowledgement.
#[derive(Debug, Default)]
pub(super) struct AckTimer {
    pub(super) now: bool,
    pub(super) due: Option<Timestamp>,
    /// The acknowledgement may be delayed until then while more data arrives.
    pub(super) latest: Option<Timestamp>,
    /// Bytes received since the last acknowledgement.
    pub(super) bytes: usize,
}

/// A connection with one peer. See [the module](super) for what its owner must do.
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
    /// The next handshake or resumption packet.
    pub(super) answer: Option<Bytes>,
    /// The handshake or resumption packet sent last, for the case that its POST fails.
    pub(super) last_answer: Option<Bytes>,
    /// The largest packet number received on each path, for acknowledgements.
    pub(super) received: PerPath<u64>,
    pub(super) next_packet: u64,
    pub(super) ack: AckTimer,
    /// Client: a resumption in progress.
    pub(super) resuming: Option<Resuming>,
    pub(super) resumptions: u64,
    pub(super) replay_guard: ReplayGuard,
    pub(super) peer_close: Option<PeerClose>,
    /// Whether to confirm the peer's close, on each path.
    pub(super) close_ack: PerPath<bool>,
    pub(super) end: Option<EndReason>,
    pub(super) announced: Option<Path>,
    /// The policy of this side; once open, the one that both sides agreed on.
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

    /// Creates a client's connection. It sends its hello as soon as [`path_up`](Self::path_up) reports the relay path.
    /// The host's game receives `metadata` with the join request.
    ///
    /// The seed must be random and used once: the secrets of the connection are derived from it. Limits are
    /// [corrected](ConnectionConfig::corrected).
    ///
    /// # Errors
    ///
    /// [`MetadataTooLarge`] if `metadata` exceeds [`MAX_METADATA`](super::MAX_METADATA).
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

    /// Creates a host's connection for a client whose [`Hello`](crate::protocol::frame::HandshakeKind::Hello) arrived
    /// over the relay. Pass that packet to [`receive`](Self::receive) next. The client receives `metadata` when it is
    /// admitted. The seed must be random and used once.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLarge`] if `metadata` exceeds [`MAX_METADATA`](super::MAX_METADATA).
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

    /// Creates a client and a host that are already connected, for tests. They skip the handshake and use a fixed key.
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

    /// Applies the peer's limits. Returns `false` if they cannot work.
    pub(super) fn limit(&mut self, peer: Limits) -> bool {
        let Some(paths) = self.paths.with(peer.paths) else { return false };
        self.paths = paths;
        let max_message = self.config.max_message.min(usize::try_from(peer.max_message).unwrap_or(usize::MAX));
        self.out = Outgoing::new(self.config.send_buffer, max_message, peer.receive_buffer);
        (self.config.timeout, self.config.resume_timeout) = self.config.agreed_timeouts(peer);
        self.live.set_timeout(self.config.timeout);
        message_cost(max_message) as u64 <= peer.receive_buffer
    }

    /// Returns the id of this connection, once the other side has answered.
    pub fn id(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Joining(handshake) => handshake.secret().map(|secret| secret.id),
            State::Authenticating(handshake) | State::Deciding(handshake) => {
                handshake.secret.as_ref().map(|secret| secret.id)
            }
            _ => self.secret.as_ref().map(|secret| secret.id),
        }
    }

    /// Reports that a path leads to the peer, for the first time or again. When the relay path of an open client comes
    /// back, the client sends a resumption, which the host passes to [`resume`](Self::resume).
    pub fn path_up(&mut self, path: Path, now: Timestamp) {
        // A path that is replaced by one of the same kind needs no new proof.
        let mut proven = path == Path::Relay || self.live.usable(path);
        match &mut self.state {
            // The confirmation of the peer's close may still have to be sent.
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
            // The peer itself set up its encryption.
            self.on_peer_packet(path, now);
        }
        self.paths_changed(now);
    }

    /// Reports that a path is gone. Unacknowledged data that it carried is sent again on the other path, or on the next
    /// one.
    pub fn path_down(&mut self, path: Path, now: Timestamp) {
        if path == Path::Relay && self.is_client {
            // The next relay path starts a new resumption. A host keeps its answer: it sends by POST, which does not
            // depend on its stream.
            (self.resuming, self.answer, self.last_answer) = (None, None, None);
        }
        self.live.path_down(path, now);
        self.lose(path);
        self.paths_changed(now);
    }

    /// Reports that a path is probably dead. It carries only heartbeats until a packet arrives over it.
    pub fn suspect(&mut self, path: Path, now: Timestamp) {
        if self.live.suspect(path, now) {
            self.lose(path);
            self.paths_changed(now);
        }
    }

    pub(super) fn lose(&mut self, path: Path) {
        self.out.lose(path);
    }

    /// Reports that a packet on this lane was lost, for example because its POST failed. Unless the lane is unreliable,
    /// everything in flight on its path is sent again.
    pub fn lost_in_flight(&mut self, lane: Lane) {
        if lane != Lane::DirectUnreliable {
            self.lose(lane.path());
            // The failed packet may have carried an acknowledgement.
            self.ack.now |= self.received != PerPath::default();
        }
        if lane == Lane::Relay {
            self.answer = self.answer.take().or(self.last_answer.take());
            if let Some(resuming) = &mut self.resuming {
                resuming.retry = Retry::new();
            }
        }
    }

    /// Reports that the relay failed to deliver a packet. A client that is still joining sends it again and gives the
    /// host the full [`timeout`](ConnectionConfig::timeout) once more, up to
    /// [`resume_timeout`](ConnectionConfig::resume_timeout) after the host's last answer.
    pub fn undelivered(&mut self, now: Timestamp) {
        if let State::Joining(handshake) = &mut self.state {
            handshake.undelivered(now);
        }
    }

    /// Returns the largest message that both sides allow, in bytes. It is zero until the connection is open.
    pub fn max_message(&self) -> usize {
        self.out.max_message()
    }

    /// Queues a message. `Ok` means that its channel's guarantee applies for the life of the connection.
    ///
    /// # Errors
    ///
    /// [`SendError`] if the connection is not open, the message is too large, or the send buffer is full.
    pub fn send(&mut self, channel: Channel, payload: Payload) -> Result<(), SendError> {
        self.send_tagged(channel, Tag::Untyped, payload)
    }

    /// Queues a message with a tag, which names its receiver within the peer's game.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
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

    /// Queues a signal for the peer's owner. Signals are reliable and ordered, and at most 64 KiB each.
    ///
    /// # Errors
    ///
    /// [`SendError`] if the connection is not open, the signal is too large, or 256 KiB of signals are queued.
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

    /// Reports how many bytes of messages the game has consumed, with [`MESSAGE_OVERHEAD`](super::MESSAGE_OVERHEAD)
    /// added for each message. The peer may send that much more.
    pub fn consumed(&mut self, bytes: usize) {
        self.inc.consumed(bytes);
        self.ack.now |= self.inc.grant_is_due();
    }

    /// Closes the connection after delivering the reliable messages that were sent before. Then the peer receives the
    /// reason, and [`Closed`](ConnectionEvent::Closed) follows once it has confirmed. While no path is up, the
    /// connection tries to resume.
    ///
    /// [`drain_timeout`](ConnectionConfig::drain_timeout) bounds the whole close. When it expires, or nothing is
    /// acknowledged for twice the [`timeout`](ConnectionConfig::timeout) although a path is up, the remaining messages
    /// are [cut](ConnectionEvent::Cut) and the peer receives the reason at once. A connection that is not open yet ends
    /// at once; a host that has answered is notified.
    pub fn close(&mut self, reason: EndReason, now: Timestamp) {
        match self.state {
            State::Open { .. } => self.closing(reason, false, now),
            State::Authenticating(_) | State::Deciding(_) => self.refuse(reason, now),
            // A host that has answered keeps the request until it receives a close. A host that has not answered may be
            // an original, which would read the close as text.
            State::Joining(ref handshake) if handshake.secret().is_some() => self.close_now(reason),
            State::Joining(_) => self.finish(reason),
            State::Refused { .. } | State::Closing(_) | State::Closed => {}
        }
    }

    fn closing(&mut self, reason: EndReason, immediate: bool, now: Timestamp) {
        self.out.unreliable.clear();
        // Messages that were sent before may use whichever path comes up.
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

    /// Ends the connection at once, without notifying the peer.
    pub fn abort(&mut self, reason: EndReason) {
        self.finish(reason);
    }

    /// Closes the connection with a peer that violated the protocol. Nothing more is accepted from it.
    pub(super) fn violated(&mut self, violation: Violation, now: Timestamp) {
        let reason = match violation {
            Violation::TooMuchData => EndReason::TooMuchData,
            Violation::Protocol(text) => EndReason::ProtocolError(text.into()),
        };
        if matches!(self.state, State::Open { .. }) {
            self.abandon(reason, now);
        }
    }

    /// Closes the connection without draining, and notifies the peer.
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

    /// Returns the next event, in the order in which they happened.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        let event = self.events.pop_front()?;
        if let ConnectionEvent::Signal(signal) = &event {
            self.inc.signal_taken(signal.len());
        }
        Some(event)
    }

    /// Returns whether [`close`](Self::close) is still waiting for the peer.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }

    /// Returns whether the peer was refused for a wrong password.
    pub fn has_wrong_password(&self) -> bool {
        matches!(self.state, State::Refused { reason: EndReason::WrongPassword, .. })
    }

    /// Returns whether the connection has ended. [`poll_transmit`](Self::poll_transmit) may still return a last packet.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns what to keep of an ended connection, so that a peer which comes back learns why it ended. `None` if it
    /// has not ended, or the peer never knew its secret.
    #[must_use]
    pub fn tombstone(&self) -> Option<Tombstone> {
        let secret = self.secret.as_ref()?;
        Some(Tombstone { id: secret.id, key: secret.key.clone(), reason: self.end.clone()? })
    }

    /// Returns statistics of this connection.
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
