//! The direct path to one peer: WebRTC data channels.
//!
//! A [`DirectLink`] takes signals and messages and emits [`DirectEvent`]s. Its owner transports the signals and interprets
//! the messages. A link ends with its path, with exactly one [`Failed`] or [`Closed`]; a dropped link emits nothing.
//!
//! [`Failed`]: DirectEvent::Failed
//! [`Closed`]: DirectEvent::Closed

mod candidate;
mod channel_queue;
mod message_size;
#[cfg(not(target_family = "wasm"))]
mod native;

use std::time::Duration;

pub(super) use candidate::usable as usable_candidate;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{AddressChange, AddressWatch, DirectLink};

use crate::{
    connection::MIN_PACKET_LIMIT,
    protocol::{Payload, Signal},
};

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

    /// The largest message to receive, in bytes. Native packets are no larger, and the library allocates a buffer of this
    /// size.
    fn max_message(self) -> usize {
        match self {
            DirectDialect::Native => MIN_PACKET_LIMIT,
            DirectDialect::Plain => MAX_MESSAGE,
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
