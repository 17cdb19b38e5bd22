//! The goodbyes of an app that ends.

use std::time::{Duration, Instant};

use super::network::Network;
use crate::net::contract::EventKind;

/// How long an app that ends waits for its goodbyes while nothing that was sent before them is confirmed.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it looks whether a runtime of the app's own has been shut down.
const LOOK: Duration = Duration::from_millis(50);

/// Leaves every session, and waits until every goodbye is said.
pub(super) fn say(network: &mut Network) {
    network.leave_all();
    if network.runs_on_this_thread() {
        return;
    }
    let latest = Instant::now() + network.exit_timeout;
    let mut deadline = latest.min(Instant::now() + PATIENCE);
    while !network.all_are_gone() {
        let now = Instant::now();
        if now >= deadline {
            tracing::warn!("left without a goodbye: the network did not answer in time");
            return network.forget_all();
        }
        match network.events().recv_deadline(deadline.min(now + LOOK)).map(|event| (event.session, event.kind)) {
            Ok((session, EventKind::Ended { .. })) => network.forget(session),
            Ok((_, EventKind::Draining)) => deadline = latest.min(Instant::now() + PATIENCE),
            _ => {}
        }
    }
}

impl Drop for Network {
    /// An app may end in any way: by an [`AppExit`](bevy::app::AppExit) that comes after this plugin's last system, by a
    /// runner of its own, or by being dropped.
    fn drop(&mut self) {
        say(self);
    }
}
