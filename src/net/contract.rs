//! The whole contract between the ECS and the network: commands down, events up, and the few numbers they share.
//!
//! Commands go down tokio channels, one per session and one per peer. Events come up one crossbeam channel per app,
//! so that an idle frame costs one look at an empty queue. Neither side ever waits for the other.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{conditions::NetworkConditions, local::LocalWay, relay_choice::Relay, webrtc::DirectConfig};
use crate::{
    connection::{ConnectionConfig, ConnectionId, MESSAGE_OVERHEAD, Path, message_cost},
    protocol::{Channel, EndReason, GameId, JoinLink, PathPolicy, Payload, Tag},
};

/// Names a session across the contract; the ECS chooses it (an entity's bits) and the network hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// Names a peer within its session; the network chooses it, and never twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub u64);

/// How a host decides on joiners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Everyone with the right password, up to the limit.
    #[default]
    Open,
    /// The game answers each [`UhstJoinRequest`](crate::UhstJoinRequest).
    Ask,
}

/// What a host is started with.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The wanted id; without one the relay picks six digits.
    pub id: Option<String>,
    /// Where to listen.
    pub relay: Relay,
    /// How many peers may be connected at once.
    pub max_peers: usize,
    /// Joiners must prove to know it.
    pub password: Option<String>,
    /// Joiners must play the same.
    pub game: GameId,
    /// Whether the game is asked.
    pub admission: Admission,
    /// Handed to every joiner when it is admitted.
    pub metadata: Bytes,
    /// Timeouts and limits of every connection.
    pub connection: ConnectionConfig,
    /// Which ways connections may take.
    pub paths: PathPolicy,
    /// How direct ones are found.
    pub direct: DirectConfig,
    /// How much worse than the real network their network is.
    pub conditions: NetworkConditions,
}

/// What a client is started with.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Whom to join.
    pub target: JoinLink,
    /// Where, when the target names no relay.
    pub relay: Relay,
    /// Proved to the host, never sent.
    pub password: Option<String>,
    /// What we play.
    pub game: GameId,
    /// Shown to the host with the request to join.
    pub metadata: Bytes,
    /// Timeouts and limits of the connection.
    pub connection: ConnectionConfig,
    /// Which ways the connection may take.
    pub paths: PathPolicy,
    /// How a direct one is found.
    pub direct: DirectConfig,
    /// How much worse than the real network its network is.
    pub conditions: NetworkConditions,
}

/// A command to a session.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// The game's answer to a [`EventKind::JoinRequest`].
    Decide {
        /// Who asked.
        peer: PeerKey,
        /// `Err` refuses, with words for the joiner.
        decision: Result<(), String>,
    },
    /// Make the network of every peer, now and later, worse or better.
    Conditions(NetworkConditions),
    /// Say goodbye to everyone and end.
    Leave,
}

/// A command to one peer.
#[derive(Debug)]
pub(crate) enum PeerCommand {
    /// Send one message.
    Send {
        /// Its promise.
        channel: Channel,
        /// Whom in the game it is for; not [`Tag::Untyped`] to native peers only.
        tag: Tag,
        /// Its content.
        payload: Payload,
    },
    /// Make its network worse or better.
    Conditions(NetworkConditions),
    /// Deliver what was sent before, say goodbye with this reason, and end.
    Disconnect(EndReason),
}

/// An event from a session.
#[derive(Debug)]
pub(crate) struct Event {
    /// From which session.
    pub session: SessionKey,
    /// What happened.
    pub kind: EventKind,
}

/// One message, as it goes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The promise it was sent under.
    pub channel: Channel,
    /// Whom in the game it is for.
    pub tag: Tag,
    /// Its content.
    pub payload: Payload,
}

