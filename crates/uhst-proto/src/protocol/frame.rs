//! Packets and frames of the native dialect.
//!
//! A **packet** is the content of one data-channel message or one POST. In a POST, everything after its number is sealed,
//! and a tag of 16 bytes follows. Numbers are variable-length integers of QUIC
//! (RFC 9000, section 16): the top two bits of the first byte give the length of 1, 2, 4 or 8 bytes.
//!
//! ```text
//! packet   = number frame*              number: from 1, strictly increasing over all paths of the connection
//!          | 0x00 handshake             a handshake or resumption packet, see `handshake_packet`
//!
//! frame    = data | ack | ping | pong | close | close-ack | blocked
//! data     = 1SSS GTFL  number  tag{G}  length  payload
//!            SSS: the stream: 0 to 3 are the channels in the order of `Channel::ALL`, 4 is signalling
//!            G: a tag follows; T: text; F: first fragment of a message; L: last fragment of a message
//!            number: the number of the fragment, from 0 in each stream
//!            tag: the receiver within the game, only on the first fragment, never on signalling:
//!                 1, 3, 5 to 131,071: a type; 2, 4, 6 to 131,072: a channel of the replication; none: untyped
//! ack      = 0x01  grant  mask  largest{mask bits 3, 4}  stream{mask bits 0, 1, 2}
//!            grant: the bytes of reliable messages that the receiver accepts since the start of the connection
//!            largest: the largest packet number received over the relay (bit 3), on the direct reliable lane (bit 4)
//!            stream: Reliable (bit 0), ReliableUnordered (bit 1), signalling (bit 2), each as
//!                    next  count  (gap length){count}
//!                    every number below `next` was received; each range starts `gap` + 1 above the end of the last
//!                    and has `length` + 1 numbers
//! ping     = 0x02  token                0: requests only the acknowledgement of the reliable lane
//!                                       2^61 and above: bits 24 to 55 are the fragments of `Unreliable` and
//!                                       `UnreliableSequenced` that the sender has missed so far (gaps in their numbers
//!                                       that last a second or longer), modulo 2^32; bits 0 to 23 number the ping
//!                                       others: the number of the ping
//! pong     = 0x03  token                the answer to a ping, on the same path
//! close    = 0x04  end{3}  reason       end: the number of fragments sent on each stream of an ack, in that order
//! reason   = code  length  text         text: UTF-8, at most 256 bytes
//! close-ack = 0x05
//! blocked  = 0x06                       the sender waits for a larger grant
//! ```
//!
//! Payloads are slices of the packet, not copies. Any input yields values or an error. Reading allocates only the text
//! of a reason.

mod ack;
mod data;
mod frames;
pub mod handshake_packet;
pub(crate) mod ping_token;
mod reason;
pub(crate) mod wire;
mod writer;

pub(crate) use ack::read_ack;
pub use ack::{Ack, MAX_RANGES, StreamAck};
pub(crate) use data::MIN_FRAGMENT;
pub use data::{Data, FRAGMENT, Stream};
pub use frames::{Close, Frame, Frames};
pub(crate) use frames::{find_close, packet_number};
pub use handshake_packet::{HandshakeKind, refusal, unknown};
pub(crate) use reason::{read_reason, reason_bytes};
pub use wire::FrameError;
pub use writer::PacketWriter;
pub(crate) use writer::put_ack;
