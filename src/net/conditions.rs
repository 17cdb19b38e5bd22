//! The settings of a simulated bad network.

use std::time::Duration;

/// Simulated network conditions, to test a game on a worse network than the developer's own.
///
/// They apply to each direction separately, so a delay of 50 ms adds 100 ms to the round-trip time. They apply to every
/// path. On a reliable path, which is the relay or the ordered data channel, a lost packet arrives late instead of never and
/// delays those behind it; duplicates and reordering have no effect there.
///
/// Connections to peers of the original protocol are not affected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkConditions {
    /// The delay of each packet, in addition to that of the real network.
    pub delay: Duration,
    /// The largest deviation from the delay, in either direction, evenly distributed. Packets may thereby overtake each
    /// other.
    pub jitter: Duration,
    /// The share of lost packets, from 0 to 1.
    pub loss: f32,
    /// The average number of packets lost in a row. With 1 or less, losses are independent.
    pub burst: f32,
    /// The share of packets that arrives twice.
    pub duplicates: f32,
    /// The share of packets that are overtaken by those sent within the next [`REORDER_HOLD`](Self::REORDER_HOLD).
    pub reordering: f32,
    /// The bandwidth in bytes per second; `None`: unlimited. A packet that would wait for longer than
    /// [`QUEUE`](Self::QUEUE) is dropped if it is unreliable, and slows the sender down otherwise.
    pub bandwidth: Option<u32>,
    /// Whether the network is cut: no packet passes, on any path, in either direction. A [`loss`](Self::loss) of 1 does the
    /// same. Reliable packets wait until the network is back or their path is given up. After
    /// [`timeout`](crate::ConnectionConfig::timeout), both sides are interrupted.
    pub cut: bool,
}

impl NetworkConditions {
    /// The real network without changes.
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
    /// Wi-Fi two rooms from the router: short bursts of loss, some jitter.
    pub const HOME_WIFI: Self = NetworkConditions {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(6),
        loss: 0.005,
        burst: 2.0,
        bandwidth: Some(2_500_000),
        ..Self::PERFECT
    };
    /// A mobile network on a train.
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
    /// A hardly playable network, which a game should still survive.
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

    /// How long a reordered packet is held back.
    pub const REORDER_HOLD: Duration = Duration::from_millis(20);
    /// How long packets wait for bandwidth, as in the queue of a home router.
    pub const QUEUE: Duration = Duration::from_millis(200);

    /// Whether nothing is changed.
    pub fn is_perfect(&self) -> bool {
        self.delay.is_zero()
            && self.jitter.is_zero()
            && self.loss <= 0.0
            && self.duplicates <= 0.0
            && self.reordering <= 0.0
            && self.bandwidth.is_none()
            && !self.is_cut()
    }

    /// Whether no packet passes.
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
