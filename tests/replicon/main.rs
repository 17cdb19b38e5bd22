//! Replication over sessions. `backend.rs` repeats the tests of bevy_replicon's own backend on every path. The other
//! modules test what this crate adds: sessions, changes of path, a game of sixteen players over a bad network, and the
//! prelude beside those of Bevy and bevy_replicon.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

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
