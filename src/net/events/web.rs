//! The event stream in a browser. `eventsource-client` asks for a clock that a browser does not have.

use std::collections::VecDeque;

use n0_future::{StreamExt, boxed::BoxStream, stream};

use super::{StreamItem, parser::Parser};
use crate::net::relay_error::RelayError;

/// Reads an answered stream, to its end or its first error.
pub(super) fn read(response: reqwest::Response, max_event: usize) -> BoxStream<Result<StreamItem, RelayError>> {
    let chunks = Box::pin(response.bytes_stream());
    let state = (chunks, Parser::new(max_event), VecDeque::from([StreamItem::Open]), Ok(()));
    Box::pin(stream::try_unfold(state, |(mut chunks, mut parser, mut items, mut parsed)| async move {
        loop {
            if let Some(item) = items.pop_front() {
                return Ok(Some((item, (chunks, parser, items, parsed))));
            }
            parsed?;
            let Some(chunk) = chunks.next().await else { return Ok(None) };
            let chunk = chunk.map_err(|error| RelayError::of_broken_stream(&error.without_url()))?;
            parsed = parser.read(&chunk, &mut items);
        }
    }))
}
