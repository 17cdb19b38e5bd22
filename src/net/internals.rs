//! Fuzz entry points: the event stream and the candidates, without a relay or a peer.

use bytes::Bytes;

use super::{
    events::{EventStream, StreamItem},
    webrtc,
};
use crate::protocol::Candidate;

/// Reads the chunks of an event stream, of which no event may have more than `max_event` bytes. What came of it, in words: first the readable and the bad events, then the
/// error that every stream ends with.
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

/// The line that is handed to the WebRTC library, if any.
pub fn usable_candidate(candidate: &Candidate) -> Option<&str> {
    webrtc::usable_candidate(candidate)
}
