//! The whole contract between the ECS and the network: commands down, events up, and the few numbers they share.
//!
//! Commands go down tokio channels, one per session and one per peer. Events come up one crossbeam channel per app,
//! so that an idle frame costs one look at an empty queue. Neither side ever waits for the other.

mod peer;
mod session;
mod shared;

use bytes::Bytes;

pub use self::shared::Traffic;
pub(crate) use self::{
    peer::{Held, PeerHandle},
    session::SessionHandle,
    shared::{PeerLimits, PeerShared, inbox_cost, queue_cost},
};
use super::{conditions::NetworkConditions, relay_choice::Relay, webrtc::DirectConfig};
use crate::{
    connection::{ConnectionConfig, Interruption, Path},
    protocol::{Channel, EndReason, GameId, JoinLink, PathPolicy, Payload, Tag},
};

/// Names a session across the contract; the ECS counts them, and the network hands it back.
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
    /// The wanted id; without one the relay picks nine digits.
    pub id: Option<String>,
    /// How many peers may be connected at once.
    pub max_peers: usize,
    /// Whether nobody new may join.
    pub locked: bool,
    /// Whether the game is asked.
    pub admission: Admission,
    /// Whether a joiner of a full session takes the place of the peer that is interrupted for longest.
    pub replace_interrupted: bool,
    /// What every session is started with.
    pub session: SessionOptions,
}

/// What a client is started with.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Whom to join.
    pub target: JoinLink,
    /// What every session is started with.
    pub session: SessionOptions,
}

/// A password, kept out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What every session is started with.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Where a host listens, and a client looks when its target names no relay.
    pub relay: Relay,
    /// Joiners prove to know it; it is never sent.
    pub password: Option<Secret>,
    /// What is played, the same on both sides.
    pub game: GameId,
    /// Shown to the peer: a client's with its request to join, a host's when it admits.
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
    /// Let so many peers in, from now on; to a host.
    MaxPeers(usize),
    /// Ask joiners for this password, or for none, from now on; to a host.
    Password(Option<Secret>),
    /// Let nobody new in, or again; to a host.
    Locked(bool),
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
    /// Tell the game this about the peer.
    Report(String),
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
    /// The addresses of the host's machine have changed, and its links with them.
    Links(Vec<JoinLink>),
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
    /// Messages of one connected peer, in order. Whoever takes them [holds](PeerHandle::hold) them until they are dropped.
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
    /// A connected peer is silent or cannot be reached, but may come back.
    Interrupted {
        /// Who.
        peer: PeerKey,
        /// Why.
        reason: Interruption,
    },
    /// An interrupted peer is back.
    Resumed {
        /// Who.
        peer: PeerKey,
    },
    /// A peer that is sent off confirms what was sent before.
    Draining,
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
    /// Larger than what this peer takes: `UhstPeer::max_message`.
    #[error("the message has {size} bytes, this peer takes {limit}: split it, or raise `max_message` on both sides")]
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