/// What happened in a session.
#[derive(Debug)]
pub(crate) enum EventKind {
    /// The host listens, or the client has found its host; once per session.
    Ready {
        /// The id the relay really gave.
        id: String,
        /// Links that join this session, the one most likely to work from another machine first.
        links: Vec<JoinLink>,
    },
    /// A peer asks to join; only with [`Admission::Ask`].
    JoinRequest {
        /// Who asks.
        peer: PeerKey,
        /// What it says of itself.
        metadata: Bytes,
    },
    /// A peer is connected.
    Connected {
        /// Who.
        peer: PeerKey,
        /// How to reach it.
        handle: PeerHandle,
        /// What it says of itself.
        metadata: Bytes,
    },
    /// Messages of one connected peer, in order. Whoever takes them says so with [`PeerHandle::taken`].
    Messages {
        /// From whom.
        peer: PeerKey,
        /// Never empty.
        messages: Vec<Received>,
    },
    /// A connected peer is reached another way now.
    PathChanged {
        /// Who.
        peer: PeerKey,
        /// The new way.
        path: Path,
    },
    /// A connected peer is gone; the last event of this peer.
    Disconnected {
        /// Who.
        peer: PeerKey,
        /// Why.
        reason: EndReason,
    },
    /// Something a developer wants to know that ends nothing: a relay lost and found, nonsense received.
    Diagnostic {
        /// About which peer, if about one.
        peer: Option<PeerKey>,
        /// In a person's words.
        text: String,
    },
    /// The session is over; its last event, after those of its peers.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// A message that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Larger than `max_message`.
    #[error("the message has {size} bytes, the limit is {limit}: split it or raise `max_message`")]
    TooLarge {
        /// Bytes in the message.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer, or the way to it, is slower than this game sends.
    #[error("{queued} bytes wait to be sent, the limit is {limit}: send less, or again in a later frame")]
    QueueFull {
        /// Bytes that wait.
        queued: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer has left, or is about to.
    #[error("this peer is gone")]
    Disconnected,
    /// A client has nobody to send to before it is connected, and after its session's end.
    #[error("not connected to a host")]
    NotConnected,
    /// Binary to a peer of the original protocol over a relay, whose messages are JSON strings.
    #[error("this peer speaks the original protocol over a relay, which carries text only")]
    TextOnly,
    /// A message of this type, which was not registered.
    #[error("{0} is not registered: call `app.add_uhst_message` for it")]
    NotRegistered(&'static str),
    /// A message of this type whose value cannot be written: JSON, say, has no map by anything but strings.
    #[error("this value of {0} cannot be serialised")]
    NotSerializable(&'static str),
    /// A typed message in binary to a peer of the original protocol, which cannot say what type it is.
    #[error("this peer speaks the original protocol, which knows no types: send text it understands")]
    NativeOnly,
}

/// How the ECS reaches one peer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PeerHandle {
    way: Way,
    shared: Arc<PeerShared>,
}

#[derive(Clone, Debug)]
enum Way {
    /// The task of the peer.
    Network(mpsc::UnboundedSender<PeerCommand>),
    /// Another session of this app.
    Local(LocalWay),
}

/// What both sides of the contract know of one peer: atomics only.
#[derive(Debug)]
pub(crate) struct PeerShared {
    limits: PeerLimits,
    /// Set before anyone is told of the peer; never, if it speaks the original protocol.
    connection: OnceLock<ConnectionId>,
    /// Bytes handed down and not yet acknowledged, or sent for good.
    queued: AtomicUsize,
    /// Bytes handed up and not yet taken.
    inbox: AtomicUsize,
    open: AtomicBool,
    path: AtomicU8,
    reachable: AtomicBool,
    /// Microseconds; 0: not known.
    rtt: AtomicU32,
    sent_messages: AtomicU64,
    sent_bytes: AtomicU64,
    received_messages: AtomicU64,
    received_bytes: AtomicU64,
    lost: AtomicU64,
}

/// What one peer can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerLimits {
    /// Bytes of one message.
    pub max_message: usize,
    /// Bytes that may wait to be sent.
    pub send_buffer: usize,
    /// Whether binary cannot be carried over the relay.
    pub text_only: bool,
    /// Whether the peer speaks the native dialect.
    pub native: bool,
}

/// How much of the send queue a message takes, in bytes: as its connection counts, so that both agree on what is full.
pub(crate) fn queue_cost(payload: &Payload) -> usize {
    message_cost(payload.len())
}

/// How much of the receive buffer a message takes until the game has it. Empty ones take something, too.
pub(crate) fn inbox_cost(payload: &Payload) -> usize {
    payload.len() + MESSAGE_OVERHEAD
}

impl PeerHandle {
    /// A handle, and the end at which the network receives its commands.
    pub fn new(limits: PeerLimits) -> (Self, mpsc::UnboundedReceiver<PeerCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(PeerShared::new(limits));
        (PeerHandle { way: Way::Network(commands), shared }, receiver)
    }

    /// A handle to another session of this app.
    pub(super) fn local(way: LocalWay, shared: Arc<PeerShared>) -> Self {
        PeerHandle { way: Way::Local(way), shared }
    }

    pub(super) fn local_way(&self) -> Option<&LocalWay> {
        match &self.way {
            Way::Network(_) => None,
            Way::Local(way) => Some(way),
        }
    }

    /// Whether it leads to another session of this app.
    pub fn is_local(&self) -> bool {
        self.local_way().is_some()
    }

    /// Queues one untyped message. Never waits.
    pub fn send(&self, channel: Channel, payload: Payload) -> Result<(), SendError> {
        self.send_tagged(channel, Tag::Untyped, payload)
    }

    /// Queues one message. Never waits.
    pub fn send_tagged(&self, channel: Channel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        let PeerLimits { max_message, send_buffer, text_only, native } = self.shared.limits;
        let size = payload.len();
        if size > max_message {
            return Err(SendError::TooLarge { size, limit: max_message });
        }
        if !native && tag != Tag::Untyped {
            return Err(SendError::NativeOnly);
        }
        if text_only && self.shared.path() == Path::Relay && matches!(payload, Payload::Binary(_)) {
            return Err(SendError::TextOnly);
        }
        if !self.shared.open.load(Ordering::Relaxed) {
            return Err(SendError::Disconnected);
        }
        let cost = match self.way {
            Way::Network(_) => queue_cost(&payload),
            Way::Local(_) => inbox_cost(&payload),
        };
        let queued = self.shared.queued.fetch_add(cost, Ordering::Relaxed);
        if queued + cost > send_buffer {
            self.shared.queued.fetch_sub(cost, Ordering::Relaxed);
            return Err(SendError::QueueFull { queued, limit: send_buffer });
        }
        match &self.way {
            Way::Network(commands) => {
                commands.send(PeerCommand::Send { channel, tag, payload }).map_err(|_| SendError::Disconnected)
            }
            Way::Local(way) => {
                way.send(Received { channel, tag, payload }, cost);
                Ok(())
            }
        }
    }

    /// Makes the network of this peer worse or better.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        // Where there is no network, as where the peer is gone, there is nothing to change.
        if let Way::Network(commands) = &self.way {
            let _ = commands.send(PeerCommand::Conditions(conditions));
        }
    }

    /// Ends the connection after what was sent before. Further sends fail.
    pub fn disconnect(&self, reason: EndReason) {
        self.shared.open.store(false, Ordering::Relaxed);
        match &self.way {
            // A peer that is already gone needs no goodbye.
            Way::Network(commands) => drop(commands.send(PeerCommand::Disconnect(reason))),
            Way::Local(way) => way.end(reason),
        }
    }

    /// Says that messages of this many bytes, by [`inbox_cost`], were taken from the queue.
    pub fn taken(&self, bytes: usize) {
        self.shared.inbox.fetch_sub(bytes, Ordering::Relaxed);
        if let Way::Local(way) = &self.way {
            way.taken(bytes);
        }
    }

    /// The numbers both sides share.
    pub fn shared(&self) -> &Arc<PeerShared> {
        &self.shared
    }
}

impl PeerShared {
    pub(super) fn new(limits: PeerLimits) -> Self {
        PeerShared {
            limits,
            connection: OnceLock::new(),
            queued: AtomicUsize::new(0),
            inbox: AtomicUsize::new(0),
            open: AtomicBool::new(true),
            path: AtomicU8::new(0),
            reachable: AtomicBool::new(true),
            rtt: AtomicU32::new(0),
            sent_messages: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_messages: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// What this peer can take.
    pub fn limits(&self) -> PeerLimits {
        self.limits
    }

    /// What both sides call the connection. Peers of the original protocol have no name for it.
    #[cfg(feature = "replicon")]
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection.get().copied()
    }

    /// The smoothed round-trip time, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }

    /// The way messages take now.
    pub fn path(&self) -> Path {
        match self.path.load(Ordering::Relaxed) {
            0 => Path::Relay,
            _ => Path::Direct,
        }
    }

    /// Whether a path leads to the peer now.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be sent or acknowledged.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Counts since the connection began.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            sent_messages: self.sent_messages.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_messages: self.received_messages.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_connection(&self, id: ConnectionId) {
        // It has one name for its whole life.
        let _ = self.connection.set(id);
    }

    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_path(&self, path: Path) {
        self.path.store(u8::from(path == Path::Direct), Ordering::Relaxed);
    }

