//! Counts the tasks, sockets, threads and memory of this process.

use std::{alloc::System, fs, time::Duration};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The resources of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub tasks: usize,
    pub sockets: usize,
    pub threads: usize,
    /// The memory that is allocated and not freed, in kB.
    pub memory: usize,
}

/// The growth of memory that buffers and caches may keep, in kB. 4.4 MB were seen, probably the room of message buffers for
/// the largest frame: a host may wake up to all floods of its peers at once. `tests/churn.rs` measures what joins leave
/// behind.
pub const SLACK: usize = 16 << 10;
/// How long a finished request may keep its socket, or a task its thread.
pub const SETTLING: Duration = Duration::from_secs(8);

impl Open {
    /// Counts the resources now. The caller knows the number of tasks.
    pub fn now(tasks: usize) -> Self {
        let is_socket = |file: &fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let sockets = fs::read_dir("/proc/self/fd").map_or(0, |files| files.flatten().filter(is_socket).count());
        Open { tasks, sockets, threads: status("Threads:"), memory: allocated() >> 10 }
    }

    /// Returns whether tasks, sockets and threads have not grown since, and memory has by no more than [`SLACK`].
    pub fn is_within(&self, before: &Open) -> bool {
        self.tasks <= before.tasks
            && self.sockets <= before.sockets
            && self.threads <= before.threads
            && self.memory <= before.memory + SLACK
    }
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
