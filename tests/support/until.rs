//! Waiting for what is to happen.

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::test_app::{TestLog, update_until};

/// Nothing that a test waits for takes so long, unless it says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Updates the apps until this holds. If it does not, panics with what they were told.
#[track_caller]
pub fn until(apps: &mut [&mut App], condition: impl FnMut(&mut [&mut App]) -> bool) {
    let in_time = update_until(apps, PATIENCE, condition);
    let logs: Vec<_> = apps.iter().map(|app| app.world().get_resource::<TestLog>()).collect();
    assert!(in_time, "this never happened; the apps say: {logs:#?}");
}
