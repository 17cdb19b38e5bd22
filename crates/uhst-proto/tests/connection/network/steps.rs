//! The steps of a test on a simulated network.

use bytes::Bytes;

/// Conditions of the network, in percent and milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    pub loss: u8,
    pub double: u8,
    pub jitter: u16,
    pub delay: u16,
    /// Whether the sender learns that a POST was lost.
    pub reported: bool,
    /// The share of POSTs that arrive although their sender sees a failure.
    pub unanswered: u8,
}

/// One step of a test.
#[derive(Clone, Debug)]
pub enum Step {
    /// A side sends messages.
    Send {
        client: bool,
        channel: usize,
        size: u32,
        count: u8,
    },
    Signal {
        client: bool,
    },
    Wait(u16),
    Conditions(Conditions),
    /// The relay restarts: packets in flight are lost, and the client comes back on a new route.
    RestartRelay {
        outage: u16,
    },
    /// The client's stream breaks and comes back, unnoticed by the host. Packets that it posted before are in flight.
    Reroute,
    /// The host's stream breaks, unnoticed by the client. Packets to it are refused meanwhile.
    HostStream {
        outage: u16,
    },
    /// A side takes the relay's path down because a POST gets no response for a while. Then the response arrives, and
    /// the route stays the same.
    Suspect {
        client: bool,
        time: u16,
    },
    /// The direct path opens, on one side a little earlier.
    DirectUp {
        skew: u16,
    },
    /// The direct path closes, and both sides are notified.
    DirectDown,
    /// The direct path stops working, and nobody is notified.
    DirectSilent,
    /// One side is suspended for a while, as in a debugger.
    Stall {
        client: bool,
        time: u32,
    },
    /// Both sides are suspended.
    Suspend {
        time: u32,
    },
    /// No packet passes on any path, and nobody is notified.
    Silence {
        time: u32,
    },
    /// A game stops reading for a while.
    Lazy {
        client: bool,
        time: u16,
    },
    /// A handshake or resumption packet from an unknown peer.
    UnknownPeer {
        client: bool,
        packet: Bytes,
    },
}
