//! The goodbyes of an app that ends.

use std::time::Duration;

use bevy::platform::time::Instant;

use super::network::Network;
use crate::net::contract::EventKind;

/// How long an app that ends waits for its goodbyes while nothing that was sent before them is confirmed.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits, at least, until its announcements on the local network are withdrawn.
const WITHDRAWAL: Duration = Duration::from_millis(500);

/// How long the last packets may take of sessions that no longer wait for confirmations: a bit longer than for one peer.
const LAST_PACKETS: Duration = Duration::from_millis(600);

/// How often it looks whether a runtime of the app's own has been shut down.
const LOOK: Duration = Duration::from_millis(50);

/// Withdraws announcements, leaves every session, and waits until every goodbye is confirmed.
pub(super) fn leave_and_wait(network: &mut Network) {
    let pending = network.withdraw_announcements();
    network.leave_all();
    if network.runs_on_this_thread() {
        return;
    }
    let withdrawn_by = Instant::now() + WITHDRAWAL;
    wait_for_sessions(network);
    for withdrawn in pending {
        // Disconnected when it is done.
        let _ = withdrawn.recv_timeout(withdrawn_by.saturating_duration_since(Instant::now()));
    }
}

fn wait_for_sessions(network: &mut Network) {
    let latest = Instant::now() + network.exit_timeout;
    let mut deadline = latest.min(Instant::now() + PATIENCE);
    let mut gave_up = false;
    while !network.all_are_gone() {
        let now = Instant::now();
        if now >= deadline && gave_up {
            return network.forget_all();
        }
        if now >= deadline {
            tracing::warn!("left before all was confirmed: the network did not answer in time");
            network.give_up_all();
            (gave_up, deadline) = (true, now + LAST_PACKETS);
        }
        match network.events().recv_timeout(LOOK.min(deadline - now)).map(|event| (event.session, event.kind)) {
            Ok((session, EventKind::Ended { .. })) => network.forget(session),
            Ok((_, EventKind::Draining)) if !gave_up => deadline = latest.min(Instant::now() + PATIENCE),
            _ => {}
        }
    }
}

impl Drop for Network {
    /// An app may end in any way: by an [`AppExit`](bevy::app::AppExit) that comes after this plugin's last system, by a
    /// runner of its own, or by being dropped.
    fn drop(&mut self) {
        leave_and_wait(self);
    }
}
