//! The URL of a relay: where it was found, or where a redirect has moved it since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

/// The URL of one relay. Clones share updates.
#[derive(Clone)]
pub(super) struct RelayLocation {
    original: Url,
    current: Arc<Mutex<Url>>,
}

impl RelayLocation {
    pub fn new(url: Url) -> Self {
        RelayLocation { current: Arc::new(Mutex::new(url.clone())), original: url }
    }

    /// The URL under which the relay was found.
    pub fn original(&self) -> &Url {
        &self.original
    }

    /// The URL at which the relay answered last.
    pub fn current(&self) -> Url {
        self.lock().clone()
    }

    /// Records that the relay answered at this URL. Another path on the same server is no change.
    pub fn answered_at(&self, url: &Url) {
        let mut current = self.lock();
        if current.origin() != url.origin() {
            *current = url.clone();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Url> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
