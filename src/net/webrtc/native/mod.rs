//! Direct paths on the `webrtc` crate.
//!
//! Each peer connection has its own sockets, one for each address of this machine: the library binds them itself, and
//! cannot share them.

mod addresses;
mod association_timers;
mod channel;
mod connection;
mod outbox;
mod progress;
mod resolve;
mod runtime;
mod socket;

pub(crate) use self::addresses::AddressWatch;
pub(super) use self::{
    channel::Channel,
    connection::{Connection, connect},
};
