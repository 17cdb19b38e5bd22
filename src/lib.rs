//! Multiplayer for Bevy without a game server.

pub mod connection;
mod ecs;
mod net;
pub mod protocol;
#[cfg(feature = "relay")]
pub mod relay;

pub use ecs::*;
