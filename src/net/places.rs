//! The places of a host's session, and who gives his up for a joiner.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use n0_future::time::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a joiner waits for a place that the game has just freed, before another is taken.
const FREED: Duration = Duration::from_millis(100);
/// How long it waits for a peer that gives way.
const GIVEN: Duration = Duration::from_secs(1);

/// One permit for each peer that has a place.
#[derive(Debug)]
pub(super) struct Places {
    permits: Arc<Semaphore>,
    /// How many peers with a place are interrupted.
    interrupted: AtomicUsize,
    /// Whether they give way to joiners.
    replace: bool,
    /// How many permits are not given again: the game has lowered the limit since.
    surplus: AtomicUsize,
}

impl Places {
    pub fn new(places: usize, replace: bool) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Arc::new(Places { permits, interrupted: AtomicUsize::new(0), replace, surplus: AtomicUsize::new(0) })
    }

    /// A free place.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let free = self.permits.clone().try_acquire_owned().ok()?;
            if let Some(place) = self.given(free) {
                return Some(place);
            }
        }
    }

    /// Changes how many there are. Nobody loses a place; those that are too many are not given again.
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

    /// A place, unless there is one too many.
    fn given(&self, place: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        let too_many = |surplus: usize| surplus.checked_sub(1);
        if self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, too_many).is_ok() {
            place.forget();
            return None;
        }
        Some(place)
    }

    /// Whether no place is free, and no peer gives way.
    pub fn are_full(&self) -> bool {
        self.permits.available_permits() <= self.surplus.load(Ordering::Relaxed)
            && !(self.replace && self.interrupted.load(Ordering::Relaxed) > 0)
    }

    /// Counts a peer that is interrupted from now on, or not any more.
    pub fn count_interrupted(&self, interrupted: bool) {
        if interrupted {
            self.interrupted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.interrupted.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A place for a joiner that is admitted: a free one, or that of a peer that gives way when `ask` asks for it.
    pub async fn wait(self: Arc<Self>, ask: impl FnOnce()) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = timeout(FREED, self.permits.clone().acquire_owned()).await {
            return self.given(place.ok()?);
        }
        if !self.replace {
            return None;
        }
        ask();
        self.given(timeout(GIVEN, self.permits.clone().acquire_owned()).await.ok()?.ok()?)
    }
}
