//! A relay on loopback, and a minimal HTTP client that exposes every byte.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use uhst_relay::{RelayConfig, RelayServer};
use url::Url;

pub const SECRET: &str = "a secret of the tests";
pub const JSON: &str = "Content-Type: application/json";

/// No operation on loopback takes longer. A test that waits for so long fails.
const SOON: Duration = Duration::from_secs(5);

/// The behaviour of the original relay: no hold. The keep-alive interval is so long that no comment appears.
pub fn config() -> RelayConfig {
    RelayConfig {
        bind: ([127, 0, 0, 1], 0).into(),
        port_attempts: 1,
        secret: Some(SECRET.to_owned()),
        hold: Duration::ZERO,
        keep_alive: Duration::from_secs(3600),
        ..RelayConfig::default()
    }
}

pub async fn start() -> RelayServer {
    RelayServer::start(config()).await.unwrap()
}

/// Serves a list of public relays in which `relay` has the prefix `0042` and `other` has `1`. Returns its URL.
pub async fn list_of_relays() -> Url {
    let list = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/list.json", list.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = list.accept().await {
            let mut wire = Wire::accepted(stream);
            let json = r#"[{"urls":["https://other/"],"prefix":"1"},{"urls":["https://relay/"],"prefix":"0042"}]"#;
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", json.len());
            if wire.asked().await.is_some() {
                wire.write(head + json).await;
            }
        }
    });
    url.parse().unwrap()
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A connection, and the bytes that were received but not yet consumed.
pub struct Wire {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    pub async fn open(relay: SocketAddr) -> Self {
        Wire { stream: TcpStream::connect(relay).await.unwrap(), received: Vec::new() }
    }

    /// Wraps a connection that another peer opened.
    pub fn accepted(stream: TcpStream) -> Self {
        Wire { stream, received: Vec::new() }
    }

    /// Reads a request on the server's side. Returns `None` when the client has closed the connection.
    pub async fn asked(&mut self) -> Option<Answer> {
        while !self.received.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if !self.more().await {
                return None;
            }
        }
        let head = String::from_utf8(self.until(b"\r\n\r\n").await).unwrap();
        let mut asked = Answer { status: 0, head, body: Vec::new() };
        let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
        asked.body = self.exactly(length).await;
        Some(asked)
    }

    /// Opens a connection with a small receive buffer.
    pub async fn open_small(relay: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Wire { stream: socket.connect(relay).await.unwrap(), received: Vec::new() }
    }

    /// Opens a connection from another address of this machine.
    pub async fn open_from(relay: SocketAddr, address: [u8; 4]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        Wire { stream: socket.connect(relay).await.unwrap(), received: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more bytes. Returns `false` at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(SOON, self.stream.read_buf(&mut self.received)).await.expect("something is received");
        read.is_ok_and(|length| length > 0)
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|bytes| bytes == end) {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(self.more().await, "the relay closed after {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.more().await, "the relay closed");
        }
        self.received.drain(..length).collect()
    }

    /// Reads the head of a response.
    pub async fn head(&mut self) -> Answer {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, body: Vec::new() }
    }

    /// Reads a whole response with a `Content-Length`.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = self.exactly(length).await;
        answer
    }

    /// Sends a request and reads the response.
    pub async fn request(&mut self, method: &str, target: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        self.write(request(method, target, headers, body)).await;
        self.answer().await
    }

    /// Reads the next chunk of a chunked body.
    async fn chunk(&mut self) -> Vec<u8> {
        let size = String::from_utf8(self.until(b"\r\n").await).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = self.exactly(size + 2).await;
        chunk.truncate(size);
        chunk
    }

    /// Returns whether the connection ends, in any way, without further data.
    pub async fn ends(&mut self) -> bool {
        self.received.is_empty() && !self.more().await
    }
}

/// Builds the bytes of a request.
pub fn request(method: &str, target: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: relay\r\n");
    headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    if method == "POST" && !headers.iter().any(|header| header.starts_with("Transfer-Encoding")) {
        head += &format!("Content-Length: {}\r\n", body.as_ref().len());
    }
    [head.as_bytes(), b"\r\n", body.as_ref()].concat()
}

/// Sends one request on a new connection.
pub async fn ask(relay: &RelayServer, method: &str, target: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
    Wire::open(relay.local_addr()).await.request(method, target, headers, body).await
}

/// Sends a POST without a body. Returns the status and text of the response.
pub async fn post(relay: &RelayServer, target: &str) -> (u16, String) {
    let answer = ask(relay, "POST", target, &[], "").await;
    (answer.status, answer.text().to_owned())
}

/// Sends a message. Returns the status and text of the response.
pub async fn send(relay: &RelayServer, token: &str, body: &str) -> (u16, String) {
    let answer = ask(relay, "POST", &format!("/?token={token}"), &[JSON], body).await;
    (answer.status, answer.text().to_owned())
}

