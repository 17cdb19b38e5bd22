//! Run conditions.

use bevy::prelude::*;

use super::{UhstClient, UhstHost};

/// Whether a host of this app listens.
pub fn hosting(hosts: Query<&UhstHost>) -> bool {
    hosts.iter().any(UhstHost::is_ready)
}

/// Whether a client of this app is on its way to a host.
pub fn joining(clients: Query<&UhstClient>) -> bool {
    clients.iter().any(UhstClient::is_joining)
}

/// Whether a client of this app is connected to its host.
pub fn connected(clients: Query<&UhstClient>) -> bool {
    clients.iter().any(UhstClient::is_connected)
}

/// Whether this app has no session, not even one that is starting.
pub fn offline(hosts: Query<&UhstHost>, clients: Query<&UhstClient>) -> bool {
    !hosts.iter().any(UhstHost::is_running) && !clients.iter().any(UhstClient::is_running)
}
