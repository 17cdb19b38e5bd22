//! The connection with one peer, as a state machine without I/O. Packets, commands and the time go in; packets and
//! events come out.
//!
//! A connection outlives its paths. Messages are numbered per channel, not per path. Data that a lost path carried and
//! that was not acknowledged is sent again on the next path, and the receiver recognises duplicates by their number. So
//! the guarantee of a channel does not depend on any path.
//!
//! After every other call, the owner of a [`Connection`] calls [`poll_event`](Connection::poll_event) until it returns
//! `None`, [`poll_transmit`](Connection::poll_transmit) for each lane that can take a packet, and
//! [`handle_timeout`](Connection::handle_timeout) at the time that [`next_timeout`](Connection::next_timeout) returns.
//!
//! The owner passes in waiting packets before it calls `handle_timeout`. Otherwise a process that was suspended times
//! out its peer. Some packets may still wait in the buffer of a socket, so a call of `handle_timeout` that is late by
//! more than a quarter of the timeout counts as a suspension: the delay is not counted as silence.
//!
//! A [`Connection`] owns one part for each concern, and passes inputs to them and their outputs on. The parts do not
//! know each other's owner.
//!
//! | file | concept |
//! |---|---|
//! | `connection` | the parts, and the commands of the owner |
//! | `connection/establishment` | handshake packets, admission, refusal and resumption |
//! | `connection/packets` | packets in and out |
//! | `connection/path_changes` | paths that come, go, or fail |
//! | `connection/timeouts` | the passing of time |
//! | `state` | the states of a connection |
//! | `client_handshake`, `host_handshake`, `handshake` | both sides of the handshake |
//! | `noise`, `keys`, `static_key` | Noise, what is derived from it, the key of one side |
//! | `packet_seal`, `packet_keys`, `packet_cipher` | the seal of packets over the relay |
//! | `security` | what protects a connection |
//! | `resumption`, `replay_guard`, `tombstone` | both sides of a resumption, and what is left of ended connections |
//! | `retransmission` | repetition of handshake packets |
//! | `path_set`, `path` | path selection, and interruptions of the peer |
//! | `liveness`, `loss_report` | heartbeats, silence, round-trip time, loss reports |
//! | `acknowledgements` | packet numbers, and when to acknowledge |
//! | `outgoing`, `send`, `unreliable` | send queues, fragmentation, loss detection |
//! | `incoming`, `receive`, `ranges` | ordering, deduplication, reassembly, flow control |
//! | `closing` | draining and the close handshake |
//! | `config`, `cost`, `event` | limits, memory accounting, events and errors |

mod acknowledgements;
mod client_handshake;
mod closing;
mod config;
#[expect(clippy::module_inception, reason = "the module and its main type share a name")]
mod connection;
mod cost;
mod curve;
mod event;
mod handshake;
mod host_handshake;
mod incoming;
mod keys;
mod liveness;
mod loss_report;
mod noise;
mod outgoing;
mod packet_cipher;
mod packet_keys;
mod packet_seal;
mod path;
mod path_set;
mod ranges;
mod receive;
mod replay_guard;
mod resumption;
mod retransmission;
mod security;
mod send;
mod state;
mod static_key;
mod tombstone;
mod unreliable;

pub use config::{ConnectionConfig, Credentials, MetadataTooLarge, Password};
pub use connection::Connection;
pub use cost::{OVERHEAD as MESSAGE_OVERHEAD, message_cost};
pub use event::{ConnectionEvent, ConnectionStats, EnqueueError, Interruption, Received, ResumeError};
pub use path::{Lane, Path};
pub use security::Security;
pub use static_key::StaticKey;
pub use tombstone::Tombstone;

pub use crate::protocol::frame::handshake_packet::{ConnectionId, MAX_METADATA};

/// A monotonic time since an origin that the caller chooses.
pub type Timestamp = core::time::Duration;

/// The longest time that an acknowledgement waits for other frames to travel with.
const ACK_DELAY: Timestamp = Timestamp::from_millis(50);

/// The smallest limit for [`Connection::poll_transmit`]: every WebRTC stack takes messages of this size.
pub const MIN_PACKET_LIMIT: usize = 16 << 10;

/// The seed of a connection, which is wiped when it is dropped.
pub type Seed = zeroize::Zeroizing<[u8; 32]>;

/// Returns a seed for [`Connection::connect`] or [`Connection::accept`] from the system's random number generator.
///
/// # Errors
///
/// The error of the system, if it has no randomness.
pub fn random_seed() -> Result<Seed, getrandom::Error> {
    let mut seed = Seed::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(seed)
}
