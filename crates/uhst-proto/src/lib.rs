//! UHST (User Hosted Secure Transmission) without I/O: the wire format, and the connection with one peer.
//!
//! * [`protocol`]: bodies, tokens, events and signals of a relay, and the frames of the native dialect.
//! * [`connection`]: a connection with one peer over one or more paths, as a state machine. Packets, commands and the
//!   time go in; packets and events come out.
//!
//! This crate has no clock, no sockets and no tasks. `bevy_uhst` (for games) and `uhst-relay` (the relay) provide them.

pub mod connection;
pub mod protocol;
