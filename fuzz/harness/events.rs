//! The event stream: what is read does not depend on how it was cut into chunks, is what the standard says, and no
//! event is larger than the bound.

use std::cell::LazyCell;

use bevy_uhst::internals::event_stream;
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use uhst_proto::protocol::StreamEvent;

use super::source::Source;

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// The bound and the number of chunks but the last, then chunks: a length and its bytes. The rest is one chunk.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let max_event = 16 + usize::from(source.u8());
    let mut chunks: Vec<_> = (0..source.u8() % 16)
        .map(|_| {
            let length = source.u8();
            source.bytes(length.into())
        })
        .collect();
    chunks.push(source.rest());
    let stream = chunks.concat();
    let chunks = chunks.into_iter().map(Bytes::copy_from_slice).collect();
    let (read, error) = RUNTIME.with(|runtime| runtime.block_on(event_stream(chunks, max_event)));

    let Ok(text) = std::str::from_utf8(&stream) else { return };
    let whole = error == "it closed its event stream";
    if error.contains("larger") {
        assert!(longest_event(text) > max_event, "{error}");
    } else if whole {
        assert!(longest_event(text) <= max_event, "a larger event was read");
    }
    let expected = events(text);
    if whole {
        assert_eq!(read, expected);
    } else {
        assert!(expected.starts_with(&read), "{read:?}, not {expected:?}");
    }
}

/// Lines as the standard cuts them, the unfinished last one too.
fn lines(stream: &str) -> impl Iterator<Item = &str> {
    let (finished, last) = stream.rsplit_once('\n').map_or((None, stream), |(finished, last)| (Some(finished), last));
    let finished = finished.into_iter().flat_map(|finished| finished.split('\n'));
    finished.flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).chain(last.split('\r'))
}

/// The bytes of the longest event, its comments and line ends left out, or of the longest line.
fn longest_event(stream: &str) -> usize {
    let (mut longest, mut event) = (0, 0);
    for line in lines(stream) {
        longest = longest.max(event + line.len());
        match line.as_bytes() {
            [] => event = 0,
            [b':', ..] => {}
            _ => event += line.len(),
        }
    }
    longest
}

/// The events of a stream by the letter of the HTML standard, as far as this crate has a use for them.
fn events(stream: &str) -> Vec<String> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut lines: Vec<_> = lines(stream).collect();
    // It is not finished.
    lines.pop();
    let (mut events, mut kind, mut data) = (Vec::new(), String::new(), String::new());
    for line in lines {
        if line.is_empty() {
            if let Some(text) = data.strip_suffix('\n') {
                let name = if kind.is_empty() { "message" } else { &kind };
                match StreamEvent::parse(name, text) {
                    Ok(Some(event)) => events.push(format!("{event:?}")),
                    Ok(None) => {}
                    Err(error) => events.push(format!("{error:?}")),
                }
            }
            kind.clear();
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => kind = value.to_owned(),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            _ => {}
        }
    }
    events
}
