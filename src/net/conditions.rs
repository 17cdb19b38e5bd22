//! A network made worse on purpose, in numbers.

use std::time::Duration;

/// What packets meet on their way, to try a game on a worse network than the developer's own.
///
/// The numbers hold for each way: what this side sends and what it receives. So a delay of 50 ms adds 100 ms to the
/// round-trip time. They hold on every path. On a reliable one, the relay's or the ordered data channel, a lost packet
/// comes late instead of never, and holds up those behind it; copies and changed order do not show there.
///
/// Only connections to peers of this library are affected, not those to peers of the original protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkConditions {
    /// How long a packet is on its way, on top of what the real network takes.
    pub delay: Duration,
    /// By how much that varies, to either side, evenly spread. Packets may overtake each other by it.
    pub jitter: Duration,
    /// The share of packets that is lost, from 0 to 1.
    pub loss: f32,
    /// How many packets are lost in a row, on average. 1 and less: each for itself.
    pub burst: f32,
    /// The share of packets that arrives twice.
    pub duplicates: f32,
    /// The share of packets that is overtaken by those sent within the next [`REORDER_HOLD`](Self::REORDER_HOLD).
    pub reordering: f32,
    /// Bytes that get through in a second; `None`: any number. What has to wait for longer than
    /// [`QUEUE`](Self::QUEUE) is dropped if it is unreliable, and slows the sender down if it is not.
    pub bandwidth: Option<u32>,
    /// The cable is pulled: nothing passes, on any path, either way. So does a [`loss`](Self::loss) of 1. What a path
    /// promises to deliver waits until the cable is back, or its path is given up. After
    /// [`timeout`](crate::connection::ConnectionConfig::timeout), both sides are interrupted.
    pub cut: bool,
}

impl NetworkConditions {
    /// As the real network is.
    pub const PERFECT: Self = NetworkConditions {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        burst: 1.0,
        duplicates: 0.0,
        reordering: 0.0,
        bandwidth: None,
        cut: false,
    };
    /// Wi-Fi at home, two rooms from the router: short bursts of loss, some jitter.
    pub const HOME_WIFI: Self = NetworkConditions {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(6),
        loss: 0.005,
        burst: 2.0,
        bandwidth: Some(2_500_000),
        ..Self::PERFECT
    };
    /// A phone's network on a train.
    pub const MOBILE: Self = NetworkConditions {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(25),
        loss: 0.02,
        burst: 3.0,
        duplicates: 0.001,
        reordering: 0.005,
        bandwidth: Some(500_000),
        cut: false,
    };
    /// Hardly playable: what a game should still survive.
    pub const TERRIBLE: Self = NetworkConditions {
        delay: Duration::from_millis(150),
        jitter: Duration::from_millis(80),
        loss: 0.1,
        burst: 4.0,
        duplicates: 0.01,
        reordering: 0.03,
        bandwidth: Some(64_000),
        cut: false,
    };

    /// How long a packet that is to be overtaken stays behind.
    pub const REORDER_HOLD: Duration = Duration::from_millis(20);
    /// How long packets wait for bandwidth, as in the queue of a home router.
    pub const QUEUE: Duration = Duration::from_millis(200);

    /// Whether nothing is made worse.
    pub fn is_perfect(&self) -> bool {
        self.delay.is_zero()
            && self.jitter.is_zero()
            && self.loss <= 0.0
            && self.duplicates <= 0.0
            && self.reordering <= 0.0
            && self.bandwidth.is_none()
            && !self.is_cut()
    }

    /// Whether nothing passes.
    pub fn is_cut(&self) -> bool {
        self.cut || self.loss >= 1.0
    }
}

impl Default for NetworkConditions {
    /// [`PERFECT`](Self::PERFECT).
    fn default() -> Self {
        Self::PERFECT
    }
}
