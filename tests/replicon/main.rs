//! Replication over our sessions. `backend.rs` asks of every path what bevy_replicon's own backend is asked by its tests;
//! the others ask what is ours: sessions, changes of path, a game of sixteen on a bad network, and preludes side by side.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod apps;
mod backend;
mod game;
#[path = "../original/mod.rs"]
mod original;
mod paths;
mod paused;
mod prelude;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
