//! The event stream of a relay, whatever carries it.

#[cfg(not(target_family = "wasm"))]
mod native;

use std::time::Duration;

use n0_future::{
    StreamExt,
    boxed::BoxStream,
    time::{self, Instant},
};
use url::Url;

use super::{http::Http, relay_error::RelayError};
use crate::protocol::{StreamEvent, StreamEventError};

/// The largest event this crate reads. Relays take bodies of up to 100 KiB, and write them as JSON, at most a few
/// times as long.
pub(crate) const MAX_EVENT: usize = 1024 * 1024;

/// Original relays write a comment every 5 s. One that did so and then is silent for three of these is gone, though
/// its socket may not show it.
const SILENCE: Duration = Duration::from_secs(16);

/// By when a stream must have its first byte: relay 2.1.1 writes the first one after 5 s at the latest, others write a
/// comment at once.
const FIRST_BYTE: Duration = Duration::from_secs(8);

/// What an event stream yields.
#[derive(Debug)]
pub(crate) enum StreamItem {
    /// The relay has answered: we are listening.
    Open,
    /// An event.
    Event(StreamEvent),
    /// An event that cannot be read; the stream goes on.
    Malformed(StreamEventError),
    /// A comment, or an event of a foreign name: the relay is alive.
    Alive,
}

/// The event stream of one token. Ends with an error, always.
pub(crate) struct EventStream {
    items: BoxStream<Result<StreamItem, RelayError>>,
    /// Whether the relay has shown that it writes comments into idle streams.
    keeps_alive: bool,
    /// Until the first byte: when it is overdue.
    held_back_at: Option<Instant>,
    /// Read while waiting for the beginning.
    first: Option<StreamItem>,
}

impl EventStream {
    /// Starts listening.
    pub fn open(http: Http, url: Url) -> Self {
        Self::new(native::open(http, url)).expecting_its_beginning()
    }

    /// Reads chunks of a stream that are here already, with another bound for its events.
    #[cfg(not(target_family = "wasm"))]
    pub fn of_chunks(chunks: Vec<bytes::Bytes>, max_event: usize) -> Self {
        Self::new(native::of_chunks(chunks, max_event))
    }

    /// From anything that yields items.
    pub fn new(items: BoxStream<Result<StreamItem, RelayError>>) -> Self {
        EventStream { items, keeps_alive: false, held_back_at: None, first: None }
    }

    /// [`begun`](Self::begun) waits for the first byte, or for the error instead of it.
    pub fn expecting_its_beginning(mut self) -> Self {
        self.held_back_at = Some(Instant::now() + FIRST_BYTE);
        self
    }

    /// Returns once the relay has written to the stream. Its answer alone proves nothing: a proxy that holds back what
    /// is written may pass the answer on. Cancel safe; what is read here is not lost.
    pub async fn begun(&mut self) -> Result<(), RelayError> {
        while self.held_back_at.is_some() && self.first.is_none() {
            match self.read().await? {
                StreamItem::Open => {}
                item => self.first = Some(item),
            }
        }
        Ok(())
    }

    /// The next item. Cancel safe. After an error there is nothing more.
    pub async fn next(&mut self) -> Result<StreamItem, RelayError> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<StreamItem, RelayError> {
        let next = self.items.next();
        let item = if let Some(at) = self.held_back_at {
            let left = at.saturating_duration_since(Instant::now());
            time::timeout(left, next).await.map_err(|_| RelayError::HeldBack)?
        } else if self.keeps_alive {
            time::timeout(SILENCE, next)
                .await
                .map_err(|_| RelayError::Unreachable("it stopped writing to its event stream".to_owned()))?
        } else {
            next.await
        };
        let item = item.unwrap_or_else(|| Err(RelayError::Unreachable("it closed its event stream".to_owned())))?;
        if !matches!(item, StreamItem::Open) {
            self.held_back_at = None;
        }
        self.keeps_alive |= matches!(item, StreamItem::Alive);
        Ok(item)
    }
}
