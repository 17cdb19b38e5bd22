//! What the driver of a peer connection has done since it last slept.

use std::sync::atomic::{AtomicBool, Ordering};

/// The progress of the driver of one peer connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the driver has run one round since it last had work.
    settled: AtomicBool,
    connected: AtomicBool,
    /// Whether the driver got work since it last slept: a datagram, or a due timer.
    woken: AtomicBool,
}

impl Progress {
    /// Marks the peer as reached: from here on, work begins with a datagram or a timer.
    pub fn set_connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    /// Whether the peer is reached.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Records a datagram or a due timer.
    pub fn set_woken(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    /// Records a round without work.
    pub fn set_settled(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Whether another round is due before the next sleep. Resets the record.
    pub fn needs_another_round(&self) -> bool {
        let woken = self.woken.swap(false, Ordering::Relaxed);
        let settled = self.settled.swap(false, Ordering::Relaxed);
        woken || !settled && !self.is_connected()
    }
}
