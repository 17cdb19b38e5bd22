//! Peers that cost little: prepared requests on raw sockets, so that the load uses less CPU time than the relay.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::report::Outcome;

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A keep-alive connection. Each request waits for its answer.
pub struct Lane {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Lane {
    pub async fn open(relay: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(relay).await?;
        stream.set_nodelay(true)?;
        Ok(Lane { stream, buffer: Vec::with_capacity(8192) })
    }

    /// Sends a request, and returns the text of its answer, whose status must be 200.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<&str> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = find(&self.buffer, b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..head]).map_err(|_| broken("a head that is no text"))?;
            if text.get(9..12) != Some("200") {
                return Err(broken(format!("refused: {text}")));
            }
            let length = text
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, length)| length.parse::<usize>().ok())
                .ok_or_else(|| broken("an answer without a length"))?;
            let (start, end) = (head + 4, head + 4 + length);
            while self.buffer.len() < end {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return std::str::from_utf8(&self.buffer[start..end]).map_err(|_| broken("an answer that is no text"));
        }
    }
}

/// Builds the bytes of a POST, without the headers that relays ignore.
pub fn post(query: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    format!("POST /?{query} HTTP/1.1\r\nHost: relay\r\n{kind}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Returns the text after `"name":"` up to the next quote.
pub fn field<'a>(json: &'a str, name: &str) -> Outcome<&'a str> {
    let start = json.find(&format!("\"{name}\":\"")).ok_or_else(|| format!("no {name} in {json}"))? + name.len() + 4;
    let text = &json[start..];
    Ok(&text[..text.find('"').ok_or("an open string")?])
}

/// An event stream.
pub struct Events {
    stream: TcpStream,
    /// The bytes that are received and not parsed.
    received: Vec<u8>,
    /// The rest of the current chunk in bytes, with its line end.
    chunk: usize,
    /// The incomplete line at the end.
    line: Vec<u8>,
}

impl Events {
    /// Opens a stream, and returns once the relay has answered.
    pub async fn open(relay: SocketAddr, token: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(relay).await?;
        let request = format!("GET /?token={token} HTTP/1.1\r\nHost: relay\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut received = Vec::with_capacity(1024);
        let end = loop {
            if stream.read_buf(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = find(&received, b"\r\n\r\n") {
                break end + 4;
            }
        };
        if received.get(9..12) != Some(b"200") {
            return Err(broken(String::from_utf8_lossy(&received).into_owned()));
        }
        received.drain(..end);
        let mut events = Events { stream, received, chunk: 0, line: Vec::new() };
        events.digest(|_| {})?;
        Ok(events)
    }

    /// Waits for bytes, and passes on the text of each message in them.
    pub async fn read(&mut self, message: impl FnMut(&str)) -> io::Result<()> {
        if self.received.capacity() < 16 * 1024 {
            self.received.reserve(16 * 1024);
        }
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.digest(message)
    }

    fn digest(&mut self, mut message: impl FnMut(&str)) -> io::Result<()> {
        let mut at = 0;
        loop {
            if self.chunk == 0 {
                let Some(end) = find(&self.received[at..], b"\r\n") else { break };
                let size = std::str::from_utf8(&self.received[at..at + end])
                    .ok()
                    .and_then(|size| usize::from_str_radix(size, 16).ok());
                self.chunk = size.filter(|size| *size > 0).ok_or_else(|| broken("the stream ended"))? + 2;
                at += end + 2;
            }
            let rest = &self.received[at..];
            let taken = rest.len().min(self.chunk);
            // The line end after a chunk is not part of its data.
            let data = &rest[..taken.min(self.chunk.saturating_sub(2))];
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(part);
                if !part.ends_with(b"\n") {
                    break;
                }
                if let Some(text) = self.line.strip_prefix(b"data: ") {
                    message(std::str::from_utf8(text).map_err(|_| broken("an event that is no text"))?);
                }
                self.line.clear();
            }
            self.chunk -= taken;
            at += taken;
            if taken == 0 {
                break;
            }
        }
        self.received.drain(..at);
        Ok(())
    }
}
