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
//! | file | concept |
//! |---|---|
//! | `connection` | the states of a connection, and its commands |
//! | `establishment` | admission, refusal and resumption |
//! | `handshake`, `keys` | both sides of the handshake, the password, the shared secret |
//! | `resume` | replay protection, and tombstones of ended connections |
//! | `timers` | timeouts |
//! | `packets` | packets in and out of an open connection |
//! | `outgoing`, `send`, `unreliable` | send queues, fragmentation, loss detection |
//! | `incoming`, `receive`, `ranges` | ordering, deduplication, reassembly, flow control |
//! | `path`, `path_selection` | paths, and what each of them carries |
//! | `liveness`, `losses` | heartbeats, silence, round-trip time, loss reports |
//! | `interruption` | a peer that is silent or unreachable |
//! | `closing` | draining and the close handshake |
//! | `config`, `cost`, `event` | limits, memory accounting, events and errors |

mod closing;
mod config;
#[expect(clippy::module_inception, reason = "the module and its main type share a name")]
mod connection;
mod cost;
mod establishment;
mod event;
mod handshake;
mod incoming;
mod interruption;
mod keys;
mod liveness;
mod losses;
mod outgoing;
mod packets;
mod path;
mod path_selection;
mod ranges;
mod receive;
mod resume;
mod send;
mod timers;
mod unreliable;

pub use config::{ConnectionConfig, Credentials, MetadataTooLarge};
pub use connection::Connection;
pub use cost::{OVERHEAD as MESSAGE_OVERHEAD, message_cost};
pub use event::{ConnectionEvent, ConnectionStats, Interruption, ResumeError, SendError};
pub use path::{Lane, Path};
pub use resume::Tombstone;

pub use crate::protocol::frame::handshake_packet::{ConnectionId, MAX_METADATA};

/// A monotonic time since an origin that the caller chooses.
pub type Timestamp = core::time::Duration;

/// The longest time that an acknowledgement waits for other frames to travel with.
const ACK_DELAY: Timestamp = Timestamp::from_millis(50);

/// The smallest limit for [`Connection::poll_transmit`]: every WebRTC stack takes messages of this size.
pub const MIN_PACKET_LIMIT: usize = 16 << 10;

/// Returns a seed for [`Connection::connect`] or [`Connection::accept`] from the system's random number generator.
///
/// # Errors
///
/// The error of the system, if it has no randomness.
pub fn random_seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}
