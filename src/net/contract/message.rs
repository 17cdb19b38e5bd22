//! A message on its way to the game.

use crate::protocol::{Channel, Payload, Tag};

/// A message that a peer has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The channel it was sent on.
    pub channel: Channel,
    /// The recipient within the game.
    pub tag: Tag,
    /// The content.
    pub payload: Payload,
}
