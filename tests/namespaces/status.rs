//! What a process tells of its player, twenty times a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// It listens, or is on its way in.
    pub ready: bool,
    pub connected: u32,
    /// Of a host.
    pub links: Vec<String>,
    pub disconnected: u32,
    pub ended: u32,
    pub no_direct_path: bool,
    /// Why its last peer left, in words.
    pub reason: Option<String>,
    pub interrupted: u32,
    pub resumed: u32,
    /// Something reliable came twice, not at all, or in another order.
    pub broken: bool,
    pub direct: bool,
    /// How many of many are.
    pub directs: u32,
    /// It sends nothing any more.
    pub silent: bool,
    pub rtt: Duration,
    pub sent: Counts,
    pub received: Counts,
    /// The longest time without anything reliable, since it was asked to forget.
    pub gap: Duration,
    pub reliable: Delays,
    pub unreliable: Delays,
}

/// Messages on each channel.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub reliable: u32,
    pub unreliable: u32,
}

/// From sending to receiving.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Delays {
    pub median: Duration,
    /// What 99 of 100 keep to.
    pub worst: Duration,
}
