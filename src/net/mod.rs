//! The background tasks. What the ECS needs to know of them is in [`contract`].

mod backoff;
mod client;
mod conditioner;
mod conditions;
pub(crate) mod contract;
mod direct;
mod directory;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub(crate) mod discovery;
mod embedded;
mod events;
mod here;
mod host;
mod http;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod internals;
mod listening;
pub(crate) mod local;
mod memory;
mod opening;
mod peer;
mod peer_link;
mod place;
mod places;
mod plain;
mod relay_choice;
mod relay_client;
mod relay_error;
mod report;
mod runtime;
mod webrtc;

pub use conditions::NetworkConditions;
pub use contract::{Admission, SendError, Traffic};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub use discovery::Discovery;
pub use memory::MemoryRelay;
pub use relay_choice::{EmbeddedRelay, Relay};
pub(crate) use runtime::Runtime;
pub(crate) use webrtc::DirectConfig;
pub use webrtc::{IceCredentials, IceServer};

pub use crate::protocol::PathPolicy;
