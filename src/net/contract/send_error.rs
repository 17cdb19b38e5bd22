//! Why a message was not sent.

/// The reason why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is larger than this peer takes, see [`UhstPeer::max_message`](crate::UhstPeer::max_message).
    #[error("the message has {size} bytes, this peer takes {limit}: split it, or raise `max_message` on both sides")]
    TooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The send queue is full: the peer, or the path to it, is slower than this game sends.
    #[error("{queued} bytes wait to be sent, the limit is {limit}: send less, or again in a later frame")]
    QueueFull {
        /// The bytes in the queue.
        queued: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer has left, or is about to.
    #[error("this peer is gone")]
    Disconnected,
    /// The client is not connected yet, or its session has ended.
    #[error("not connected to a host")]
    NotConnected,
    /// The payload is binary, and the peer speaks the original protocol over a relay, whose messages are JSON strings.
    #[error("this peer speaks the original protocol over a relay, which carries text only")]
    TextOnly,
    /// The type of the message is not registered.
    #[error("{0} is not registered: call `app.add_uhst_message` for it")]
    NotRegistered(&'static str),
    /// The value of the message cannot be serialised. JSON, for example, allows only strings as keys of a map.
    #[error("this value of {0} cannot be serialised")]
    NotSerializable(&'static str),
    /// The message is typed and binary, and the peer speaks the original protocol, which carries no types.
    #[error("this peer speaks the original protocol, which knows no types: send text it understands")]
    NativeOnly,
}
