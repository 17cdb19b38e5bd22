//! What comes out of a connection.

use core::time::Duration;

use bytes::Bytes;

use super::Path;
use crate::protocol::{Channel, EndReason, Payload, Tag};

/// Why a peer is interrupted: it may come back, and its connection is kept meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interruption {
    /// Nothing came from it on any path for [`timeout`](super::ConnectionConfig::timeout).
    Silent,
    /// No path leads to it.
    NoPath,
}

/// Something for the owner of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Host: a client with the right password waits for [`admit`](super::Connection::admit) or
    /// [`refuse`](super::Connection::refuse).
    JoinRequest {
        /// The client's.
        metadata: Bytes,
    },
    /// Messages can be sent and will arrive.
    Connected {
        /// The other side's.
        metadata: Bytes,
    },
    /// A message; report its size to [`consumed`](super::Connection::consumed) when the game has taken it.
    Message {
        /// The promise it travelled under.
        channel: Channel,
        /// Whom in the game it is for.
        tag: Tag,
        /// Its content.
        payload: Payload,
    },
    /// From the peer's [`send_signal`](super::Connection::send_signal).
    Signal(Bytes),
    /// Messages now take this path. Not told of the first one.
    PathChanged(Path),
    /// Nothing came over this path for too long, though the peer is alive on another: it is not used until
    /// [`path_up`](super::Connection::path_up).
    PathSilent(Path),
    /// The peer is silent, or cannot be reached. Messages wait until it is back; unreliable ones are dropped. Between
    /// [`Connected`](Self::Connected) and [`Closed`](Self::Closed), always in turns with [`Resumed`](Self::Resumed). After
    /// [`resume_timeout`](super::ConnectionConfig::resume_timeout), the connection ends.
    Interrupted(Interruption),
    /// The interrupted peer is back.
    Resumed,
    /// Reliable messages that were sent before [`close`](super::Connection::close), and that the peer did not confirm in
    /// time: this many bytes, with the overhead of each. [`Closed`](Self::Closed) follows.
    Cut {
        /// The bytes.
        bytes: usize,
    },
    /// The end, told exactly once. Nothing comes after it.
    Closed(EndReason),
}

/// Why a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Not connected yet.
    #[error("not connected yet: wait for the connected event before sending")]
    NotConnected,
    /// The connection has ended or is ending.
    #[error("the connection has ended")]
    Closed,
    /// Too much waits to be sent or acknowledged.
    #[error(
        "the queue to this peer is full: {queued} of {limit} bytes wait, {size} more do not fit; \
         send less, or raise the send buffer"
    )]
    QueueFull {
        /// The size of the message in bytes.
        size: usize,
        /// What waits, in bytes.
        queued: usize,
        /// What may wait, in bytes.
        limit: usize,
    },
    /// The message is larger than either side allows.
    #[error("a message of {size} bytes, where both sides allow {limit}: split it, or raise the limit on both sides")]
    MessageTooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The smaller of both sides' limits, in bytes.
        limit: usize,
    },
}

/// Why a resumption was not taken. The connection goes on as if it had not been tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// Not proven fresh yet: send these bytes back to where the packet came from, and nothing else changes.
    #[error("the client must prove that it is there now: send it the enclosed challenge")]
    Challenge(Bytes),
    /// Not a resumption of this connection.
    #[error("the packet does not resume this connection")]
    Malformed,
    /// The sender does not know the secret of this connection.
    #[error("the packet is not from the client of this connection")]
    Forged,
    /// A copy of an earlier one.
    #[error("the packet is older than one that was taken before")]
    Replayed,
    /// There is nothing to resume.
    #[error("the connection is not open")]
    NotOpen,
}

/// Numbers about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// The smoothed round trip on the path in use.
    pub rtt: Option<Duration>,
    /// The path in use.
    pub path: Option<Path>,
    /// Bytes that wait to be sent or acknowledged.
    pub queued: usize,
    /// Bytes that were received and not consumed.
    pub unconsumed: usize,
    /// Messages taken for sending.
    pub messages_sent: u64,
    /// Messages received whole.
    pub messages_received: u64,
    /// Packets sent on all paths.
    pub packets_sent: u64,
    /// Packets received on all paths.
    pub packets_received: u64,
    /// Bytes of packets sent.
    pub bytes_sent: u64,
    /// Bytes of packets received.
    pub bytes_received: u64,
    /// Fragments sent again because they were lost.
    pub resent: u64,
    /// Unreliable messages dropped here, before sending or after receiving, because a queue was full.
    pub unreliable_dropped: u64,
    /// Fragments of unreliable messages that the peer has missed, as it tells with its heartbeats: about a second late, and
    /// less by those that turn out to be only late. A message of up to a kilobyte is one fragment.
    pub unreliable_lost: u64,
}
