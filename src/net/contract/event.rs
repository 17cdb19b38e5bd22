//! The events from the network to the ECS.

use bytes::Bytes;

use super::{
    key::{PeerKey, SessionKey},
    peer::PeerHandle,
};
use crate::{
    connection::{Interruption, Path, Received},
    protocol::{EndReason, JoinLink, PublicKey},
};

/// An event of a session.
#[derive(Debug)]
pub(crate) struct Event {
    /// The session.
    pub session: SessionKey,
    /// What happened.
    pub kind: EventKind,
}

/// What happened in a session.
#[derive(Debug)]
pub(crate) enum EventKind {
    /// The host listens, or the client has found its host. Sent once per session.
    Ready {
        /// The id that the relay assigned.
        id: String,
        /// The links to join this session; the one most likely to work from another machine comes first.
        links: Vec<JoinLink>,
    },
    /// The links of the host have changed, since the addresses of its machine or its relay have.
    Links(Vec<JoinLink>),
    /// A peer asks to join. Sent with [`Admission::Ask`](super::Admission::Ask) only.
    JoinRequest {
        /// The peer.
        peer: PeerKey,
        /// The peer's metadata.
        metadata: Bytes,
        /// The peer's static key. An original has none.
        identity: Option<PublicKey>,
    },
    /// A peer that asked to join will not connect, though the game has not refused it.
    JoinAbandoned {
        /// The peer.
        peer: PeerKey,
        /// The cause.
        reason: EndReason,
    },
    /// A peer is connected.
    Connected {
        /// The peer.
        peer: PeerKey,
        /// The handle to send to the peer.
        handle: PeerHandle,
        /// The peer's metadata.
        metadata: Bytes,
    },
    /// A peer that has just connected is a player that the host knows as another peer, which ends next.
    Rejoined {
        /// The peer.
        peer: PeerKey,
        /// The peer that the player was before. It may have ended.
        former: PeerKey,
    },
    /// Messages of one connected peer, in order. The receiver [holds](PeerHandle::hold) their bytes until it drops them.
    Messages {
        /// The peer.
        peer: PeerKey,
        /// The messages; never empty.
        messages: Vec<Received>,
    },
    /// The path of a connected peer has changed.
    PathChanged {
        /// The peer.
        peer: PeerKey,
        /// The new path.
        path: Path,
    },
    /// A connected peer is silent or unreachable, and may come back.
    Interrupted {
        /// The peer.
        peer: PeerKey,
        /// The cause.
        reason: Interruption,
    },
    /// An interrupted peer is back.
    Resumed {
        /// The peer.
        peer: PeerKey,
    },
    /// A peer that is being disconnected acknowledges what was sent before.
    Draining,
    /// A connected peer is gone. The last event of this peer.
    Disconnected {
        /// The peer.
        peer: PeerKey,
        /// The cause.
        reason: EndReason,
    },
    /// A note for the developer that ends nothing, such as a lost relay or malformed input.
    Diagnostic {
        /// The peer, if the note is about one.
        peer: Option<PeerKey>,
        /// The note, in plain English.
        text: String,
    },
    /// The session is over. Its last event, after those of its peers.
    Ended {
        /// The cause.
        reason: EndReason,
    },
}
