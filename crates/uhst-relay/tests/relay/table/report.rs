//! What the rows of a table of attacks have in common.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long each attack goes on.
pub const LENGTH: Duration = Duration::from_secs(2);
/// Whoever plays fair joins in less, whatever others do.
pub const HONEST: Duration = Duration::from_secs(1);

/// Begins a table.
pub fn head() {
    println!("row | before | now | longest honest join beside it");
}

/// A row is printed, and its honest joins are quick.
pub fn row(name: &str, before: &str, now: impl Display, honest: Duration) {
    println!("{name} | {before} | {now} | {honest:?}");
    assert!(honest < HONEST, "{name}: an honest join took {honest:?}");
}

/// Tells attackers when to stop, at the latest when it is dropped.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What this process has in memory, in bytes.
pub fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).unwrap_or_default() * 1024
}
