//! Run conditions, by the state of this app's sessions.

use bevy::prelude::*;

use super::{SessionConnected, SessionEnded, SessionJoining, SessionReady, UhstSession};

/// Whether a host of this app listens.
pub fn hosting(ready: Query<(), With<SessionReady>>) -> bool {
    !ready.is_empty()
}

/// Whether a client of this app is on its way to a host.
pub fn joining(joining: Query<(), With<SessionJoining>>) -> bool {
    !joining.is_empty()
}

/// Whether a client of this app is connected to its host.
pub fn connected(connected: Query<(), With<SessionConnected>>) -> bool {
    !connected.is_empty()
}

/// Whether this app has no session, not even one that is starting.
pub fn offline(running: Query<(), (With<UhstSession>, Without<SessionEnded>)>) -> bool {
    running.is_empty()
}
