//! The direct path to one peer: WebRTC data channels.
//!
//! A [`DirectLink`] takes signals and messages and gives [`DirectEvent`]s; what the signals travel over, and what the
//! messages mean, is the business of others. It ends by itself when the path does, with exactly one [`Failed`] or
//! [`Closed`], and silently when it is dropped.
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

/// The largest message that we take from originals and send to them, in bytes: what browsers take, and the most that the
/// library can. An original in node loses its connection when it sends a larger one than it was told.
pub(crate) const MAX_MESSAGE: usize = 262_144;

/// How many bytes may wait in front of a data channel, and as many again inside it.
///
/// More overruns the receive buffer of a loopback socket, and throughput falls to a tenth in retransmissions.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// A STUN or TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:host:port` or `turn:host:port?transport=udp`.
    pub urls: Vec<String>,
    /// What TURN servers ask for; STUN servers do not.
    pub credentials: Option<IceCredentials>,
}

/// How to be let in by a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// The user's name.
    pub username: String,
    /// Its password, or a token.
    pub credential: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What every direct path of a session is started with.
#[derive(Clone, Debug)]
pub(crate) struct DirectConfig {
    /// Asked for addresses that are reachable from outside.
    pub ice_servers: Vec<IceServer>,
    /// How long a path may take to open, the exchange of signals included.
    pub open_timeout: Duration,
    /// Whether to use TURN servers only, so that peers never learn each other's addresses.
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

/// Which side of the exchange of signals this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectRole {
    /// The client: it offers.
    Offer,
    /// The host: it answers.
    Answer,
}

/// Which data channels the two peers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectDialect {
    /// Both are ours: a reliable channel, and for each side an unreliable one of its own, since the library keeps the
    /// promise of a channel to the side that announced it only: what the other sends there is resent and ordered.
    Native,
    /// The other is an original: the one channel the client announces, ordered and reliable. A second would be taken
    /// for the first.
    Plain,
}

impl DirectDialect {
    /// How many channels there are.
    fn channels(self) -> usize {
        match self {
            DirectDialect::Native => 3,
            DirectDialect::Plain => 1,
        }
    }

    /// The largest message that is received, in bytes. Packets of ours are no larger, and the library has a buffer of
    /// this size.
    fn max_message(self) -> usize {
        match self {
            DirectDialect::Native => MIN_PACKET_LIMIT,
            DirectDialect::Plain => MAX_MESSAGE,
        }
    }

    /// Whether the peer has proven who it is before its first signal. Signals of ours come over a connection; an original
    /// that offers is anybody.
    fn is_proven(self, role: DirectRole) -> bool {
        (self, role) != (DirectDialect::Plain, DirectRole::Answer)
    }

    /// How many of them this side announces.
    fn announced(self, role: DirectRole) -> usize {
        match (self, role) {
            (DirectDialect::Native, DirectRole::Offer) => 2,
            (DirectDialect::Native, DirectRole::Answer) | (DirectDialect::Plain, DirectRole::Offer) => 1,
            (DirectDialect::Plain, DirectRole::Answer) => 0,
        }
    }
}

/// What a direct path has to say.
#[derive(Debug)]
pub(crate) enum DirectEvent {
    /// To be brought to the peer, in order.
    Signal(Signal),
    /// Messages flow from here on.
    Open {
        /// The largest that an original takes, in bytes. Packets for ours are smaller.
        max_message: usize,
    },
    /// A message of the peer.
    Packet {
        /// Whether it came on the reliable channel.
        reliable: bool,
        /// Its content.
        payload: Payload,
    },
    /// There is room again after a [`Full`].
    Writable,
    /// Something a developer wants to know that ends nothing. The same trouble is told once.
    Diagnostic(String),
    /// There is no direct path, or no longer. The last event.
    Failed(DirectError),
    /// The peer closed it. The last event.
    Closed,
}

/// Why there is no direct path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DirectError {
    /// Nothing to start from: no usable address, a bad server URL.
    #[error("no direct path here: {0}")]
    Unavailable(String),
    /// The two descriptions do not go together.
    #[error("the signals of this peer lead to no direct path: {0}")]
    Signals(String),
    /// No address of one side reaches the other.
    #[error("no address of one side reaches the other")]
    Unreachable,
    /// The peer is slow to answer, or signals were lost.
    #[error("no direct path was found within {0:?}")]
    Timeout(Duration),
    /// It was there and is gone.
    #[error("the direct path broke")]
    Broken,
}

/// A message that found no room; [`DirectEvent::Writable`] follows.
#[derive(Debug)]
pub(crate) struct Full(pub Payload);
