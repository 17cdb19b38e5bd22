//! Replicon's channels over ours. The number of a channel travels as the message's tag.

use bevy_replicon::{bytes::Bytes, prelude::Channel as Kind};

use crate::{
    SendError, UhstPeer,
    protocol::{Channel, Payload, Tag},
};

/// The largest message that fits into one packet of a direct path, with its headers: WebRTC keeps packets below the
/// smallest size that every network carries. Replicon splits unreliable messages to this size, and can use each part
/// without the others.
pub(super) const PACKET: usize = 1100;

/// Which of our promises keeps replicon's.
const fn promise(kind: Kind) -> Channel {
    match kind {
        Kind::Unreliable => Channel::Unreliable,
        Kind::Unordered => Channel::ReliableUnordered,
        Kind::Ordered => Channel::Reliable,
    }
}

/// Sends one message on a channel of this number. `last`: the connection is about to be closed, which unreliable
/// messages would not outlive.
///
/// An error means that a promise cannot be kept. An unreliable message that finds no room is just lost.
pub(super) fn send(peer: &UhstPeer, kinds: &[Kind], id: usize, message: Bytes, last: bool) -> Result<(), SendError> {
    let (Some(kind), Ok(index)) = (kinds.get(id), u16::try_from(id)) else {
        tracing::error!("replicon sends on channel {id}, which cannot be: there are {}", kinds.len());
        return Ok(());
    };
    let channel = match promise(*kind) {
        Channel::Unreliable if last => Channel::ReliableUnordered,
        channel => channel,
    };
    match peer.handle().send_tagged(channel, Tag::Replication(index), Payload::Binary(message)) {
        // The event of its end reports it.
        Err(SendError::Disconnected) => Ok(()),
        Err(SendError::QueueFull { .. }) if !channel.is_reliable() => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_promised_what_it_needs() {
        assert!(promise(Kind::Ordered) == Channel::Reliable);
        assert!(promise(Kind::Unordered).is_reliable());
        assert!(!promise(Kind::Unreliable).is_reliable());
    }
}
