//! The connection with one peer, as a state machine without I/O: packets, commands and the time go in, packets and
//! events come out.
//!
//! It outlives its paths. Messages are numbered by channel, not by path; what a lost path carried and nobody
//! acknowledged is sent again on the next one, and a copy is recognised by its number. So no channel's promise depends
//! on what the paths do.
//!
//! The owner of a [`Connection`] calls, after anything else it did:
//! [`poll_event`](Connection::poll_event) until there is none, [`poll_transmit`](Connection::poll_transmit) for every
//! lane that can take a packet, and [`handle_timeout`](Connection::handle_timeout) when the time of
//! [`next_timeout`](Connection::next_timeout) has come. Packets that wait go in before the time does: a side that was
//! suspended for a while must not take its own sleep for the peer's silence. What waits may be more than the owner sees,
//! since a socket's buffer is read later. So a connection whose time comes later than it asked for, by more than a quarter
//! of its timeout, takes the difference for sleep, and counts none of it as silence or waiting.
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

mod closing;
mod config;
#[expect(clippy::module_inception, reason = "the room and its main piece of furniture have one name")]
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

/// Time since an origin of the caller's choice, which never goes back.
pub type Timestamp = core::time::Duration;

/// How long an acknowledgement waits for a packet to travel with.
const ACK_DELAY: Timestamp = Timestamp::from_millis(50);

/// The smallest limit for [`Connection::poll_transmit`]: what every WebRTC stack takes in one message.
pub const MIN_PACKET_LIMIT: usize = 16 << 10;

/// A seed for [`Connection::connect`] and [`Connection::accept`] from the system's randomness.
pub fn random_seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}
