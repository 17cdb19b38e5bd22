//! UHST (User Hosted Secure Transmission) without I/O: its wire format, and the connection with one peer.
//!
//! * [`protocol`]: bodies, tokens, events and signals of the relay, and the frames of the native dialect. Bytes in,
//!   values out.
//! * [`connection`]: one peer over one or more paths, as a state machine. Packets, commands and the time go in; packets
//!   and events come out.
//!
//! Nothing here has a clock, a socket or a task. The crates `bevy_uhst` (for games) and `uhst-relay` (the relay) do.

pub mod connection;
pub mod protocol;
