//! A peer of the original protocol on the relay transport. It uses nothing of this crate and follows the observed traffic
//! of the originals: raw HTTP over a socket, one POST for each message, and an event stream that is read byte by byte.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// Sends one HTTP request with `Connection: close`, and returns the status and the body.
pub fn request(relay: &str, method: &str, query: &str, json: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(relay).unwrap();
    let body = json.unwrap_or_default();
    let kind = if json.is_some() { "Content-Type: application/json\r\n" } else { "" };
    write!(
        stream,
        "{method} /?{query} HTTP/1.1\r\nHost: {relay}\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let (status, head) = read_head(&mut reader);
    let mut body = String::new();
    match head.iter().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => {
            let mut bytes = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes).unwrap();
        }
        None => {
            let _ = reader.read_to_string(&mut body);
        }
    }
    (status, body)
}

fn read_head(reader: &mut impl BufRead) -> (u16, Vec<String>) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    (status, lines)
}

/// An event on the stream of an original.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// The stream is open.
    Open,
    /// A message: the token for a response, and the body.
    Message { response_token: Option<String>, body: Value },
    /// `client_closed` or `host_closed`, with the id.
    Relay(String, String),
    /// The stream broke.
    Closed,
}

/// An original host or client that listens.
pub struct Original {
    relay: String,
    pub token: String,
    pub host_id: String,
    heard: Receiver<Heard>,
    stream: Option<TcpStream>,
}

impl Original {
    /// Hosts under this id, as `new UHST(…).host(id)` does.
    pub fn host(relay: &str, id: &str) -> Self {
        let (status, reply) = request(relay, "POST", &format!("action=host&hostId={id}"), None);
        assert_eq!(status, 200, "{reply}");
        let reply: Value = serde_json::from_str(&reply).unwrap();
        let text = |name: &str| reply[name].as_str().unwrap().to_owned();
        Self::listen(relay, text("hostToken"), text("hostId"))
    }

    /// Joins this id, as `uhst.join(id)` does.
    pub fn join(relay: &str, id: &str) -> Self {
        let (status, reply) = request(relay, "POST", &format!("action=join&hostId={id}"), None);
        assert_eq!(status, 200, "{reply}");
        let reply: Value = serde_json::from_str(&reply).unwrap();
        Self::listen(relay, reply["clientToken"].as_str().unwrap().to_owned(), id.to_owned())
    }

    fn listen(relay: &str, token: String, host_id: String) -> Self {
        let mut stream = TcpStream::connect(relay).unwrap();
        write!(stream, "GET /?token={token} HTTP/1.1\r\nHost: {relay}\r\nAccept: text/event-stream\r\n\r\n").unwrap();
        let (sender, heard) = channel();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        thread::spawn(move || {
            let (status, head) = read_head(&mut reader);
            assert_eq!(status, 200);
            assert!(head.iter().any(|line| line.starts_with("content-type: text/event-stream")), "{head:?}");
            let _ = sender.send(Heard::Open);
            let mut event = String::new();
            let mut text = String::new();
            while read_chunk(&mut reader, &mut text) {
                while let Some(end) = text.find('\n') {
                    let line: String = text.drain(..=end).collect();
                    let line = line.trim_end();
                    if let Some(name) = line.strip_prefix("event: ") {
                        event = name.to_owned();
                    } else if let Some(data) = line.strip_prefix("data: ") {
                        let data: Value = serde_json::from_str(data).unwrap();
                        let word = |name: &str| data[name].as_str().map(str::to_owned);
                        let heard = if event == "relay_event" {
                            Heard::Relay(word("eventType").unwrap(), word("body").unwrap())
                        } else {
                            Heard::Message { response_token: word("responseToken"), body: data["body"].clone() }
                        };
                        event.clear();
                        let _ = sender.send(heard);
                    }
                }
            }
            let _ = sender.send(Heard::Closed);
        });
        Original { relay: relay.to_owned(), token, host_id, heard, stream: Some(stream) }
    }

    /// Returns the next event within ten seconds.
    pub fn next(&self) -> Heard {
        self.heard.recv_timeout(Duration::from_secs(10)).expect("nothing was heard for ten seconds")
    }

    /// Returns the next event, if there is one within this time.
    pub fn next_within(&self, time: Duration) -> Option<Heard> {
        match self.heard.recv_timeout(time) {
            Ok(heard) => Some(heard),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Heard::Closed),
        }
    }

    /// Returns the response token and the payload of the next message.
    pub fn next_text(&self) -> (Option<String>, String) {
        loop {
            if let Heard::Message { response_token, body } = self.next() {
                assert!(body.get("uhst").is_none() || body["payload"] == "", "{body}");
                return (response_token, body["payload"].as_str().unwrap().to_owned());
            }
        }
    }

    /// Sends a text with this token: the client's own, the host's own (broadcast), or a response token.
    pub fn send(&self, token: &str, text: &str) -> u16 {
        let body = json!({"type": "string", "payload": text}).to_string();
        request(&self.relay, "POST", &format!("token={token}"), Some(&body)).0
    }

    /// Sends any body.
    pub fn send_json(&self, token: &str, body: &str) -> u16 {
        request(&self.relay, "POST", &format!("token={token}"), Some(body)).0
    }

    /// Closes the stream, which is how an original leaves.
    pub fn close(mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Reads one chunk of a chunked body.
fn read_chunk(reader: &mut impl BufRead, text: &mut String) -> bool {
    let mut size = String::new();
    if reader.read_line(&mut size).unwrap_or(0) == 0 {
        return false;
    }
    let Ok(size) = usize::from_str_radix(size.trim(), 16) else { return false };
    let mut bytes = vec![0; size + 2];
    if size == 0 || reader.read_exact(&mut bytes).is_err() {
        return false;
    }
    text.push_str(&String::from_utf8_lossy(&bytes[..size]));
    true
}
