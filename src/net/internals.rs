//! Fuzz entry points for the event stream and for candidates.

use bytes::Bytes;

use super::{
    events::{EventStream, StreamItem},
    webrtc,
};
use crate::protocol::Candidate;

/// Reads the chunks of an event stream whose events may have at most `max_event` bytes. Returns descriptions of the valid and
/// the malformed events, and the error that ends the stream.
pub async fn event_stream(chunks: Vec<Bytes>, max_event: usize) -> (Vec<String>, String) {
    let mut stream = EventStream::of_chunks(chunks, max_event);
    let mut items = Vec::new();
    loop {
        match stream.next().await {
            Ok(StreamItem::Open | StreamItem::Alive) => {}
            Ok(StreamItem::Event(event)) => items.push(format!("{event:?}")),
            Ok(StreamItem::Malformed(error)) => items.push(format!("{error:?}")),
            Err(error) => return (items, error.to_string()),
        }
    }
}

/// The candidate line for the WebRTC library, if the candidate is usable.
pub fn usable_candidate(candidate: &Candidate) -> Option<&str> {
    webrtc::usable_candidate(candidate)
}
