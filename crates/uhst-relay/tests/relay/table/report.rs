//! The common parts of all rows of an attack table.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The duration of each attack.
pub const LENGTH: Duration = Duration::from_secs(2);
/// The limit for an honest join during an attack.
pub const HONEST: Duration = Duration::from_secs(1);

/// Prints the head of a table.
pub fn head() {
    println!("row | before | now | longest honest join beside it");
}

/// Prints a row, and asserts that its honest joins are fast.
pub fn row(name: &str, before: &str, now: impl Display, honest: Duration) {
    println!("{name} | {before} | {now} | {honest:?}");
    assert!(honest < HONEST, "{name}: an honest join took {honest:?}");
}

/// Stops the attackers, at the latest when it is dropped.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the resident memory of this process in bytes.
pub fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).unwrap_or_default() * 1024
}
