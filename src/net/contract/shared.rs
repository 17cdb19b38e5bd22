//! The counters of one peer that both sides of the contract share: limits, queues, path and traffic.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use n0_future::time::Instant;

use super::send_error::SendError;
use crate::{
    connection::{ConnectionId, MESSAGE_OVERHEAD, Path, Security, message_cost},
    net::slots::Slot,
    protocol::{Payload, PublicKey},
};

/// The counters of one peer. They are atomic, so that a send takes no lock.
#[derive(Debug)]
pub(crate) struct PeerShared {
    limits: PeerLimits,
    /// A native peer's is known once it is connected, an original's depends on its path.
    max_message: AtomicUsize,
    /// Whether the peer speaks the native dialect. A host that seems to be an original may turn out to be native.
    native: AtomicBool,
    /// Set before the peer is reported; never set for a peer of the original protocol.
    connection: OnceLock<ConnectionId>,
    /// As `connection`: what protects the connection, and the peer's static key.
    secured: OnceLock<(Security, PublicKey)>,
    /// Bytes queued and neither acknowledged nor dropped.
    queued: AtomicUsize,
    /// When the peer began to miss broadcasts, in milliseconds after `created`; 0: it misses none.
    behind: AtomicU64,
    /// Whether a missed broadcast was reported that had another cause than a full queue.
    reported_miss: AtomicBool,
    /// Bytes delivered to the game and not dropped by it.
    inbox: AtomicUsize,
    /// The slot of a peer that is gone, kept while its last messages take memory. Otherwise, peers that join, send and
    /// leave fill the memory of an app that reads nothing.
    slot: Mutex<Option<Slot>>,
    open: AtomicBool,
    path: AtomicU8,
    has_path: AtomicBool,
    /// The origin of `behind` and `interrupted`.
    created: Instant,
    /// When the interruption began, in milliseconds after `created`; 0: the peer is not interrupted.
    interrupted: AtomicU64,
    /// Milliseconds from the interruption to the end.
    resume_timeout: AtomicU64,
    /// Microseconds; 0: not measured yet.
    rtt: AtomicU32,
    sent_messages: AtomicU64,
    sent_bytes: AtomicU64,
    received_messages: AtomicU64,
    received_bytes: AtomicU64,
    lost: AtomicU64,
    /// Bytes that were not confirmed before the end.
    cut: AtomicUsize,
}

/// The limits of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerLimits {
    /// The largest message, in bytes.
    pub max_message: usize,
    /// The capacity of the send queue, in bytes.
    pub send_buffer: usize,
    /// Whether the peer takes only text over the relay.
    pub text_only: bool,
    /// Whether the peer speaks the native dialect.
    pub native: bool,
    /// How long the peer may miss broadcasts before it is disconnected.
    pub catch_up_timeout: Duration,
}

/// The bytes that a message takes in the send queue. The connection counts the same, so that both agree on what is full.
pub(crate) fn queue_cost(payload: &Payload) -> usize {
    message_cost(payload.len())
}

/// The bytes that a message takes in the receive buffer. Empty messages take some, too.
pub(crate) fn inbox_cost(payload: &Payload) -> usize {
    payload.len() + MESSAGE_OVERHEAD
}

impl PeerShared {
    pub(in crate::net) fn new(limits: PeerLimits) -> Self {
        PeerShared {
            limits,
            max_message: limits.max_message.into(),
            native: limits.native.into(),
            connection: OnceLock::new(),
            secured: OnceLock::new(),
            queued: AtomicUsize::new(0),
            behind: AtomicU64::new(0),
            reported_miss: AtomicBool::new(false),
            inbox: AtomicUsize::new(0),
            slot: Mutex::new(None),
            open: AtomicBool::new(true),
            path: AtomicU8::new(0),
            has_path: AtomicBool::new(true),
            created: Instant::now(),
            interrupted: AtomicU64::new(0),
            resume_timeout: AtomicU64::new(0),
            rtt: AtomicU32::new(0),
            sent_messages: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_messages: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            cut: AtomicUsize::new(0),
        }
    }

    /// The limits of this peer.
    pub fn limits(&self) -> PeerLimits {
        let native = self.native.load(Ordering::Relaxed);
        PeerLimits {
            max_message: self.max_message.load(Ordering::Relaxed),
            native,
            text_only: self.limits.text_only && !native,
            ..self.limits
        }
    }

    pub(in crate::net) fn set_max_message(&self, bytes: usize) {
        self.max_message.store(bytes, Ordering::Relaxed);
    }

    pub(in crate::net) fn set_native(&self) {
        self.native.store(true, Ordering::Relaxed);
    }

    pub(in crate::net) fn set_secured(&self, security: Security, key: PublicKey) {
        // A connection keeps both for its whole life.
        let _ = self.secured.set((security, key));
    }

    /// What protects the connection.
    pub fn security(&self) -> Security {
        self.secured.get().map_or(Security::Plain, |(security, _)| *security)
    }

    /// The peer's static key.
    pub fn key(&self) -> Option<PublicKey> {
        self.secured.get().map(|(_, key)| *key)
    }

