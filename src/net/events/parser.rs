//! Cuts the bytes of an event stream into items, as the HTML standard says (section 9.2.6), in a browser. Its own
//! `EventSource` does not report comments, which show that a relay is alive, and does not bound what it keeps.

use std::collections::VecDeque;

use super::StreamItem;
use crate::{net::relay_error::RelayError, protocol::StreamEvent};

/// What a stream may begin with.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads one event stream.
pub(super) struct Parser {
    /// The largest event, in bytes: its lines with their field names, without line ends and comments.
    max_event: usize,
    /// The current line.
    line: Vec<u8>,
    /// The bytes of the complete lines of the current event.
    event: usize,
    name: String,
    /// The lines of data, each with a line feed.
    data: String,
    /// Whether the last byte was a carriage return. A line feed then belongs to the same line end.
    after_cr: bool,
    /// Whether no line is complete yet.
    at_start: bool,
}

impl Parser {
    /// Creates a parser with this limit on events, in bytes.
    pub fn new(max_event: usize) -> Self {
        Parser {
            max_event,
            line: Vec::new(),
            event: 0,
            name: String::new(),
            data: String::new(),
            after_cr: false,
            at_start: true,
        }
    }

    /// Reads a chunk, and appends its items.
    ///
    /// # Errors
    ///
    /// [`RelayError::TooLarge`] for an event above the limit, [`RelayError::NotARelay`] for bytes that are not UTF-8. The
    /// parser must not be used again.
    pub fn read(&mut self, mut chunk: &[u8], items: &mut VecDeque<StreamItem>) -> Result<(), RelayError> {
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.event + self.line.len() + part.len() > self.max_event {
                return Err(RelayError::TooLarge(self.max_event));
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            let line = std::mem::take(&mut self.line);
            items.extend(self.end_line(&line)?);
            self.line = line;
            self.line.clear();
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8]) -> Result<Option<StreamItem>, RelayError> {
        let text = std::str::from_utf8(line).map_err(|_| RelayError::NotARelay("its event stream"))?;
        let at_start = std::mem::take(&mut self.at_start);
        let text = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| at_start).unwrap_or(text);
        if text.is_empty() {
            return Ok(self.end_event());
        }
        if line[0] != b':' {
            self.event += line.len();
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // A comment.
            "" => return Ok(Some(StreamItem::Alive)),
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            _ => {}
        }
        Ok(None)
    }

    /// Ends the event at its blank line. An event without data is none.
    fn end_event(&mut self) -> Option<StreamItem> {
        self.event = 0;
        let name = if self.name.is_empty() { "message" } else { &self.name };
        let item = self.data.strip_suffix('\n').map(|data| match StreamEvent::parse(name, data) {
            Ok(Some(event)) => StreamItem::Event(event),
            Ok(None) => StreamItem::Alive,
            Err(error) => StreamItem::Malformed(error),
        });
        self.name.clear();
        self.data.clear();
        item
    }
}

#[cfg(test)]
mod tests {
    use n0_future::StreamExt;

    use super::*;

    const MAX: usize = 1024 * 1024;

    fn read(parser: &mut Parser, chunk: &[u8]) -> Result<Vec<StreamItem>, RelayError> {
        let mut items = VecDeque::new();
        parser.read(chunk, &mut items)?;
        Ok(items.into())
    }

    #[test]
    fn events_are_read_with_any_line_end_and_in_any_chunks() {
        let stream = "\u{feff}data: {\"body\":\"grüße\"}\n\n: hello\nevent: unknown\nid: 7\n\
                      data:x\nnonsense\n\ndata\n\nevent: unknown\n\n";
        for end in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', end).into_bytes();
            for size in [1, 2, 3, 5, stream.len()] {
                let mut parser = Parser::new(MAX);
                let items: Vec<_> = stream.chunks(size).flat_map(|chunk| read(&mut parser, chunk).unwrap()).collect();
                let [first, StreamItem::Alive, StreamItem::Alive, last] = &items[..] else { panic!("{items:?}") };
                assert!(format!("{first:?}").contains("grüße"), "{first:?}");
                assert!(matches!(last, StreamItem::Malformed(_)), "empty data is an event: {last:?}");
            }
        }
    }

    #[test]
    fn lines_and_events_are_limited_and_comments_are_not() {
        let mut parser = Parser::new(MAX);
        for _ in 0..1_000_000 {
            assert!(read(&mut parser, b": sse-keep-alive\n").is_ok());
        }
        assert!(read(&mut parser, &vec![b'x'; MAX]).is_ok());
        assert!(matches!(read(&mut parser, b"x"), Err(RelayError::TooLarge(MAX))));

        for end in ["\n", "\r\n", "\r"] {
            for field in ["data: ", "id: "] {
                let mut parser = Parser::new(MAX);
                let line = [field.as_bytes(), &[b'x'; 1000], end.as_bytes()].concat();
                let lines = (0..2000).take_while(|_| read(&mut parser, &line).is_ok()).count();
                assert!(lines < MAX / 1000, "{lines} {end:?}");
            }
        }
    }

    #[test]
    fn a_blank_line_ends_an_event_with_any_line_end() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let mut parser = Parser::new(MAX);
            let event = [&[b'x'; 100_000], end.as_bytes()].concat();
            for _ in 0..100 {
                assert!(read(&mut parser, &event).is_ok(), "{end:?}");
            }
        }
    }

    /// A game reads the same from a relay in a browser as it does natively.
    #[tokio::test]
    async fn the_native_parser_reads_the_same_items() {
        let streams = [
            "data: {\"body\":\"grüße\"}\n\n: hello\nevent: unknown\nid: 7\ndata:x\nnonsense\n\ndata\n\n",
            ":\n:\n\nevent: relay_event\ndata: {\"eventType\":\"client_closed\",\ndata: \"body\":{}}\n\n",
            "\u{feff}retry: 5\ndata: {\"body\":\"\"}\n\n\n\ndata: 1\ndata: 2\n\nevent: x",
        ];
        for (stream, end) in streams.iter().flat_map(|stream| ["\n", "\r\n", "\r"].map(|end| (stream, end))) {
            let stream = stream.replace('\n', end).into_bytes();
            for size in [1, 3, stream.len()] {
                let mut parser = Parser::new(MAX);
                let ours: Vec<_> = stream.chunks(size).flat_map(|chunk| read(&mut parser, chunk).unwrap()).collect();
                let chunks = stream.chunks(size).map(bytes::Bytes::copy_from_slice).collect();
                let native: Vec<_> = super::super::native::of_chunks(chunks, MAX)
                    .filter_map(Result::ok)
                    .filter(|item| !matches!(item, StreamItem::Open))
                    .collect()
                    .await;
                assert_eq!(format!("{ours:?}"), format!("{native:?}"), "{:?}", String::from_utf8(stream));
            }
        }
    }

    #[test]
    fn items_before_an_error_are_read() {
        let mut items = VecDeque::new();
        let error = Parser::new(MAX).read(b": hello\ndata: \xff\n", &mut items);
        assert_eq!(error, Err(RelayError::NotARelay("its event stream")));
        assert!(matches!(items.make_contiguous(), [StreamItem::Alive]));
    }
}
