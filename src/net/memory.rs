//! A relay in memory: the same rules as over HTTP, without a socket. For tests of games.

/// Connects the hosts and clients of one process that share a clone of it.
#[derive(Clone, Debug, Default)]
pub struct MemoryRelay {}
