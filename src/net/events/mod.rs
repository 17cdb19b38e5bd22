//! The event stream of a relay, over any transport.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(any(target_family = "wasm", test))]
mod parser;
#[cfg(target_family = "wasm")]
mod web;

use std::time::Duration;

use n0_future::{
    StreamExt,
    boxed::BoxStream,
    stream::{self, once_future},
    time::{self, Instant},
};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use url::Url;

#[cfg(not(target_family = "wasm"))]
use self::native::read;
#[cfg(target_family = "wasm")]
use self::web::read;
use super::{
    http::{Http, HttpRequest},
    relay_error::RelayError,
};
use crate::protocol::{StreamEvent, StreamEventError};

/// The largest event, in bytes. Relays take bodies of up to 100 KiB, and write them as JSON, which is at most a few times as
/// long.
pub(crate) const MAX_EVENT: usize = 1024 * 1024;

/// The silence after which a relay that writes comments counts as gone. Original relays write a comment every 5 s, and a
/// dead socket may not show an error.
const SILENCE: Duration = Duration::from_secs(16);

/// The timeout for the first byte of a stream. Relay 2.1.1 writes it within 5 s, others write a comment at once.
const FIRST_BYTE: Duration = Duration::from_secs(8);

/// An item of an event stream.
#[derive(Debug)]
pub(crate) enum StreamItem {
    /// The relay has answered the request.
    Open,
    /// An event.
    Event(StreamEvent),
    /// An event that cannot be read. The stream continues.
    Malformed(StreamEventError),
    /// A comment, or an event of an unknown name: the relay is alive.
    Alive,
}

/// The event stream of one token. It always ends with an error.
pub(crate) struct EventStream {
    items: BoxStream<Result<StreamItem, RelayError>>,
    /// Whether the relay has shown that it writes comments into idle streams.
    keeps_alive: bool,
    /// When the first byte is overdue, until it arrives.
    held_back_at: Option<Instant>,
    /// An item that was read while waiting for the first byte.
    first: Option<StreamItem>,
}

impl EventStream {
    /// Requests the stream.
    pub fn open(http: Http, url: Url) -> Self {
        let request = HttpRequest { fresh: true, ..HttpRequest::new(Method::GET, url) };
        let request = request.header(ACCEPT, "text/event-stream");
        let items = once_future(async move {
            match http.send(request).await.and_then(checked) {
                Ok(response) => read(response, MAX_EVENT),
                Err(error) => Box::pin(stream::once(Err(error))) as BoxStream<_>,
            }
        });
        Self::new(Box::pin(items.flatten())).with_first_byte_timeout()
    }

    /// Creates a stream of these chunks, with this limit on its events.
    #[cfg(not(target_family = "wasm"))]
    pub fn of_chunks(chunks: Vec<bytes::Bytes>, max_event: usize) -> Self {
        Self::new(native::of_chunks(chunks, max_event))
    }

    /// Creates a stream of these items.
    pub fn new(items: BoxStream<Result<StreamItem, RelayError>>) -> Self {
        EventStream { items, keeps_alive: false, held_back_at: None, first: None }
    }

    /// Makes the first byte subject to a timeout, and [`begun`](Self::begun) wait for it.
    #[must_use]
    pub fn with_first_byte_timeout(mut self) -> Self {
        self.held_back_at = Some(Instant::now() + FIRST_BYTE);
        self
    }

    /// Waits until the relay has written to the stream. The head of the answer alone proves nothing, since a proxy may pass
    /// it on and hold back the body. Cancel safe; [`next`](Self::next) returns the item that is read here.
    ///
    /// # Errors
    ///
    /// The error that ends the stream.
    pub async fn begun(&mut self) -> Result<(), RelayError> {
        while self.held_back_at.is_some() && self.first.is_none() {
            match self.read().await? {
                StreamItem::Open => {}
                item => self.first = Some(item),
            }
        }
        Ok(())
    }

    /// Waits for the next item. Cancel safe.
    ///
    /// # Errors
    ///
    /// The error that ends the stream. No item follows it.
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

/// Checks the content type, since a login page also has the status 200.
fn checked(response: reqwest::Response) -> Result<reqwest::Response, RelayError> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
        return Err(RelayError::NotARelay("its event stream"));
    }
    Ok(response)
}
