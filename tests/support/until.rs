//! Waits until a condition holds.

use std::time::Duration;

use bevy::prelude::*;
use bevy_uhst::test_app::{TestLog, update_until};

/// The longest wait for a condition while nothing happens, unless a test sets another one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often the patience may begin anew, since something has happened.
const ROUNDS: usize = 5;

/// How many events of an app a failure tells. Those before have led there without a fault.
const TOLD: usize = 40;

/// Updates the apps until the condition holds. Otherwise panics with the last events of the apps.
#[track_caller]
pub fn until(apps: &mut [&mut App], condition: impl FnMut(&mut [&mut App]) -> bool) {
    if !in_time(apps, PATIENCE, || 0, condition) {
        let told: Vec<_> = apps.iter().map(|app| told(app)).collect();
        panic!("this never happened; the apps say: {}", told.join("\n"));
    }
}

/// Updates the apps until the condition holds, or nothing has happened for too long. A slow machine that goes on is not at
/// fault. `others` counts what happens outside the apps.
pub fn in_time(
    apps: &mut [&mut App],
    patience: Duration,
    mut others: impl FnMut() -> usize,
    mut condition: impl FnMut(&mut [&mut App]) -> bool,
) -> bool {
    for _ in 0..ROUNDS {
        let before = (events(apps), others());
        if update_until(apps, patience, &mut condition) {
            return true;
        }
        if before == (events(apps), others()) {
            break;
        }
    }
    false
}

/// How many events the apps have seen.
fn events(apps: &[&mut App]) -> usize {
    let log = |app: &&mut App| app.world().get_resource::<TestLog>().map_or(0, |log| log.0.len());
    apps.iter().map(log).sum()
}

/// The last events of an app, a line each.
pub fn told(app: &App) -> String {
    let Some(log) = app.world().get_resource::<TestLog>() else { return "no log".to_owned() };
    let last = &log.0[log.0.len().saturating_sub(TOLD)..];
    let lines: String = last.iter().map(|event| format!("\n  {event:?}")).collect();
    format!("{} events, at last:{lines}", log.0.len())
}
