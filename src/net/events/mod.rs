//! The event stream of a relay, whatever carries it.

#[cfg(not(target_family = "wasm"))]
mod native;

use std::time::Duration;

use n0_future::{StreamExt, boxed::BoxStream, time};
use url::Url;

use super::relay_error::RelayError;
use crate::protocol::{StreamEvent, StreamEventError};

/// The largest event this crate reads. Relays take bodies of up to 100 KiB, and write them as JSON, at most a few
/// times as long.
pub(crate) const MAX_EVENT: usize = 1024 * 1024;

/// Original relays write a comment every 5 s. One that did so and then is silent for three of these is gone, though
/// its socket may not show it.
const SILENCE: Duration = Duration::from_secs(16);

/// What an event stream yields.
#[derive(Debug)]
pub(crate) enum StreamItem {
    /// The relay has answered: we are listening.
    Open,
    /// An event.
    Event(StreamEvent),
    /// An event that cannot be read; the stream goes on.
    Bad(StreamEventError),
    /// A comment, or an event of a foreign name: the relay is alive.
    Alive,
}

/// The event stream of one token. Ends with an error, always.
pub(crate) struct EventStream {
    items: BoxStream<Result<StreamItem, RelayError>>,
    /// Whether the relay has shown that it writes comments into idle streams.
    keeps_alive: bool,
}

impl EventStream {
    /// Starts listening.
    pub fn open(http: &reqwest::Client, url: Url) -> Self {
        Self::new(native::open(http, url))
    }

    /// Reads chunks of a stream that are here already, with another bound for its events.
    #[cfg(not(target_family = "wasm"))]
    pub fn of_chunks(chunks: Vec<bytes::Bytes>, max_event: usize) -> Self {
        Self::new(native::of_chunks(chunks, max_event))
    }

    /// From anything that yields items.
    pub fn new(items: BoxStream<Result<StreamItem, RelayError>>) -> Self {
        EventStream { items, keeps_alive: false }
    }

    /// The next item. Cancel safe. After an error there is nothing more.
    pub async fn next(&mut self) -> Result<StreamItem, RelayError> {
        let next = self.items.next();
        let item = if self.keeps_alive {
            time::timeout(SILENCE, next)
                .await
                .map_err(|_| RelayError::Unreachable("the relay stopped writing to its event stream".to_owned()))?
        } else {
            next.await
        };
        let item = item.unwrap_or_else(|| Err(RelayError::Unreachable("the relay closed the stream".to_owned())))?;
        self.keeps_alive |= matches!(item, StreamItem::Alive);
        Ok(item)
    }
}
