//! Messages from peers.

use bevy::prelude::*;

use crate::{UhstChannel, protocol::Payload};

/// A message from a peer; read them with a [`MessageReader`] in `Update` or `FixedUpdate`.
///
/// It is written in [`UhstSystems::Receive`](super::UhstSystems::Receive), after the peer's
/// [`UhstConnected`](super::UhstConnected). The peer's [`UhstDisconnected`](super::UhstDisconnected) waits until systems
/// in `Update` and in `FixedUpdate` could read its last messages, so that they can always look up its components; for
/// half a second at most, where no fixed step comes.
///
/// Bevy drops messages after two fixed steps, or two frames in an app without [`Time`]. A system that runs less often
/// misses some. In an app whose `Time<Virtual>` is paused Bevy drops none: there they wait, and once they fill the
/// [`receive_buffer`](crate::ConnectionConfig::receive_buffer) of their peer, nothing more of it is received
/// until they are dropped, and its sends fail as with any slow peer.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub struct UhstMessage {
    /// The entity with [`UhstHost`](super::UhstHost) or [`UhstClient`](super::UhstClient).
    pub session: Entity,
    /// The entity with [`UhstPeer`](super::UhstPeer), from whom it comes.
    pub peer: Entity,
    /// The promise it was sent under.
    pub channel: UhstChannel,
    /// Its content. Cloning it shares the bytes.
    pub payload: Payload,
}
