//! Multiplayer for Bevy without a game server.

pub mod connection;
mod ecs;
mod net;
pub mod protocol;
#[cfg(all(feature = "relay", not(target_family = "wasm")))]
pub mod relay;

pub use ecs::*;
