//! The event stream over `eventsource-client`, with `reqwest` as the transport.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Context,
};

use bytes::Bytes;
use eventsource_client::{Client, ClientBuilder, Error, ReconnectOptions, SSE};
use http::Request;
use launchdarkly_sdk_transport::{ByteStream, HttpTransport, ResponseFuture, TransportError};
use n0_future::{StreamExt, boxed::BoxStream, stream};
use sync_wrapper::SyncStream;
use tracing::dispatcher::{Dispatch, with_default};

use super::StreamItem;
use crate::{net::relay_error::RelayError, protocol::StreamEvent};

/// Creates the stream of a relay that has written these chunks, with this limit on its events.
pub(super) fn of_chunks(chunks: Vec<Bytes>, max_event: usize) -> BoxStream<Result<StreamItem, RelayError>> {
    let chunks = stream::iter(chunks).map(Ok::<_, std::io::Error>);
    read(http::Response::new(reqwest::Body::wrap_stream(chunks)).into(), max_event)
}

/// Reads an answered stream, to its end or its first error. The event source does not see failed requests, since it logs
/// each of them with the token.
pub(super) fn read(response: reqwest::Response, max_event: usize) -> BoxStream<Result<StreamItem, RelayError>> {
    // The transport returns the given response for any URL.
    let events = ClientBuilder::for_url("http://relay/").map(|builder| {
        builder
            .reconnect(ReconnectOptions::reconnect(false).retry_initial(false).build())
            .build_with_transport(OneResponse { response: Arc::new(Mutex::new(Some(response))), max_event })
            .stream()
    });
    match events {
        Ok(mut events) => {
            let quietly = move |context: &mut Context| {
                // At the finest level the library logs all input, which includes tokens.
                with_default(&Dispatch::none(), || events.as_mut().poll_next(context))
            };
            Box::pin(stream::poll_fn(quietly).map(item))
        }
        Err(error) => Box::pin(stream::once(Err(RelayError::Unreachable(error.to_string())))),
    }
}

fn item(event: Result<SSE, Error>) -> Result<StreamItem, RelayError> {
    match event {
        Ok(SSE::Connected(_)) => Ok(StreamItem::Open),
        Ok(SSE::Comment(_)) => Ok(StreamItem::Alive),
        Ok(SSE::Event(event)) => Ok(match StreamEvent::parse(&event.event_type, &event.data) {
            Ok(Some(event)) => StreamItem::Event(event),
            Ok(None) => StreamItem::Alive,
            Err(error) => StreamItem::Malformed(error),
        }),
        Err(Error::Transport(ref error)) if let Some(TooLarge(max)) = error.inner().downcast_ref() => {
            Err(RelayError::TooLarge(*max))
        }
        Err(error @ (Error::InvalidLine(_) | Error::InvalidEvent)) => {
            tracing::debug!("unreadable event stream: {error}");
            Err(RelayError::NotARelay("its event stream"))
        }
        Err(Error::Eof) => Err(RelayError::Unreachable("it closed its event stream".to_owned())),
        Err(Error::Transport(error)) => Err(RelayError::of_broken_stream(&error)),
        Err(Error::HttpStream(error)) => Err(RelayError::of_broken_stream(&*error)),
        Err(error) => Err(RelayError::of_broken_stream(&error)),
    }
}

/// A transport that returns one given response.
#[derive(Clone)]
struct OneResponse {
    response: Arc<Mutex<Option<reqwest::Response>>>,
    max_event: usize,
}

impl HttpTransport for OneResponse {
    fn request(&self, _: Request<Option<Bytes>>) -> ResponseFuture {
        let response = self.response.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(std::future::ready(match response {
            Some(response) => {
                let mut bound = EventBound::new(self.max_event);
                let chunks = response.bytes_stream().map(move |chunk| {
                    let chunk = chunk.map_err(|error| TransportError::new(error.without_url()))?;
                    bound.admit(&chunk).map_err(TransportError::new)?;
                    Ok(chunk)
                });
                let body: ByteStream = Box::pin(SyncStream::new(chunks));
                Ok(http::Response::new(body))
            }
            None => Err(TransportError::new(std::io::Error::other("the stream was read already"))),
        }))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an event is larger than {0} bytes")]
struct TooLarge(usize);

/// Limits the bytes of one event, since the parser buffers an event until the blank line at its end.
struct EventBound {
    max: usize,
    /// The bytes of the complete lines of this event.
    event: usize,
    /// The bytes of the current line.
    line: usize,
    comment: bool,
    /// Whether the last byte was a carriage return. A line feed then belongs to the same line end.
    after_cr: bool,
}

impl EventBound {
    fn new(max: usize) -> Self {
        Self { max, event: 0, line: 0, comment: false, after_cr: false }
    }

    fn admit(&mut self, chunk: &[u8]) -> Result<(), TooLarge> {
        for &byte in chunk {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    match self.line {
                        0 => self.event = 0,
                        // Comments are no part of an event, and may follow each other without blank lines.
                        _ if self.comment => {}
                        line => self.event += line,
                    }
                    self.line = 0;
                }
                _ => {
                    if self.line == 0 {
                        self.comment = byte == b':';
                    }
                    self.line += 1;
                }
            }
            if self.event + self.line > self.max {
                return Err(TooLarge(self.max));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::MAX_EVENT, *};

    #[test]
    fn lines_and_events_are_limited_and_comments_are_not() {
        let mut bound = EventBound::new(MAX_EVENT);
        for _ in 0..1_000_000 {
            assert!(bound.admit(b": sse-keep-alive\n").is_ok());
        }
        assert!(bound.admit(&vec![b'x'; MAX_EVENT]).is_ok());
        assert!(bound.admit(b"x").is_err());

        for end in ["\n", "\r\n", "\r"] {
            let mut bound = EventBound::new(MAX_EVENT);
            let line = [b"data: ".as_slice(), &[b'x'; 1000], end.as_bytes()].concat();
            let lines = (0..2000).take_while(|_| bound.admit(&line).is_ok()).count();
            assert!(lines < MAX_EVENT / 1000, "{lines} {end:?}");
        }
    }

    #[test]
    fn a_blank_line_ends_an_event_with_any_line_end() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let mut bound = EventBound::new(MAX_EVENT);
            let event = [&[b'x'; 100_000], end.as_bytes()].concat();
            for _ in 0..100 {
                assert!(bound.admit(&event).is_ok(), "{end:?}");
            }
        }
    }
}
