//! What the driver of a peer connection has done since it last slept, and how long it may sleep.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use webrtc::data_channel::DataChannel;

use super::connection::CONSENT_INTERVAL;

/// The progress of the driver of one peer connection.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether the driver has run one round since it last had work.
    settled: AtomicBool,
    connected: AtomicBool,
    /// Whether the driver got work since it last slept: a datagram, or a due timer.
    woken: AtomicBool,
    /// Whether the last sleep ran out, and no datagram has arrived since.
    quiet: AtomicBool,
    /// The channels that this side sends on.
    channels: Mutex<Vec<Weak<dyn DataChannel>>>,
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

    /// Adds a channel that this side sends on.
    pub fn add_channel(&self, channel: &Arc<dyn DataChannel>) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(channel));
    }

    /// Records a datagram.
    pub fn set_received(&self) {
        self.woken.store(true, Ordering::Relaxed);
        self.quiet.store(false, Ordering::Relaxed);
    }

    /// Records a sleep that ran out: a timer may be due.
    pub fn set_slept(&self) {
        self.woken.store(true, Ordering::Relaxed);
        self.quiet.store(true, Ordering::Relaxed);
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

    /// How long to sleep where the library asks for `duration`.
    ///
    /// The library wakes five times a second for its ICE agent, which has work only every few seconds once the peer is
    /// reached: its consent checks. Other timers need no service while the path rests: nothing sent waits for its acknowledgement, and the
    /// acknowledgement of what arrived was due before the last sleep ran out.
    pub async fn rest(&self, duration: Duration) -> Duration {
        let rests = self.is_connected() && self.quiet.load(Ordering::Relaxed) && !self.has_unacknowledged().await;
        if rests { duration.max(CONSENT_INTERVAL) } else { duration }
    }

    async fn has_unacknowledged(&self) -> bool {
        let mut index = 0;
        loop {
            let channel = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned();
            let Some(channel) = channel else { return false };
            if let Some(channel) = channel.upgrade()
                && channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0)
            {
                return true;
            }
            index += 1;
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}
