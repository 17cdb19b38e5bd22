//! A connection: its parts, and the commands of its owner.

mod establishment;
mod packets;
mod path_changes;
mod timeouts;

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    ConnectionConfig, ConnectionEvent, ConnectionId, ConnectionStats, Credentials, EnqueueError, Lane,
    MetadataTooLarge, Path, Security, Seed, Timestamp, Tombstone,
    acknowledgements::Acknowledgements,
    client_handshake::ClientHandshake,
    closing::{CloseFrames, Closing},
    config::check_metadata,
    cost::message_cost,
    handshake::{RandomSeed, security},
    host_handshake::HostHandshake,
    incoming::Incoming,
    keys::SessionKeys,
    outgoing::Outgoing,
    packet_seal::{self, PacketSeal},
    path_set::PathSet,
    receive::Violation,
    resumption::Resumption,
    retransmission::NextAnswer,
    state::State,
};
use crate::protocol::{Channel, EndReason, PathPolicy, Payload, PublicKey, Tag, frame::handshake_packet::Limits};

/// A connection with one peer. See [the module](super) for what its owner must do.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    state: State,
    resumption: Resumption,
    /// What protects the connection once it is open.
    security: Security,
    /// The static key of the peer, once it has proved that it owns it.
    peer_key: Option<PublicKey>,
    /// Host: until when a copy of the proof shows that the client is alive. Later ones may be the relay's.
    admitted_until: Timestamp,
    /// Once both sides have keys.
    seal: Option<PacketSeal>,
    answer: NextAnswer,
    paths: PathSet,
    acks: Acknowledgements,
    outgoing: Outgoing,
    incoming: Incoming,
    closes: CloseFrames,
    events: VecDeque<ConnectionEvent>,
    stats: ConnectionStats,
}

impl Connection {
    fn new(config: ConnectionConfig, state: State, resumption: Resumption, security: Security, now: Timestamp) -> Self {
        Self {
            state,
            security,
            peer_key: None,
            admitted_until: Timestamp::ZERO,
            seal: None,
            paths: PathSet::new(&config, resumption.is_client(), now),
            resumption,
            answer: NextAnswer::default(),
            acks: Acknowledgements::new(),
            outgoing: Outgoing::new(0, 0, 0),
            incoming: Incoming::new(&config),
            closes: CloseFrames::default(),
            events: VecDeque::new(),
            stats: ConnectionStats::default(),
            config,
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
        seed: impl Into<Seed>,
        now: Timestamp,
    ) -> Result<Self, MetadataTooLarge> {
        let (config, metadata) = (config.corrected(), check_metadata(metadata)?);
        let (limits, seed) = (config.limits(PathPolicy::default()), RandomSeed(*seed.into()));
        let handshake = ClientHandshake::new(credentials.clone(), limits, metadata, seed, now);
        Ok(Self::new(config, State::Joining(handshake), Resumption::client(), security(credentials), now))
    }

    /// Creates a host's connection for a client whose [`Hello`](crate::protocol::frame::HandshakeKind::Hello) arrived
    /// over the relay. Pass that packet to [`receive`](Self::receive) next. The client receives `metadata` when it is
    /// admitted. The seed must be random and used once.
    ///
    /// The timestamps of all connections of a host should count from the same origin. Idle connections then send their
    /// heartbeats at the same times, and the host wakes up less often.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLarge`] if `metadata` exceeds [`MAX_METADATA`](super::MAX_METADATA).
    pub fn accept(
        config: ConnectionConfig,
        credentials: &Credentials,
        metadata: Bytes,
        seed: impl Into<Seed>,
        now: Timestamp,
    ) -> Result<Self, MetadataTooLarge> {
        let (config, metadata) = (config.corrected(), check_metadata(metadata)?);
        let seed = seed.into();
        let handshake = HostHandshake::new(credentials.clone(), metadata, RandomSeed(*seed), now);
        let security = security(credentials);
        let mut connection = Self::new(config, State::Admitting(handshake), Resumption::host(&seed), security, now);
        connection.paths.up_unopened(Path::Relay, now);
        Ok(connection)
    }

    /// Creates a client and a host that are already connected, for tests. They skip the handshake and use fixed keys.
    #[doc(hidden)]
    pub fn pair(client: ConnectionConfig, host: ConnectionConfig, now: Timestamp) -> (Self, Self) {
        let (client, host) = (client.corrected(), host.corrected());
        let make = |config: &ConnectionConfig, resumption, peer: &ConnectionConfig| {
            let state = State::Open { handshake: None };
            let mut connection = Self::new(config.clone(), state, resumption, Security::Sealed, now);
            connection.set_keys(&SessionKeys::fixed());
            connection.limit(peer.limits(PathPolicy::default()));
            connection.paths.up_unopened(Path::Relay, now);
            connection.paths.open(Bytes::new(), now, &mut VecDeque::new());
            connection
        };
        (make(&client, Resumption::client(), &host), make(&host, Resumption::host(&[0; 32]), &client))
    }

    /// Sets the keys on which both sides have agreed.
    fn set_keys(&mut self, keys: &SessionKeys) {
        self.resumption.set_keys(Some(&keys.lasting));
        self.seal = Some(PacketSeal::new(keys, self.resumption.is_client()));
    }

    /// Applies the peer's limits. Returns `false` if they cannot work.
    fn limit(&mut self, peer: Limits) -> bool {
        if !self.paths.agree(peer.paths, self.config.agreed_timeouts(peer)) {
            return false;
        }
        let max_message = self.config.max_message.min(usize::try_from(peer.max_message).unwrap_or(usize::MAX));
        self.outgoing = Outgoing::new(self.config.send_buffer, max_message, peer.receive_buffer);
        message_cost(max_message) as u64 <= peer.receive_buffer
    }

    /// Returns the id of this connection, once the other side has answered.
    pub fn id(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Joining(handshake) => handshake.id(),
            State::Admitting(handshake) => handshake.id(),
            _ => self.resumption.id(),
        }
    }

