//! The background tasks. What the ECS needs to know of them is in [`contract`].

pub(crate) mod contract;
mod memory;
mod relay_choice;
mod runtime;
mod webrtc;

pub use contract::{Admission, SendError, Traffic};
pub use memory::MemoryRelay;
pub use relay_choice::{EmbeddedRelay, Relay};
pub(crate) use runtime::Runtime;