    /// The id of the connection, the same on both sides. Connections of the original protocol have none.
    #[cfg(feature = "replicon")]
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection.get().copied()
    }

    /// The smoothed round-trip time, once it is measured.
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }

    /// The current path.
    pub fn path(&self) -> Path {
        match self.path.load(Ordering::Relaxed) {
            0 => Path::Relay,
            _ => Path::Direct,
        }
    }

    /// Whether any path is up.
    pub fn has_path(&self) -> bool {
        self.has_path.load(Ordering::Relaxed)
    }

    /// How long the peer has been interrupted, and how long it may remain so. `None` if it is not interrupted.
    pub fn interrupted(&self) -> Option<(Duration, Duration)> {
        let since = match self.interrupted.load(Ordering::Relaxed) {
            0 => return None,
            since => Duration::from_millis(since),
        };
        let gone = self.created.elapsed().saturating_sub(since);
        let timeout = Duration::from_millis(self.resume_timeout.load(Ordering::Relaxed));
        Some((gone, timeout.saturating_sub(gone)))
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// The bytes in the send queue: waiting to be sent or acknowledged.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// The bytes of reliable messages that were not confirmed in time before this side ended the connection. Known after
    /// the end.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }

    pub(in crate::net) fn set_cut(&self, bytes: usize) {
        self.cut.store(bytes, Ordering::Relaxed);
    }

    /// The traffic since the connection began.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            sent_messages: self.sent_messages.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_messages: self.received_messages.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    pub(in crate::net) fn set_connection(&self, id: ConnectionId) {
        // The id never changes.
        let _ = self.connection.set(id);
    }

    pub(in crate::net) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_path(&self, path: Path) {
        self.path.store(u8::from(path == Path::Direct), Ordering::Relaxed);
    }

    pub(in crate::net) fn set_has_path(&self, has_path: bool) {
        self.has_path.store(has_path, Ordering::Relaxed);
    }

    /// Marks the peer as interrupted, from now until the timeout at most, or as resumed (`None`).
    pub(crate) fn set_interrupted(&self, timeout: Option<Duration>) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.resume_timeout.store(timeout.map_or(0, millis), Ordering::Relaxed);
        let since = timeout.map_or(0, |_| millis(self.created.elapsed()).max(1));
        self.interrupted.store(since, Ordering::Relaxed);
    }

    pub(in crate::net) fn set_rtt(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.rtt.store(micros, Ordering::Relaxed);
    }

    /// Adds this many bytes to the send queue.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] after [`close`](Self::close), [`SendError::QueueFull`] if they do not fit.
    pub(super) fn enqueue(&self, cost: usize) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Disconnected);
        }
        let limit = self.limits.send_buffer;
        let queued = self.queued.fetch_add(cost, Ordering::Relaxed);
        if queued + cost > limit {
            self.queued.fetch_sub(cost, Ordering::Relaxed);
            return Err(SendError::QueueFull { queued, limit });
        }
        Ok(())
    }

    /// Removes bytes from the send queue: they are acknowledged, dropped, or handed to a path without acknowledgements.
    pub(crate) fn sent(&self, cost: usize) {
        let queued = self.queued.fetch_sub(cost, Ordering::Relaxed) - cost;
        if self.behind.load(Ordering::Relaxed) > 0 && queued <= self.limits.send_buffer / 2 {
            self.behind.store(0, Ordering::Relaxed);
        }
    }

    /// Records a broadcast that found the queue full. Returns for how long the peer has missed broadcasts since half of its
    /// queue was free; zero the first time. Returns `None` while the peer is interrupted, which has a timeout of its own.
    pub(super) fn falls_behind(&self) -> Option<Duration> {
        if self.interrupted.load(Ordering::Relaxed) > 0 {
            self.behind.store(0, Ordering::Relaxed);
            return None;
        }
        let now = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        match self.behind.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(Duration::ZERO),
            // Zero means the first time only.
            Err(since) => Some(Duration::from_millis(now.saturating_sub(since)).max(Duration::from_nanos(1))),
        }
    }

    /// Whether this is the first broadcast that was missed for another reason than a full queue.
    pub(super) fn is_first_miss(&self) -> bool {
        !self.reported_miss.swap(true, Ordering::Relaxed)
    }

    /// Removes bytes from the inbox: the game has dropped them.
    pub(super) fn released(&self, bytes: usize) {
        if self.inbox.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.free_slot();
        }
    }

    /// Frees the slot of a peer that is gone, once the game has dropped its last messages.
    pub(in crate::net) fn free_slot_when_read(&self, slot: Option<Slot>) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = slot;
        if self.inbox.load(Ordering::Acquire) == 0 {
            self.free_slot();
        }
    }

    fn free_slot(&self) {
        drop(self.slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Adds bytes to the inbox: they are on their way to the game.
    pub(crate) fn delivered(&self, cost: usize) {
        self.inbox.fetch_add(cost, Ordering::Relaxed);
    }

    /// The bytes in the inbox.
    pub(crate) fn inbox(&self) -> usize {
        self.inbox.load(Ordering::Relaxed)
    }

    pub(crate) fn set_traffic(&self, traffic: Traffic) {
        self.sent_messages.store(traffic.sent_messages, Ordering::Relaxed);
        self.sent_bytes.store(traffic.sent_bytes, Ordering::Relaxed);
        self.received_messages.store(traffic.received_messages, Ordering::Relaxed);
        self.received_bytes.store(traffic.received_bytes, Ordering::Relaxed);
        self.lost.store(traffic.lost, Ordering::Relaxed);
    }
}

/// The traffic of one connection since it began. Bytes include frame headers and acks; with a peer of the original
/// protocol they count payloads only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The messages sent.
    pub sent_messages: u64,
    /// The bytes sent.
    pub sent_bytes: u64,
    /// The messages received.
    pub received_messages: u64,
    /// The bytes received.
    pub received_bytes: u64,
    /// The losses: frames that were resent, unreliable messages that were dropped before they were sent, and unreliable
    /// messages that the peer reports as missing. The peer reports about a second late, and takes back what was only late,
    /// so the count may decrease. On a direct path, a message above a kilobyte counts once for each missing kilobyte. A
    /// peer of the original protocol reports nothing.
    pub lost: u64,
}