pub async fn host_token(relay: &RelayServer, id: &str) -> String {
    let answer = ask(relay, "POST", &format!("/?action=host&hostId={id}"), &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["hostToken"].as_str().unwrap().to_owned()
}

pub async fn client_token(relay: &RelayServer, id: &str) -> String {
    let answer = ask(relay, "POST", &format!("/?action=join&hostId={id}"), &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["clientToken"].as_str().unwrap().to_owned()
}

/// Starts a host that listens. Returns its stream and its token.
pub async fn host(relay: &RelayServer, id: &str) -> (Events, String) {
    let token = host_token(relay, id).await;
    (Events::open(relay, &token).await, token)
}

/// Starts a client that listens. Returns its stream, its token and its id.
pub async fn client(relay: &RelayServer, id: &str) -> (Events, String, String) {
    let token = client_token(relay, id).await;
    let client_id = uhst_proto::protocol::peek_token(&token).unwrap().client_id.unwrap();
    (Events::open(relay, &token).await, token, client_id)
}

/// Starts a client that listens and never reads, and fills the system's buffers until the relay keeps `kept` bytes.
/// Returns its stream and the response token for its host.
pub async fn stalled_client(relay: &RelayServer, host: &mut Events, kept: usize) -> (Events, String) {
    let token = client_token(relay, "demo").await;
    let wire = Wire::open_small(relay.local_addr()).await;
    let stream = Events::open_on(wire, &format!("/?token={token}")).await;
    assert_eq!(send(relay, &token, "[]").await.0, 200);
    let (response, _) = host.message().await;
    let large = format!("[\"{}\"]", "x".repeat(20_000));
    while metric(relay, "uhst_relay_kept_bytes").await < kept as f64 {
        assert_eq!(send(relay, &response, &large).await.0, 200);
        // The message may still be written to the socket.
        sleep(Duration::from_millis(5)).await;
    }
    (stream, response)
}

/// Returns the value of a metric.
pub async fn metric(relay: &RelayServer, line: &str) -> f64 {
    let metrics = ask(relay, "GET", "/metrics", &[], "").await;
    let found = metrics.text().lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("{line} in\n{}", metrics.text()))
}

/// Returns the status of an attempt to listen.
pub async fn listen_status(relay: &RelayServer, token: &str) -> u16 {
    let mut wire = Wire::open(relay.local_addr()).await;
    wire.write(request("GET", &format!("/?token={token}"), &[], "")).await;
    wire.head().await.status
}

/// An event stream after its `: Connected.` comment.
pub struct Events {
    pub wire: Wire,
    pub head: Answer,
    text: String,
}

impl Events {
    pub async fn open(relay: &RelayServer, token: &str) -> Self {
        Self::open_on(Wire::open(relay.local_addr()).await, &format!("/?token={token}")).await
    }

    pub async fn open_on(mut wire: Wire, target: &str) -> Self {
        wire.write(request("GET", target, &[], "")).await;
        let head = wire.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        let mut events = Events { wire, head, text: String::new() };
        events.expect(": Connected.\n").await;
        events
    }

    /// Asserts that the next bytes are exactly these.
    #[track_caller]
    pub fn expect(&mut self, expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            while self.text.len() < expected.len() {
                let chunk = self.wire.chunk().await;
                assert!(!chunk.is_empty(), "{caller}: the stream ended, waiting for {expected:?}");
                self.text += std::str::from_utf8(&chunk).unwrap();
            }
            assert!(self.text.starts_with(expected), "{caller}: {:?} instead of {expected:?}", self.text);
            self.text.drain(..expected.len());
        }
    }

    /// Reads the next line without its line break.
    pub async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.text.find('\n') {
                let line = self.text.drain(..=end).collect::<String>();
                return line.trim_end_matches('\n').to_owned();
            }
            let chunk = self.wire.chunk().await;
            assert!(!chunk.is_empty(), "the stream ended");
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// Reads a message to the host. Returns the response token and the text of the body.
    pub async fn message(&mut self) -> (String, String) {
        let line = self.line().await;
        self.expect("\n").await;
        let rest = line.strip_prefix("data: {\"responseToken\":\"").unwrap_or_else(|| panic!("{line}"));
        let (token, body) = rest.split_once("\",\"body\":").unwrap();
        (token.to_owned(), body.strip_suffix('}').unwrap().to_owned())
    }

    /// Asserts that the stream ends, gracefully or not, without further data.
    pub async fn expect_cut(&mut self) {
        assert_eq!(self.text, "");
        while self.wire.more().await {}
        assert!(matches!(&self.wire.received[..], b"" | b"0\r\n\r\n"));
    }

    /// Asserts that the stream ends gracefully, with the last chunk and without further data.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.text, "");
        assert_eq!(self.wire.chunk().await, b"");
    }
}

/// Returns a token with these parts, signed with the tests' secret.
pub fn signed(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(&signed);
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Returns the claims of a token as the original has them, without the random `jti` that comes last.
pub fn original_claims(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let claims = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let (original, random) = claims.rsplit_once(",\"jti\":\"").unwrap();
    assert!(random.len() >= 16 + 2, "{random}");
    format!("{original}}}")
}
