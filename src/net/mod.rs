//! The background tasks of sessions. [`contract`] is all that the ECS knows of them.

mod backoff;
mod client;
mod client_peer;
mod client_start;
mod conditioner;
mod conditions;
pub(crate) mod contract;
mod direct;
mod directory;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub(crate) mod discovery;
mod embedded;
mod embedded_lookup;
mod events;
mod executor;
mod host;
mod host_start;
mod http;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod internals;
mod listen;
pub(crate) mod local;
mod memory;
#[cfg(not(target_family = "wasm"))]
mod network_thread;
mod offer;
mod page_end;
mod page_link;
mod peer;
mod peer_link;
mod plain;
mod players;
mod post_retry;
mod relay_access;
mod relay_client;
mod relay_error;
mod relay_location;
mod relay_options;
mod relay_session;
mod report;
mod runtime;
mod slots;
mod start_retry;
mod suspension;
mod token_bucket;
mod webrtc;

pub use conditions::NetworkConditions;
pub use contract::{Admission, SendError, Traffic};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub use discovery::Discovery;
pub use memory::MemoryRelay;
pub use page_link::PageLink;
pub use relay_options::{EmbeddedRelay, Relay};
pub(crate) use runtime::Runtime;
pub(crate) use webrtc::DirectConfig;
pub use webrtc::{IceCredentials, IceServer};

pub use crate::protocol::PathPolicy;
