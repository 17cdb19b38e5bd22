//! Events, errors and statistics of a connection.

use core::time::Duration;

use bytes::Bytes;

use super::Path;
use crate::protocol::{Channel, EndReason, Payload, Tag};

/// Why a peer is interrupted. Its connection is kept, because it may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interruption {
    /// Nothing arrived from it on any path for [`timeout`](super::ConnectionConfig::timeout).
    Silent,
    /// No path leads to it.
    NoPath,
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The channel on which it was sent.
    pub channel: Channel,
    /// Its receiver within the game.
    pub tag: Tag,
    /// Its content.
    pub payload: Payload,
}

/// An event for the owner of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Host: a client that knows the password waits for [`admit`](super::Connection::admit) or
    /// [`refuse`](super::Connection::refuse).
    JoinRequest {
        /// The metadata of the client.
        metadata: Bytes,
    },
    /// The connection is established: messages can be sent.
    Connected {
        /// The metadata of the other side.
        metadata: Bytes,
    },
    /// A message arrived. Report its size to [`consumed`](super::Connection::consumed) when the game has taken it.
    Message(Received),
    /// A signal from the peer's [`send_signal`](super::Connection::send_signal).
    Signal(Bytes),
    /// Messages now use this path. The first path is not reported.
    PathChanged(Path),
    /// Nothing arrived over this path for too long, while the peer is alive on another. The path carries only
    /// heartbeats until a packet arrives over it, or until [`path_up`](super::Connection::path_up).
    PathSilent(Path),
    /// The peer is silent or unreachable. Reliable messages are queued until it is back; unreliable ones are dropped.
    /// After [`resume_timeout`](super::ConnectionConfig::resume_timeout) the connection ends. This event alternates
    /// with [`Resumed`](Self::Resumed), between [`Connected`](Self::Connected) and [`Closed`](Self::Closed).
    Interrupted(Interruption),
    /// The interrupted peer is back.
    Resumed,
    /// Reliable messages that were sent before [`close`](super::Connection::close) were not acknowledged in time, and
    /// are dropped. [`Closed`](Self::Closed) follows.
    Cut {
        /// Their size in bytes, with the overhead of each.
        bytes: usize,
    },
    /// The connection ended. This event is reported exactly once and is the last one.
    Closed(EndReason),
}

/// Why a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The connection is not established yet.
    #[error("not connected yet: wait for the connected event before sending")]
    NotConnected,
    /// The connection has ended or is closing.
    #[error("the connection has ended")]
    Closed,
    /// The send buffer has no room for the message.
    #[error(
        "the queue to this peer is full: {queued} of {limit} bytes wait, {size} more do not fit; \
         send less, or raise the send buffer"
    )]
    QueueFull {
        /// The size of the message in bytes.
        size: usize,
        /// The bytes that are queued or unacknowledged.
        queued: usize,
        /// The size of the send buffer in bytes.
        limit: usize,
    },
    /// The message exceeds the limit of one side.
    #[error("a message of {size} bytes, where both sides allow {limit}: split it, or raise the limit on both sides")]
    MessageTooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The smaller of both sides' limits, in bytes.
        limit: usize,
    },
}

/// Why a resumption was rejected. The connection continues as if it had not been tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The packet may be a replay. Send these bytes back to its sender; nothing else changes.
    #[error("the client must prove that it is there now: send it the enclosed challenge")]
    Challenge(Bytes),
    /// The packet is not a resumption of this connection.
    #[error("the packet does not resume this connection")]
    Malformed,
    /// The sender does not know the keys of this connection.
    #[error("the packet is not from the client of this connection")]
    Forged,
    /// The packet is a copy of an earlier one.
    #[error("the packet is older than one that was taken before")]
    Replayed,
    /// The connection is not open, so there is nothing to resume.
    #[error("the connection is not open")]
    NotOpen,
}

/// Statistics of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// The smoothed round-trip time of the path in use.
    pub rtt: Option<Duration>,
    /// The path in use.
    pub path: Option<Path>,
    /// The bytes that are queued or unacknowledged.
    pub queued: usize,
    /// The bytes that were received and not consumed.
    pub unconsumed: usize,
    /// The messages accepted for sending.
    pub messages_sent: u64,
    /// The complete messages received.
    pub messages_received: u64,
    /// The packets sent on all paths.
    pub packets_sent: u64,
    /// The packets received on all paths.
    pub packets_received: u64,
    /// The bytes of packets sent.
    pub bytes_sent: u64,
    /// The bytes of packets received.
    pub bytes_received: u64,
    /// The packets received that the peer did not seal: somebody else made or changed them. They are ignored.
    pub packets_forged: u64,
    /// The packets received over the relay that had arrived before, or were very late. They are ignored.
    pub packets_replayed: u64,
    /// The fragments sent again because they were lost.
    pub resent: u64,
    /// The unreliable messages dropped by this side because a queue was full, before sending or after receiving.
    pub unreliable_dropped: u64,
    /// The fragments of unreliable messages that the peer has missed, as reported by its heartbeats: about a second
    /// late, and corrected for fragments that arrive late. A message of up to 1 KiB is one fragment.
    pub unreliable_lost: u64,
}
