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
}

impl Places {
    pub fn new(places: usize, replace: bool) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Arc::new(Places { permits, interrupted: AtomicUsize::new(0), replace })
    }

    /// A free place.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Whether no place is free, and no peer gives way.
    pub fn are_full(&self) -> bool {
        self.permits.available_permits() == 0 && !(self.replace && self.interrupted.load(Ordering::Relaxed) > 0)
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
            return place.ok();
        }
        if !self.replace {
            return None;
        }
        ask();
        timeout(GIVEN, self.permits.clone().acquire_owned()).await.ok()?.ok()
    }
}