    /// Returns what protects this connection once it is open.
    pub fn security(&self) -> Security {
        self.security
    }

    /// Returns the static key of the peer. A client knows it once the host has answered, and a host from the
    /// [`JoinRequest`](ConnectionEvent::JoinRequest) on.
    pub fn peer_key(&self) -> Option<PublicKey> {
        self.peer_key
    }

    /// Returns the largest message that both sides allow, in bytes. It is zero until the connection is open.
    pub fn max_message(&self) -> usize {
        self.outgoing.max_message()
    }

    /// Queues a message. `Ok` means that its channel's guarantee applies for the life of the connection.
    ///
    /// # Errors
    ///
    /// [`EnqueueError`] if the connection is not open, the message is too large, or the send buffer is full.
    pub fn send(&mut self, channel: Channel, payload: Payload) -> Result<(), EnqueueError> {
        self.send_tagged(channel, Tag::Untyped, payload)
    }

    /// Queues a message with a tag, which names its receiver within the peer's game.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn send_tagged(&mut self, channel: Channel, tag: Tag, payload: Payload) -> Result<(), EnqueueError> {
        self.check_open()?;
        if !channel.is_reliable() && self.paths.message_path().is_none() && payload.len() <= self.config.max_message {
            self.outgoing.drop_message();
            return Ok(());
        }
        self.outgoing.send(channel, tag, payload)?;
        self.stats.messages_sent += 1;
        Ok(())
    }

    /// Queues a signal for the peer's owner. Signals are reliable and ordered, and at most 64 KiB each.
    ///
    /// # Errors
    ///
    /// [`EnqueueError`] if the connection is not open, the signal is too large, or 256 KiB of signals are queued.
    pub fn send_signal(&mut self, signal: Bytes) -> Result<(), EnqueueError> {
        self.check_open()?;
        self.outgoing.send_signal(signal)
    }

    fn check_open(&self) -> Result<(), EnqueueError> {
        match self.state {
            State::Open { .. } => Ok(()),
            State::Closing(_) | State::Closed(_) | State::Refused { .. } => Err(EnqueueError::Closed),
            _ => Err(EnqueueError::NotConnected),
        }
    }

    /// Reports how many bytes of messages the game has consumed, with [`MESSAGE_OVERHEAD`](super::MESSAGE_OVERHEAD)
    /// added for each message. The peer may send that much more.
    pub fn consumed(&mut self, bytes: usize) {
        self.incoming.consumed(bytes);
        self.report_grant_if_due();
    }

    /// Makes an acknowledgement due if it reports a grant that the peer needs now.
    fn report_grant_if_due(&mut self) {
        if self.incoming.grant_is_due() {
            self.acks.request();
        }
    }

    /// Closes the connection after delivering the reliable messages that were sent before. Then the peer receives the
    /// reason, and [`Closed`](ConnectionEvent::Closed) follows once it has confirmed. While no path is up, the
    /// connection tries to resume.
    ///
    /// [`drain_timeout`](ConnectionConfig::drain_timeout) bounds the whole close. When it expires, or nothing is
    /// acknowledged for twice the [`timeout`](ConnectionConfig::timeout) although a path is up, or for
    /// [`resume_timeout`](ConnectionConfig::resume_timeout) while none is, the remaining messages are
    /// [cut](ConnectionEvent::Cut) and the peer receives the reason at once. A connection that is not open yet ends
    /// at once; a host that has answered is notified, and a client that asks to join is refused.
    pub fn close(&mut self, reason: EndReason, now: Timestamp) {
        match &mut self.state {
            // The peer takes nothing more. Without a path, it would not be told.
            State::Open { .. } if self.closes.has_close() && self.paths.active().is_some() => {
                self.cut();
                self.close_now(reason);
            }
            State::Open { .. } => {
                self.outgoing.clear_unreliable();
                self.paths.stop_waiting();
                let (queued, path) = (self.outgoing.queued(), self.paths.active());
                self.state = State::Closing(Closing::draining(reason, queued, path, now));
            }
            State::Admitting(_) => {
                self.refuse(reason, now);
                self.close(EndReason::EndedLocally, now);
            }
            State::Refused { leaving, .. } => *leaving = true,
            // A host that has answered keeps the request until it learns of the end.
            State::Joining(_) => self.close_now(reason),
            State::Closing(_) | State::Closed(_) => {}
        }
    }

    /// Ends a connection that is [closing](Self::close) at once. What is not acknowledged is cut, and the reason is sent once
    /// on each path.
    pub fn give_up(&mut self) {
        if let State::Closing(closing) = &self.state {
            let reason = closing.reason().clone();
            self.cut();
            self.close_now(reason);
        }
    }

    /// Closes the connection as [`close`](Self::close) does, for a side that can still send, and receives nothing more:
    /// what is unacknowledged is sent again, before the reason, and over the relay if it is up. Only the reason is sent if
    /// more than `room` bytes wait, or the peer has no room for them.
    pub fn close_unanswered(&mut self, reason: EndReason, room: usize, now: Timestamp) {
        let was_open = self.is_open();
        self.close(reason.clone(), now);
        if !was_open || self.is_closed() {
            return;
        }
        self.lost_in_flight(Lane::Relay);
        if self.paths.heartbeats().usable(Path::Relay) {
            // What it has not sent yet ends with this side.
            self.suspect(Path::Direct, now);
        }
        if self.outgoing.queued() > room || !self.outgoing.is_granted() {
            self.abandon(reason, now);
        }
    }

    /// Returns the last packet of a host that has [closed](Self::close_unanswered) the connection. It goes over the relay,
    /// after all others: a client that was told by the relay that the host is gone resumes, and takes only packets that
    /// prove their sender.
    #[must_use]
    pub fn farewell(&self) -> Option<Bytes> {
        let State::Closing(closing) = &self.state else { return None };
        let tombstone = self.tombstone_with(closing.reason().clone())?;
        (!self.resumption.is_client()).then(|| tombstone.farewell())
    }

    /// Ends the connection at once, without draining. The reason is sent once on each path, for a peer that may still
    /// receive it.
    pub fn close_now(&mut self, reason: EndReason) {
        if self.is_closed() {
            return;
        }
        if let State::Joining(handshake) = &self.state {
            let leave = handshake.leave(&reason);
            self.finish(reason);
            return self.answer.set(leave);
        }
        self.closes.send_last(reason.clone());
        self.finish(reason);
    }

    /// Ends the connection at once, without notifying the peer.
    pub fn abort(&mut self, reason: EndReason) {
        self.finish(reason);
    }

    /// Closes the connection with a peer that violated the protocol. Nothing more is accepted from it.
    fn violated(&mut self, violation: Violation, now: Timestamp) {
        let reason = match violation {
            Violation::TooMuchData => EndReason::TooMuchData,
            Violation::Protocol(text) => EndReason::ProtocolError(text.into()),
        };
        if self.is_open() {
            self.abandon(reason, now);
        }
    }

    /// Closes the connection without draining, and notifies the peer.
    fn abandon(&mut self, reason: EndReason, now: Timestamp) {
        self.outgoing.clear();
        self.paths.stop_waiting();
        self.state = State::Closing(Closing::immediate(reason, self.paths.active(), now));
    }

    fn finish(&mut self, reason: EndReason) {
        if self.is_closed() {
            return;
        }
        if let State::Joining(handshake) = &self.state {
            self.resumption.set_keys(handshake.keys());
        }
        self.resumption.stop();
        self.answer.clear();
        self.closes.forget();
        self.outgoing.clear();
        self.state = State::Closed(reason.clone());
        self.events.push_back(ConnectionEvent::Closed(reason));
    }

    /// Returns the next event, in the order in which they happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        let event = self.events.pop_front()?;
        if let ConnectionEvent::Signal(signal) = &event {
            self.incoming.signal_taken(signal.len());
        }
        Some(event)
    }

    /// Returns whether the connection is open: the peer is admitted, and neither side has closed.
    pub fn is_open(&self) -> bool {
        self.state.is_open()
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
        matches!(self.state, State::Closed(_))
    }

    /// Returns what to keep of an ended connection, so that a peer which comes back learns why it ended. `None` if it
    /// has not ended, or the peer never had its keys.
    #[must_use]
    pub fn tombstone(&self) -> Option<Tombstone> {
        let State::Closed(reason) = &self.state else { return None };
        self.tombstone_with(reason.clone())
    }

    fn tombstone_with(&self, reason: EndReason) -> Option<Tombstone> {
        Some(Tombstone::new(self.resumption.keys()?.clone(), reason))
    }

    /// Opens a sealed packet of the peer without receiving it, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn peek(&self, packet: &Bytes) -> Option<Bytes> {
        packet_seal::peek(self.seal.as_ref()?.theirs(), packet.clone())
    }

    /// Seals a packet as the peer does, for tests of a peer that misbehaves.
    #[doc(hidden)]
    #[must_use]
    pub fn seal_as_peer(&self, packet: &Bytes) -> Option<Bytes> {
        Some(self.seal.as_ref()?.seal_as_peer(packet[..].into()))
    }

    /// Returns statistics of this connection.
    pub fn stats(&self) -> ConnectionStats {
        let reported = self.paths.reported();
        ConnectionStats {
            rtt: reported.and_then(|(_, rtt)| rtt),
            path: reported.map(|(path, _)| path),
            queued: self.outgoing.queued(),
            unconsumed: self.incoming.unconsumed(),
            messages_received: self.incoming.messages(),
            resent: self.outgoing.resent(),
            unreliable_dropped: self.outgoing.dropped() + self.incoming.unreliable_dropped(),
            unreliable_lost: self.paths.losses_of_peer(),
            ..self.stats
        }
    }
}
