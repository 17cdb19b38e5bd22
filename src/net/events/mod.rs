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
    suspension::SUSPENDED,
};
use crate::protocol::{StreamEvent, StreamEventError};

/// The largest event, in bytes. Relays take bodies of up to 100 KiB, and write them as JSON, which is at most a few times as
/// long.
pub(crate) const MAX_EVENT: usize = 1024 * 1024;

/// The silence after which a relay that writes comments counts as gone. Original relays write a comment every 5 s, and a
/// dead socket may not show an error.
const SILENCE: Duration = Duration::from_secs(16);

/// After a suspension of this process, how long the stream has to show that it is alive. What arrived meanwhile, and what an
/// embedded relay of the same process has to say, is there at once.
const AFTER_SUSPENSION: Duration = Duration::from_secs(2);

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
            unless_silent(next).await?
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

/// Waits for the next item of a relay that writes comments.
async fn unless_silent<T>(mut next: impl Future<Output = T> + Unpin) -> Result<T, RelayError> {
    let due = Instant::now() + SILENCE;
    if let Ok(item) = time::timeout(SILENCE, &mut next).await {
        return Ok(item);
    }
    if due.elapsed() > SUSPENDED
        && let Ok(item) = time::timeout(AFTER_SUSPENSION, next).await
    {
        return Ok(item);
    }
    Err(RelayError::Unreachable("it stopped writing to its event stream".to_owned()))
}

/// Checks the content type, since a login page also has the status 200.
fn checked(response: reqwest::Response) -> Result<reqwest::Response, RelayError> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
        return Err(RelayError::NotARelay("its event stream"));
    }
    Ok(response)
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    /// A stream that has written a comment, and what it writes next.
    async fn alive() -> (EventStream, tokio::sync::mpsc::UnboundedSender<Result<StreamItem, RelayError>>) {
        let (writer, items) = tokio::sync::mpsc::unbounded_channel();
        let items = stream::unfold(items, |mut items| async { Some((items.recv().await?, items)) });
        let mut stream = EventStream::new(Box::pin(items));
        writer.send(Ok(StreamItem::Alive)).expect("the stream reads");
        assert!(matches!(stream.next().await, Ok(StreamItem::Alive)));
        (stream, writer)
    }

    /// Waits for the next item while this process is suspended for a minute, and then for this long. Returns how.
    async fn after_a_minute(stream: &mut EventStream, awake: Duration) -> Option<Result<StreamItem, RelayError>> {
        let next = stream.next();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        tokio::time::advance(Duration::from_secs(60)).await;
        time::timeout(awake, next).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_not_silent_while_this_process_is_suspended() {
        let (mut stream, writer) = alive().await;
        assert!(after_a_minute(&mut stream, AFTER_SUSPENSION / 2).await.is_none(), "it waits a moment longer");
        // The relay, in the same process, was suspended too.
        writer.send(Ok(StreamItem::Alive)).expect("the stream reads");
        assert!(matches!(stream.next().await, Ok(StreamItem::Alive)));
        let end = after_a_minute(&mut stream, 2 * AFTER_SUSPENSION).await;
        assert!(matches!(end, Some(Err(RelayError::Unreachable(_)))), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_silent_after_its_time() {
        let (mut stream, _writer) = alive().await;
        let since = Instant::now();
        assert!(matches!(stream.next().await, Err(RelayError::Unreachable(_))));
        assert!(since.elapsed() < SILENCE + SUSPENDED);
    }
}
