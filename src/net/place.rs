//! Where a relay is: where it was found, or where it has moved to since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

/// The place of one relay. Clones share what they learn.
#[derive(Clone)]
pub(super) struct Place {
    home: Url,
    now: Arc<Mutex<Url>>,
}

impl Place {
    pub fn new(home: Url) -> Self {
        Place { now: Arc::new(Mutex::new(home.clone())), home }
    }

    /// Where it was found.
    pub fn home(&self) -> &Url {
        &self.home
    }

    /// Where it answered last.
    pub fn now(&self) -> Url {
        self.lock().clone()
    }

    /// It has answered at this URL. Another path of the same server is no other place.
    pub fn answered_at(&self, url: &Url) {
        let mut now = self.lock();
        if now.origin() != url.origin() {
            *now = url.clone();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Url> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
