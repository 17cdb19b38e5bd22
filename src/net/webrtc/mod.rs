//! The direct path to one peer: WebRTC data channels.
//!
//! A [`DirectLink`] takes signals and messages and emits [`DirectEvent`]s. Its owner transports the signals and interprets
//! the messages. A link ends with its path, with exactly one [`Failed`] or [`Closed`]; a dropped link emits nothing.
//!
//! [`Failed`]: DirectEvent::Failed
//! [`Closed`]: DirectEvent::Closed

mod candidate;
mod channel_queue;
mod direct_link;
mod link;
mod message_size;
#[cfg(not(target_family = "wasm"))]
mod native;
mod pump;
#[cfg(target_family = "wasm")]
mod web;

use std::time::Duration;

#[cfg(not(target_family = "wasm"))]
pub(super) use candidate::usable as usable_candidate;
pub(crate) use direct_link::DirectLink;
/// The WebRTC stack of this platform. All stacks have the same items.
#[cfg(not(target_family = "wasm"))]
use native as stack;
pub(crate) use stack::AddressWatch;
#[cfg(target_family = "wasm")]
use web as stack;

use crate::protocol::{Payload, Signal};

/// The largest message to and from originals, in bytes: the limit of browsers and of the library. An original in node loses
/// its connection if it sends a message above the announced limit.
pub(crate) const MAX_MESSAGE: usize = 262_144;

/// The capacity in bytes of the queue in front of a data channel, and of the buffer inside it.
///
/// More overruns the receive buffer of a loopback socket, and retransmissions cut the throughput to a tenth.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// A STUN or TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// The URLs, such as `stun:host:port` or `turn:host:port?transport=udp`.
    pub urls: Vec<String>,
    /// The credentials for TURN servers. STUN servers need none.
    pub credentials: Option<IceCredentials>,
}

/// The credentials for a TURN server. Its `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// The user name.
    pub username: String,
    /// The password, or a token.
    pub credential: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The settings of a session's direct paths.
#[derive(Clone, Debug)]
pub(crate) struct DirectConfig {
    /// The servers for addresses that are reachable from outside.
    pub ice_servers: Vec<IceServer>,
    /// The timeout for the opening of a path, including the exchange of signals.
    pub open_timeout: Duration,
    /// Whether to use TURN servers only, so that peers do not learn each other's addresses.
    pub relay_only: bool,
}

impl Default for DirectConfig {
    /// The STUN servers of the original clients, and 15 s.
    fn default() -> Self {
        let urls = ["stun:stun.l.google.com:19302", "stun:global.stun.twilio.com:3478"].map(str::to_owned).into();
        DirectConfig {
            ice_servers: vec![IceServer { urls, credentials: None }],
            open_timeout: Duration::from_secs(15),
            relay_only: false,
        }
    }
}

/// The role in the exchange of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectRole {
    /// The client, which offers.
    Offer,
    /// The host, which answers.
    Answer,
}

/// The set of data channels between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectDialect {
    /// Between native peers: one reliable channel, and an unreliable one for each side, since the library honours unreliable
    /// options only for the side that created the channel.
    Native,
    /// With an original: one ordered and reliable channel, which the client creates. Originals would confuse a second one
    /// with the first.
    Plain,
}

impl DirectDialect {
    /// The number of channels.
    fn channels(self) -> usize {
        match self {
            DirectDialect::Native => 3,
            DirectDialect::Plain => 1,
        }
    }

    /// Whether the peer is authenticated before its first signal. Native signals come over a connection, but anybody can send
    /// an original's offer.
    fn is_authenticated(self, role: DirectRole) -> bool {
        (self, role) != (DirectDialect::Plain, DirectRole::Answer)
    }

    /// The number of channels that this side creates.
    fn created(self, role: DirectRole) -> usize {
        match (self, role) {
            (DirectDialect::Native, DirectRole::Offer) => 2,
            (DirectDialect::Native, DirectRole::Answer) | (DirectDialect::Plain, DirectRole::Offer) => 1,
            (DirectDialect::Plain, DirectRole::Answer) => 0,
        }
    }
}

/// An event of a direct path.
#[derive(Debug)]
pub(crate) enum DirectEvent {
    /// A signal to send to the peer, in order.
    Signal(Signal),
    /// The channels are open.
    Open {
        /// The largest message that an original takes, in bytes. Native packets are smaller.
        max_message: usize,
    },
    /// A message of the peer.
    Packet {
        /// Whether it arrived on the reliable channel.
        reliable: bool,
        /// The content.
        payload: Payload,
    },
    /// The queue has room again after a [`Full`].
    Writable,
    /// A note for the developer that ends nothing. Each kind of problem is reported once.
    Diagnostic(String),
    /// The path did not open, or broke. The last event.
    Failed(DirectError),
    /// The peer closed the path. The last event.
    Closed,
}

/// A change of this machine's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressChange {
    /// Whether an address is gone, and connections from it are dead.
    pub gone: bool,
}

/// A description of a session: an offer, or the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SdpKind {
    Offer,
    Answer,
}

/// The channels that this side creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelKind {
    /// Ordered and reliable.
    Reliable,
    /// Unordered, and never sent again.
    Unreliable,
}

impl ChannelKind {
    /// The label of the channel. Originals have only the reliable one, under this label.
    const fn label(self) -> &'static str {
        match self {
            ChannelKind::Reliable => "uhst",
            ChannelKind::Unreliable => "uhst-unreliable",
        }
    }
}

/// An event of a stack.
enum StackEvent {
    /// An address of this side.
    Candidate(String),
    /// No more candidates follow.
    Gathered,
    /// The peer has created a channel.
    Channel(stack::Channel),
    /// The connection does not open, or broke.
    Failed,
    /// The connection is closed.
    Closed,
}

/// The reason why a message was not sent.
#[derive(Debug, thiserror::Error)]
enum SendFailure {
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// The stack refuses this message.
    #[error("{0}")]
    Refused(String),
}

/// A text that is not UTF-8.
#[derive(Debug)]
struct NotUtf8;

/// The reason why there is no direct path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DirectError {
    /// The path cannot start, for example without a usable address, or with a bad server URL.
    #[error("no direct path here: {0}")]
    Unavailable(String),
    /// The descriptions of both sides do not match.
    #[error("the signals of this peer lead to no direct path: {0}")]
    Signals(String),
    /// No address of one side reaches the other.
    #[error("no address of one side reaches the other")]
    Unreachable,
    /// The path did not open in time: the peer is slow to answer, or signals were lost.
    #[error("no direct path was found within {0:?}")]
    Timeout(Duration),
    /// The open path broke.
    #[error("the direct path broke")]
    Broken,
}

/// Returns a message that found no room. [`DirectEvent::Writable`] follows.
#[derive(Debug)]
pub(crate) struct Full(pub Payload);

#[cfg(test)]
mod tests;
