//! What both sides of the contract know of one peer: its limits, queues, path and counts.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use n0_future::time::Instant;
use tokio::sync::OwnedSemaphorePermit;

use super::SendError;
use crate::{
    connection::{ConnectionId, MESSAGE_OVERHEAD, Path, message_cost},
    protocol::Payload,
};

/// The numbers of one peer: atomics, so that a send takes no lock.
#[derive(Debug)]
pub(crate) struct PeerShared {
    limits: PeerLimits,
    /// Of these limits the one that may change: an original's with its path.
    max_message: AtomicUsize,
    /// Set before anyone is told of the peer; never, if it speaks the original protocol.
    connection: OnceLock<ConnectionId>,
    /// Bytes handed down and not yet acknowledged, or sent for good.
    queued: AtomicUsize,
    /// Milliseconds after `born` since which it misses broadcasts; 0: it does not.
    behind: AtomicU64,
    /// Another reason for which it missed a broadcast is reported.
    reported_miss: AtomicBool,
    /// Bytes handed up that the game still has before it.
    inbox: AtomicUsize,
    /// The place in the session of a peer that is gone, for as long as its last messages take memory: else, peers that
    /// come, send and go would fill the memory of an app that reads nothing.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    open: AtomicBool,
    path: AtomicU8,
    reachable: AtomicBool,
    /// The origin of the time since which it is interrupted.
    born: Instant,
    /// Milliseconds after `born`; 0: it is not interrupted.
    interrupted: AtomicU64,
    /// Milliseconds from the interruption to the end.
    resume_timeout: AtomicU64,
    /// Microseconds; 0: not known.
    rtt: AtomicU32,
    sent_messages: AtomicU64,
    sent_bytes: AtomicU64,
    received_messages: AtomicU64,
    received_bytes: AtomicU64,
    lost: AtomicU64,
    /// Bytes that a goodbye did not wait for.
    cut: AtomicUsize,
}

/// What one peer can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerLimits {
    /// Bytes of one message.
    pub max_message: usize,
    /// Bytes that may wait to be sent.
    pub send_buffer: usize,
    /// Whether binary cannot be carried over the relay.
    pub text_only: bool,
    /// Whether the peer speaks the native dialect.
    pub native: bool,
    /// How long it may go on missing broadcasts.
    pub catch_up_timeout: Duration,
}

/// How much of the send queue a message takes, in bytes: as its connection counts, so that both agree on what is full.
pub(crate) fn queue_cost(payload: &Payload) -> usize {
    message_cost(payload.len())
}

/// How much of the receive buffer a message takes until the game has it. Empty ones take something, too.
pub(crate) fn inbox_cost(payload: &Payload) -> usize {
    payload.len() + MESSAGE_OVERHEAD
}

impl PeerShared {
    pub(in crate::net) fn new(limits: PeerLimits) -> Self {
        PeerShared {
            limits,
            max_message: limits.max_message.into(),
            connection: OnceLock::new(),
            queued: AtomicUsize::new(0),
            behind: AtomicU64::new(0),
            reported_miss: AtomicBool::new(false),
            inbox: AtomicUsize::new(0),
            place: Mutex::new(None),
            open: AtomicBool::new(true),
            path: AtomicU8::new(0),
            reachable: AtomicBool::new(true),
            born: Instant::now(),
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

    /// What this peer can take.
    pub fn limits(&self) -> PeerLimits {
        PeerLimits { max_message: self.max_message.load(Ordering::Relaxed), ..self.limits }
    }

    pub(in crate::net) fn set_max_message(&self, bytes: usize) {
        self.max_message.store(bytes, Ordering::Relaxed);
    }

    /// What both sides call the connection. Peers of the original protocol have no name for it.
    #[cfg(feature = "replicon")]
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection.get().copied()
    }

    /// The smoothed round-trip time, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }

    /// The way messages take now.
    pub fn path(&self) -> Path {
        match self.path.load(Ordering::Relaxed) {
            0 => Path::Relay,
            _ => Path::Direct,
        }
    }

    /// Whether a path leads to the peer now.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// For how long it has been interrupted, and how long it may be so yet, if it is.
    pub fn interrupted(&self) -> Option<(Duration, Duration)> {
        let since = match self.interrupted.load(Ordering::Relaxed) {
            0 => return None,
            since => Duration::from_millis(since),
        };
        let gone = self.born.elapsed().saturating_sub(since);
        let timeout = Duration::from_millis(self.resume_timeout.load(Ordering::Relaxed));
        Some((gone, timeout.saturating_sub(gone)))
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be sent or acknowledged.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Bytes sent reliably before this side ended the connection, and not confirmed in time. Known once it has ended.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }

    pub(in crate::net) fn set_cut(&self, bytes: usize) {
        self.cut.store(bytes, Ordering::Relaxed);
    }

    /// Counts since the connection began.
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
        // It has one name for its whole life.
        let _ = self.connection.set(id);
    }

