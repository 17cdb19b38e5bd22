//! The contract between the ECS and the network: commands down, events up, and the counters they share.
//!
//! Commands go down tokio channels, one per session and one per peer. Events come up one crossbeam channel per app,
//! so that an idle frame costs one look at an empty queue. Neither side ever waits for the other.

mod command;
mod event;
mod key;
mod options;
mod peer;
mod send_error;
mod session;
mod shared;

pub(crate) use self::{
    command::{PeerCommand, SessionCommand},
    event::{Event, EventKind},
    peer::{Held, PeerHandle},
    session::SessionHandle,
    shared::{PeerLimits, PeerShared, inbox_cost, queue_cost},
};
pub use self::{
    key::{PeerKey, SessionKey},
    options::{Admission, ClientOptions, HostOptions, SessionOptions},
    send_error::SendError,
    shared::Traffic,
};
pub(in crate::net) use self::{peer::LocalSink, session::wait_for_leave};
pub(crate) use crate::connection::Received;