    pub(super) fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    pub(super) fn set_rtt(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.rtt.store(micros, Ordering::Relaxed);
    }

    /// Takes bytes off the send queue: acknowledged, dropped, or handed to a path that promises no more.
    pub(super) fn sent(&self, cost: usize) {
        self.queued.fetch_sub(cost, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self, cost: usize) {
        self.inbox.fetch_add(cost, Ordering::Relaxed);
    }

    pub(crate) fn inbox(&self) -> usize {
        self.inbox.load(Ordering::Relaxed)
    }

    pub(crate) fn set_traffic(&self, traffic: Traffic) {
        self.sent_messages.store(traffic.sent_messages, Ordering::Relaxed);
        self.sent_bytes.store(traffic.sent_bytes, Ordering::Relaxed);
        self.received_messages.store(traffic.received_messages, Ordering::Relaxed);
        self.received_bytes.store(traffic.received_bytes, Ordering::Relaxed);
        self.lost.store(traffic.lost, Ordering::Relaxed);
    }
}

/// Counts of one connection since it began. Bytes include the frames around messages, and acks; with a peer of the
/// original protocol, those of messages alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent_messages: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Messages received.
    pub received_messages: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames sent again, and unreliable messages dropped before they were sent.
    pub lost: u64,
}

/// How the ECS reaches one session. Dropping it leaves the session.
#[derive(Debug)]
pub(crate) struct SessionHandle(SessionWay);

#[derive(Debug)]
enum SessionWay {
    Network(mpsc::UnboundedSender<SessionCommand>),
    /// A client's whole session is its connection.
    Local(PeerHandle),
}

impl SessionHandle {
    /// A handle, and the end at which the network receives its commands.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<SessionCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (SessionHandle(SessionWay::Network(commands)), receiver)
    }

    /// Of a client whose host is in this app.
    pub fn local(host: PeerHandle) -> Self {
        SessionHandle(SessionWay::Local(host))
    }

    /// A sender for the game's answers, which may come long after this handle is gone.
    pub fn commands(&self) -> Option<mpsc::UnboundedSender<SessionCommand>> {
        match &self.0 {
            SessionWay::Network(commands) => Some(commands.clone()),
            SessionWay::Local(_) => None,
        }
    }

    /// Makes the network of every peer, now and later, worse or better.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        if let SessionWay::Network(commands) = &self.0 {
            let _ = commands.send(SessionCommand::Conditions(conditions));
        }
    }

    /// Says goodbye to everyone and ends.
    pub fn leave(&self) {
        match &self.0 {
            SessionWay::Network(commands) => drop(commands.send(SessionCommand::Leave)),
            SessionWay::Local(host) => host.disconnect(EndReason::Left),
        }
    }
}

impl Drop for SessionHandle {
    /// Says so, since a sender from [`SessionHandle::commands`] may keep the channel open.
    fn drop(&mut self) {
        self.leave();
    }
}
