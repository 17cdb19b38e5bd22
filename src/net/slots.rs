//! The slots of a host's session: one per peer, up to the limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use n0_future::time::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a joiner waits for a slot that the game has just freed, before it replaces an interrupted peer.
const FREED_WAIT: Duration = Duration::from_millis(100);
/// How long a joiner waits for the slot of a peer that gives way.
const REPLACED_WAIT: Duration = Duration::from_secs(1);

/// A slot. The peers that one player has been and is share it.
pub(super) type Slot = Arc<OwnedSemaphorePermit>;

/// The slots of one host. Each peer holds one.
#[derive(Debug)]
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    /// How many peers with a slot are interrupted.
    interrupted: AtomicUsize,
    /// Whether interrupted peers give way to joiners.
    replace: bool,
    /// How many permits are retired once they are free: the game has lowered the limit.
    surplus: AtomicUsize,
    /// Whether only players who have a slot may join.
    locked: AtomicBool,
}

impl Slots {
    pub fn new(slots: usize, replace: bool, locked: bool) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS)));
        let (interrupted, surplus) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Slots { permits, interrupted, replace, surplus, locked: AtomicBool::new(locked) })
    }

    /// Locks the session for new players, or opens it.
    pub fn lock(&self, locked: bool) {
        self.locked.store(locked, Ordering::Relaxed);
    }

    /// Whether no new player may join.
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// Takes a free slot.
    pub fn take(&self) -> Option<Slot> {
        loop {
            let free = self.permits.clone().try_acquire_owned().ok()?;
            if let Some(slot) = self.unless_surplus(free) {
                return Some(slot);
            }
        }
    }

    /// Changes the number of slots. Nobody loses a slot; surplus ones are retired once they are free.
    pub fn resize(&self, before: usize, now: usize) {
        let (before, now) = (before.min(Semaphore::MAX_PERMITS), now.min(Semaphore::MAX_PERMITS));
        if now < before {
            self.surplus.fetch_add(before - now, Ordering::Relaxed);
            return;
        }
        let more = now - before;
        let mut settled = 0;
        let _ = self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| {
            settled = surplus.min(more);
            Some(surplus - settled)
        });
        self.permits.add_permits(more - settled);
    }

    /// Returns the slot, or retires it if there is a surplus.
    fn unless_surplus(&self, slot: OwnedSemaphorePermit) -> Option<Slot> {
        let retire = |surplus: usize| surplus.checked_sub(1);
        if self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, retire).is_ok() {
            slot.forget();
            return None;
        }
        Some(Arc::new(slot))
    }

    /// Whether no slot is free, and no peer gives way.
    pub fn are_full(&self) -> bool {
        self.permits.available_permits() <= self.surplus.load(Ordering::Relaxed)
            && !(self.replace && self.interrupted.load(Ordering::Relaxed) > 0)
    }

    /// Counts a peer as interrupted, or not any more.
    pub fn count_interrupted(&self, interrupted: bool) {
        if interrupted {
            self.interrupted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.interrupted.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for the slot of an admitted joiner: a free one, or that of a peer that gives way when `ask` is called.
    pub async fn wait(self: Arc<Self>, ask: impl FnOnce()) -> Option<Slot> {
        if let Ok(slot) = timeout(FREED_WAIT, self.permits.clone().acquire_owned()).await {
            return self.unless_surplus(slot.ok()?);
        }
        if !self.replace {
            return None;
        }
        ask();
        self.unless_surplus(timeout(REPLACED_WAIT, self.permits.clone().acquire_owned()).await.ok()?.ok()?)
    }
}
