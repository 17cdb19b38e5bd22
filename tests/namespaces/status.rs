//! The state of a player, which its process reports twenty times a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether the host listens, or the client has begun to join.
    pub ready: bool,
    pub connected: u32,
    /// The join links of a host.
    pub links: Vec<String>,
    pub disconnected: u32,
    pub ended: u32,
    pub no_direct_path: bool,
    /// The reason with which its last peer left, as text.
    pub reason: Option<String>,
    pub interrupted: u32,
    pub resumed: u32,
    /// Whether a reliable message was lost, duplicated or out of order.
    pub broken: bool,
    pub direct: bool,
    /// The number of peers on a direct path.
    pub directs: u32,
    /// Whether it has stopped sending.
    pub silent: bool,
    pub rtt: Duration,
    pub sent: Counts,
    pub received: Counts,
    /// The longest time without a reliable message since the last reset.
    pub gap: Duration,
    pub reliable: Delays,
    pub unreliable: Delays,
}

/// The number of messages on each channel.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub reliable: u32,
    pub unreliable: u32,
}

/// Delays from sending to receiving.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Delays {
    pub median: Duration,
    /// The delay that 99 of 100 messages do not exceed.
    pub worst: Duration,
}
