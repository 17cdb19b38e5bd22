//! What the process has open, and what may be left of it.

use std::{fs, time::Duration};

/// What may grow, in the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub tasks: usize,
    pub sockets: usize,
    pub threads: usize,
    /// Resident memory in kB.
    pub memory: usize,
}

/// What an allocator may keep for itself, in kB.
pub const SLACK: usize = 20 << 10;
/// How long a finished request may keep its socket, and a task its thread.
pub const SETTLING: Duration = Duration::from_secs(8);

impl Open {
    /// Now, with this many tasks.
    pub fn now(tasks: usize) -> Self {
        let is_socket = |file: &fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let sockets = fs::read_dir("/proc/self/fd").map_or(0, |files| files.flatten().filter(is_socket).count());
        Open { tasks, sockets, threads: status("Threads:"), memory: status("VmRSS:") }
    }

    /// Whether nothing but memory has grown since.
    pub fn is_within(&self, before: &Open) -> bool {
        self.tasks <= before.tasks && self.sockets <= before.sockets && self.threads <= before.threads
    }
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
