//! The commands from the ECS to the network.

use super::key::PeerKey;
use crate::{
    connection::Password,
    net::conditions::NetworkConditions,
    protocol::{Channel, EndReason, Payload, Tag},
};

/// A command to a session.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// Answer an [`EventKind::JoinRequest`](super::EventKind::JoinRequest).
    Decide {
        /// The peer that asked.
        peer: PeerKey,
        /// `Err` refuses, with words for the joiner.
        decision: Result<(), String>,
    },
    /// Change the simulated network conditions of every peer, now and later.
    Conditions(NetworkConditions),
    /// Change a host's limit on peers.
    MaxPeers(usize),
    /// Change a host's password.
    Password(Option<Password>),
    /// Lock or unlock a host for new peers.
    Locked(bool),
    /// Say goodbye to every peer and end.
    Leave,
    /// After [`Leave`](Self::Leave): wait no longer for confirmations.
    GiveUp,
}

/// A command to one peer.
#[derive(Debug)]
pub(crate) enum PeerCommand {
    /// Send one message.
    Send {
        /// The channel to send on.
        channel: Channel,
        /// The recipient within the game. Only native peers take another than [`Tag::Untyped`].
        tag: Tag,
        /// The content.
        payload: Payload,
    },
    /// Report this diagnostic about the peer.
    Report(String),
    /// Change the simulated network conditions.
    Conditions(NetworkConditions),
    /// Deliver what was sent before, say goodbye with this reason, and end.
    Disconnect(EndReason),
}
