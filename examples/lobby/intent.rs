//! What a player wants. Every view (window, terminal, demo) writes these, and `game.rs` alone acts on them.

use bevy::prelude::*;
use bevy_uhst::prelude::NetworkConditions;

use super::{
    args::{HostArgs, JoinArgs},
    words::PlayerId,
};

#[derive(Message, Clone, Debug, PartialEq)]
pub enum Intent {
    Host(HostArgs),
    Join(JoinArgs),
    /// Back to the start page.
    Leave,
    Say(String),
    Ready(bool),
    /// Host only.
    Kick(PlayerId),
    /// Host only, and only when everyone is ready.
    StartRound,
    /// Host only.
    FinishRound,
    /// Make the network worse or better.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "the terminal alone asks for it"))]
    Network(NetworkConditions),
    /// Walk this way in the arena until told otherwise. Longer than 1 is cut to 1.
    Steer(Vec2),
}
