//! Waits until a condition holds.

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::test_app::{TestLog, update_until};

/// The longest wait for a condition, unless a test sets another one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Updates the apps until the condition holds. Otherwise panics with the events of the apps.
#[track_caller]
pub fn until(apps: &mut [&mut App], condition: impl FnMut(&mut [&mut App]) -> bool) {
    let in_time = update_until(apps, PATIENCE, condition);
    let logs: Vec<_> = apps.iter().map(|app| app.world().get_resource::<TestLog>()).collect();
    assert!(in_time, "this never happened; the apps say: {logs:#?}");
}