    pub(in crate::net) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_path(&self, path: Path) {
        self.path.store(u8::from(path == Path::Direct), Ordering::Relaxed);
    }

    pub(in crate::net) fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    /// It is interrupted from now on, and for so long at most, or not any more.
    pub(crate) fn set_interrupted(&self, timeout: Option<Duration>) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.resume_timeout.store(timeout.map_or(0, millis), Ordering::Relaxed);
        let since = timeout.map_or(0, |_| millis(self.born.elapsed()).max(1));
        self.interrupted.store(since, Ordering::Relaxed);
    }

    pub(in crate::net) fn set_rtt(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.rtt.store(micros, Ordering::Relaxed);
    }

    /// Puts this many bytes into the send queue.
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

    /// Takes bytes off the send queue: acknowledged, dropped, or handed to a path that promises no more.
    pub(crate) fn sent(&self, cost: usize) {
        let queued = self.queued.fetch_sub(cost, Ordering::Relaxed) - cost;
        if self.behind.load(Ordering::Relaxed) > 0 && queued <= self.limits.send_buffer / 2 {
            self.behind.store(0, Ordering::Relaxed);
        }
    }

    /// It misses a broadcast for want of room: for how long it has done so since half of its queue was free, zero for the
    /// first time. `None` while it is interrupted, which has a timeout of its own.
    pub(super) fn falls_behind(&self) -> Option<Duration> {
        if self.interrupted.load(Ordering::Relaxed) > 0 {
            self.behind.store(0, Ordering::Relaxed);
            return None;
        }
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        match self.behind.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(Duration::ZERO),
            // Never zero again: that is the first time.
            Err(since) => Some(Duration::from_millis(now.saturating_sub(since)).max(Duration::from_nanos(1))),
        }
    }

    /// Whether a broadcast was missed for another reason than a full queue for the first time.
    pub(super) fn is_first_miss(&self) -> bool {
        !self.reported_miss.swap(true, Ordering::Relaxed)
    }

    /// The game has dropped messages of this many bytes.
    pub(super) fn released(&self, bytes: usize) {
        if self.inbox.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.free_place();
        }
    }

    /// The peer is gone: its place is free once the game has dropped its last messages.
    pub(in crate::net) fn leave_place(&self, place: Option<OwnedSemaphorePermit>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        if self.inbox.load(Ordering::Acquire) == 0 {
            self.free_place();
        }
    }

    fn free_place(&self) {
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn delivered(&self, cost: usize) {
        self.inbox.fetch_add(cost, Ordering::Relaxed);
    }

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

/// Counts of one connection since it began. Bytes include the frames around messages, and acks; with a peer of the
/// original protocol, those of messages alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent_messages: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Messages received.
    pub received_messages: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// What was lost: frames sent again, unreliable messages dropped before they were sent, and those that the other side
    /// tells that it misses. It tells them about a second late, and takes back those that were only late: the count may
    /// become smaller. A message above a kilobyte counts once for each kilobyte that is missed on a direct path. A peer of the
    /// original protocol tells nothing.
    pub lost: u64,
}
