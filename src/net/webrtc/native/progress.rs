//! What the driver of a peer connection has done since it last slept, and how long it may sleep.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use webrtc::data_channel::DataChannel;

use super::{
    association_timers::{AssociationTimers, may_hold_data},
    connection::CONSENT_INTERVAL,
};

/// The progress of the driver of one peer connection.
pub(super) struct Progress {
    /// Whether the driver has run one round since it last had work.
    settled: AtomicBool,
    connected: AtomicBool,
    /// Whether the driver got work since it last slept: a datagram, or a due timer.
    woken: AtomicBool,
    /// The channels that are not open yet.
    unopened: AtomicUsize,
    /// Whether the connection has a stream. Data on it arrives without a record here.
    has_stream: AtomicBool,
    timers: Mutex<AssociationTimers>,
    /// The channels that this side sends on.
    channels: Mutex<Vec<Weak<dyn DataChannel>>>,
}

impl Progress {
    /// Creates the record of a connection with this many channels.
    pub fn new(channels: usize) -> Self {
        Progress {
            settled: AtomicBool::default(),
            connected: AtomicBool::default(),
            woken: AtomicBool::default(),
            unopened: channels.into(),
            has_stream: AtomicBool::default(),
            timers: Mutex::default(),
            channels: Mutex::default(),
        }
    }

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

    /// Records that a channel is open.
    pub fn set_opened(&self) {
        self.unopened.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records a stream, such as one to a TURN server.
    pub fn set_stream(&self) {
        self.has_stream.store(true, Ordering::Relaxed);
    }

    /// Records a datagram, the largest of those that arrived at once.
    pub fn set_received(&self, datagram: &[u8]) {
        self.set_woken();
        if may_hold_data(datagram) {
            self.timers.lock().unwrap_or_else(PoisonError::into_inner).data_received(Instant::now());
        }
    }

    /// Records work: a datagram, or a due timer.
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

    /// How long to sleep where the library asks for `duration`.
    ///
    /// The library wakes five times a second for its ICE agent, which has work only every few seconds once the peer is
    /// reached: its consent checks. The other timers are those of the association.
    pub fn rest(&self, duration: Duration) -> Duration {
        let is_open = self.is_connected() && self.unopened.load(Ordering::Relaxed) == 0;
        if !is_open || self.has_stream.load(Ordering::Relaxed) {
            return duration;
        }
        let has_unacknowledged = self.has_unacknowledged();
        let now = Instant::now();
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        match timers.earliest(has_unacknowledged, now + duration, now) {
            Some(due) => duration.max(due.saturating_duration_since(now)),
            None => duration.max(CONSENT_INTERVAL),
        }
    }

    fn has_unacknowledged(&self) -> bool {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter().filter_map(Weak::upgrade).any(|channel| {
            // A task that uses the connection now may be sending. The driver must not wait for it in line.
            match channel.outstanding_bytes().now_or_never() {
                Some(bytes) => bytes.is_ok_and(|bytes| bytes > 0),
                None => true,
            }
        })
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}
