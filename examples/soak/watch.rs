//! Counts the tasks, sockets, threads and memory of this process.

use std::{fs, time::Duration};

/// The resources of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub tasks: usize,
    pub sockets: usize,
    pub threads: usize,
    /// Resident memory in kB.
    pub memory: usize,
}

/// The memory that an allocator may keep, in kB.
pub const SLACK: usize = 20 << 10;
/// How long a finished request may keep its socket, or a task its thread.
pub const SETTLING: Duration = Duration::from_secs(8);

impl Open {
    /// Counts the resources now. The caller knows the number of tasks.
    pub fn now(tasks: usize) -> Self {
        let is_socket = |file: &fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let sockets = fs::read_dir("/proc/self/fd").map_or(0, |files| files.flatten().filter(is_socket).count());
        Open { tasks, sockets, threads: status("Threads:"), memory: status("VmRSS:") }
    }

    /// Returns whether tasks, sockets and threads have not grown since.
    pub fn is_within(&self, before: &Open) -> bool {
        self.tasks <= before.tasks && self.sockets <= before.sockets && self.threads <= before.threads
    }
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
