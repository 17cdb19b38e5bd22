//! The connection with one peer, without I/O: packets, time and commands in; packets and events out.

/// A way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Through the relay.
    Relay,
    /// From machine to machine.
    Direct,
}

/// Timeouts and limits of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// placeholder
    pub timeout: core::time::Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        ConnectionConfig { timeout: core::time::Duration::from_secs(5) }
    }
}
