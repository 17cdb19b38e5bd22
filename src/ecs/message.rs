//! What peers send.

use bevy::prelude::*;

use crate::protocol::{Channel, Payload};

/// A message from a peer; read them with a [`MessageReader`] in `Update`.
///
/// It is written in [`UhstSystems::Receive`](super::UhstSystems::Receive), after the peer's
/// [`UhstConnected`](super::UhstConnected) and before its [`UhstDisconnected`](super::UhstDisconnected).
/// The entity of a peer that has just left lives until the end of that frame, so a system that reads every frame can
/// always look up its components. One that reads less often, as in `FixedUpdate`, may find that it is gone.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub struct UhstMessage {
    /// The entity with [`UhstHost`](super::UhstHost) or [`UhstClient`](super::UhstClient).
    pub session: Entity,
    /// The entity with [`UhstPeer`](super::UhstPeer), from whom it comes.
    pub peer: Entity,
    /// The promise it was sent under.
    pub channel: Channel,
    /// Its content. Cloning it shares the bytes.
    pub payload: Payload,
}
