//! The client of one relay: its requests as async calls, over HTTP or in memory.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use n0_future::time::timeout;
use reqwest::{
    Method, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::Semaphore;
use url::Url;

use super::{
    events::EventStream,
    http::{Http, HttpRequest, is_here, read_bounded},
    memory::MemoryRelay,
    place::Place,
    relay_error::RelayError,
};
use crate::protocol::{EndReason, HostReply, JoinReply, PingReply, RelayRequest};

/// The parameter of a relay's own URL that is a secret: with it one may host there.
const KEY: &str = "key";
/// Replies to requests for tokens are small; whoever sends more is not a relay.
const MAX_REPLY: usize = 64 * 1024;
/// A relay that takes longer than this for one request is as good as gone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// POSTs at a time to a relay on this machine. More would be answered no sooner, for there is no way to wait for, and
/// each has a connection, which takes 40 kB of a host with the relay in it.
const POSTS_HERE: usize = 4;
/// How long a POST may have its turn. One that takes longer waits for its receiver, and the others shall not.
const TURN: Duration = Duration::from_millis(20);

/// A token, and where it is used. Its `Debug` hides the token.
#[derive(Clone)]
pub(crate) struct Access {
    /// What the relay gave.
    pub token: Arc<str>,
    /// Where messages are posted: the relay, or the `sendUrl` of its reply.
    pub send_to: Arc<Url>,
    /// Where events are read: the relay, or the `receiveUrl` of its reply.
    pub listen_at: Url,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("send_to", &self.send_to.as_str()).finish_non_exhaustive()
    }
}

/// The answer to a join.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// The client's token.
    pub access: Access,
    /// From a relay of ours, if it knows.
    pub hint: Option<HostHint>,
}

/// How a host speaks, as its relay tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostHint {
    /// The native dialect.
    Native,
    /// The plain one, over the relay.
    Texts,
}

/// One relay. Cheap to clone.
#[derive(Clone)]
pub(crate) enum RelayClient {
    Http {
        http: Http,
        place: Place,
        /// A turn for each POST.
        turns: Arc<Semaphore>,
        /// Whether it takes several messages in one POST, as its last reply said.
        batches: Arc<AtomicBool>,
    },
    Memory(MemoryRelay),
}

impl std::fmt::Debug for RelayClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RelayClient").field(&self.url().as_ref().map(Url::as_str)).finish()
    }
}

/// What one POST carries.
enum Posted {
    One(String),
    All(Vec<String>),
}

impl Posted {
    fn bodies(&self) -> &[String] {
        match self {
            Posted::One(body) => std::slice::from_ref(body),
            Posted::All(bodies) => bodies,
        }
    }
}

impl RelayClient {
    /// The relay at a URL that somebody typed.
    pub fn at(url: &str) -> Result<Self, RelayError> {
        let parsed =
            Url::parse(url).map_err(|error| RelayError::Unreachable(format!("`{url}` is not a URL: {error}")))?;
        Self::http(parsed)
    }

    /// The relay at this URL.
    pub fn http(url: Url) -> Result<Self, RelayError> {
        Self::sharing(Http::default(), url)
    }

    /// The relay at this URL, asked by these HTTP clients.
    pub fn sharing(http: Http, url: Url) -> Result<Self, RelayError> {
        if !matches!(url.scheme(), "http" | "https") {
            let words = format!("`{}` is no URL of a relay: it starts with http or https", shown(&url));
            return Err(RelayError::Unreachable(words));
        }
        let turns = Arc::new(Semaphore::new(if is_here(&url) { POSTS_HERE } else { Semaphore::MAX_PERMITS }));
        Ok(RelayClient::Http { http, place: Place::new(url), turns, batches: Arc::default() })
    }

    /// The URL that join links name: where it is now, without the key to host, which joiners do not need.
    pub fn url(&self) -> Option<Url> {
        match self {
            RelayClient::Http { place, .. } => Some(shown(&place.now())),
            RelayClient::Memory(_) => None,
        }
    }

    /// The reason of a session that ends with this error.
    pub fn unreachable(&self, error: &RelayError) -> EndReason {
        EndReason::RelayUnreachable(match self.url() {
            Some(url) => format!("{url}: {error}"),
            None => error.to_string(),
        })
    }

    /// An address of this machine is gone: connections that are kept for later may be dead and are not used again.
    /// `false`: the relay is on this machine, and cannot be affected.
    pub fn forget_connections(&self) -> bool {
        let RelayClient::Http { http, place, .. } = self else { return false };
        let is_here = is_here(&place.now());
        if !is_here {
            http.forget_connections();
        }
        !is_here
    }

    /// Asks for a token to host, and the id that it is for.
    pub async fn host(&self, id: Option<&str>) -> Result<(String, Access), RelayError> {
        match self {
            RelayClient::Http { http, place, batches, .. } => {
                let (HostReply { host_id, host_token, send_url, receive_url, batch }, at) =
                    ask(http, place, RelayRequest::Host { id }).await?;
                // It is shown to players.
                if host_id.contains(char::is_control) {
                    return Err(RelayError::Nonsense("an id with control characters in it"));
                }
                batches.store(batch, Ordering::Relaxed);
                Ok((host_id, access(&at, host_token, send_url, receive_url)?))
            }
            RelayClient::Memory(memory) => memory.host(id),
        }
    }

    /// Asks for a token to join.
    pub async fn join(&self, id: &str) -> Result<Joined, RelayError> {
        match self {
            RelayClient::Http { http, place, batches, .. } => {
                let (JoinReply { client_token, send_url, receive_url, uhst, batch, texts }, at) =
                    ask(http, place, RelayRequest::Join { id }).await?;
                batches.store(batch, Ordering::Relaxed);
                let hint = uhst.map(|_| HostHint::Native).or(texts.then_some(HostHint::Texts));
                Ok(Joined { access: access(&at, client_token, send_url, receive_url)?, hint })
            }
            RelayClient::Memory(memory) => memory.join(id),
        }
    }

    /// Whether this relay answers pings, as all but relay 2.1.1 and its elders do.
    pub async fn answers_pings(&self) -> bool {
        match self {
            RelayClient::Http { http, place, .. } => {
                ask::<PingReply>(http, place, RelayRequest::Ping { timestamp: 1 }).await.is_ok()
            }
            RelayClient::Memory(_) => true,
        }
    }

    /// Opens the event stream of a token. Errors come through the stream, since relay 2.1.1 is up to 5 s late with
    /// the head of a good answer.
    pub fn listen(&self, access: &Access) -> EventStream {
        match self {
            RelayClient::Http { http, .. } => {
                EventStream::open(http.clone(), RelayRequest::Listen { token: &access.token }.url(&access.listen_at))
            }
            RelayClient::Memory(memory) => memory.listen(&access.token),
        }
    }

    /// Posts one message body. Once it returns `Ok` the relay has written it to the receiver's stream.
    pub async fn send(self, send_to: Arc<Url>, token: Arc<str>, body: String) -> Result<(), RelayError> {
        self.post(send_to, token, Posted::One(body)).await
    }

    /// Whether the relay takes several messages in one POST, see [`send_all`](Self::send_all).
    pub fn batches(&self) -> bool {
        matches!(self, RelayClient::Http { batches, .. } if batches.load(Ordering::Relaxed))
    }

    /// Posts several message bodies, in their order: all of them arrive, or none does.
    pub async fn send_all(self, send_to: Arc<Url>, token: Arc<str>, bodies: Vec<String>) -> Result<(), RelayError> {
        self.post(send_to, token, Posted::All(bodies)).await
    }

    async fn post(self, send_to: Arc<Url>, token: Arc<str>, posted: Posted) -> Result<(), RelayError> {
        match self {
            RelayClient::Http { http, turns, .. } => {
                let turn = turns.acquire().await;
                let (url, body) = match posted {
                    Posted::One(body) => (RelayRequest::Send { token: &token }.url(&send_to), body),
                    Posted::All(bodies) => {
                        (RelayRequest::SendAll { token: &token }.url(&send_to), format!("[{}]", bodies.join(",")))
                    }
                };
                let request = HttpRequest::new(Method::POST, url).header(CONTENT_TYPE, "application/json");
                let request = HttpRequest { body: Some(body.into()), timeout: Some(REQUEST_TIMEOUT), ..request };
                let mut answer = pin!(async { delivered(http.send(request).await?).await });
                match timeout(TURN, &mut answer).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        drop(turn);
                        answer.await
                    }
                }
            }
            RelayClient::Memory(memory) => {
                for body in posted.bodies() {
                    memory.send(&token, body).await?;
                }
                Ok(())
            }
        }
    }

    /// Lets a host id go, so that others may have it at once. Only relays of ours know this; nothing depends on it.
    pub async fn release(&self, access: &Access) {
        if let RelayClient::Http { http, .. } = self {
            let url = RelayRequest::Release { token: &access.token }.url(&access.listen_at);
            let request = HttpRequest::new(Method::DELETE, url);
            let _ = http.send(HttpRequest { timeout: Some(Duration::from_millis(300)), ..request }).await;
        }
    }
}

/// A relay's URL without what nobody may learn from an error: the key with which the game of this process hosts.
fn shown(url: &Url) -> Url {
    let mut shown = url.clone();
    let kept: Vec<_> = url.query_pairs().filter(|(name, _)| name != KEY).collect();
    shown.set_query(None);
    if !kept.is_empty() {
        shown.query_pairs_mut().extend_pairs(kept);
    }
    shown
}

fn access(
    relay: &Url,
    token: String,
    send_url: Option<String>,
    receive_url: Option<String>,
) -> Result<Access, RelayError> {
    let at = |url: Option<String>| match url {
        None => Ok(relay.clone()),
        // Else a link to a hostile relay makes its reader post to any machine of the reader's own network. Those that
        // have a certificate expect requests from everywhere.
        Some(text) => relay
            .join(&text)
            .ok()
            .filter(|url| url.origin() == relay.origin() || url.scheme() == "https")
            .ok_or(RelayError::Nonsense("a reply that names another place, without https,")),
    };
    Ok(Access { token: token.into(), send_to: at(send_url)?.into(), listen_at: at(receive_url)? })
}

/// Asks the relay where it is now, or else, if that one is gone, where it was found. Also says where it is: its tokens are
/// for that place.
async fn ask<T: DeserializeOwned>(
    http: &Http,
    place: &Place,
    request: RelayRequest<'_>,
) -> Result<(T, Url), RelayError> {
    let now = place.now();
    let answer = match ask_at(http, &now, request).await {
        Err(error) if error.is_gone() && now != *place.home() => {
            ask_at(http, place.home(), request).await.map_err(|_| error)
        }
        answer => answer,
    };
    answer.inspect(|(_, at)| place.answered_at(at))
}

/// Posts a request without a body, and reads its JSON answer.
async fn ask_at<T: DeserializeOwned>(
    http: &Http,
    relay: &Url,
    request: RelayRequest<'_>,
) -> Result<(T, Url), RelayError> {
    let url = request.url(relay);
    // The key to host, if there is one, is for this server alone.
    let secret = relay.query_pairs().any(|(name, _)| name == KEY);
    let request = HttpRequest::new(Method::POST, url.clone()).header(CONTENT_LENGTH, "0");
    let response = http.send(HttpRequest { timeout: Some(REQUEST_TIMEOUT), secret, ..request }).await?;
    let at = match response.url() {
        same if *same == url => relay.clone(),
        moved => RelayRequest::without_query(moved),
    };
    let body = read_bounded(response, MAX_REPLY).await?;
    Ok((serde_json::from_slice(&body).map_err(|_| RelayError::Nonsense("its answer"))?, at))
}

/// Whether a success is that of a relay. A page on which to log in, say, comes with a 200, too.
async fn delivered(answer: Response) -> Result<(), RelayError> {
    let body = read_bounded(answer, MAX_REPLY).await?;
    let body = body.trim_ascii();
    // Relay 2.1.1 answers `OK` instead of `{}`.
    let is_relays = body == b"OK" || body.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok();
    if is_relays { Ok(()) } else { Err(RelayError::Nonsense("its answer to a message")) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    use futures_util::future::{Either, select, select_all};

    use super::*;

    /// A relay that answers the first request of each connection, keeps it alive, and hangs up at the second one:
    /// what a client meets when the relay closes an idle connection just as it is used again.
    fn forgetful_relay(reply: impl Into<String>) -> (Url, mpsc::Receiver<String>) {
        let reply = reply.into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut writer = stream.unwrap();
                let mut reader = BufReader::new(writer.try_clone().unwrap());
                for answered in [true, false] {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                    let length = head.to_ascii_lowercase().lines().find_map(|line| {
                        line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
                    });
                    let _ = std::io::Read::read_exact(&mut reader, &mut vec![0; length.unwrap_or(0)]);
                    if answered {
                        sender.send(head.lines().next().unwrap_or_default().to_owned()).unwrap();
                        let _ = write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{reply}", reply.len());
                    }
                }
            }
        });
        (url, requests)
    }

    #[tokio::test]
    async fn a_connection_that_the_relay_has_closed_is_retried() {
        let (url, requests) = forgetful_relay(r#"{"hostId":"a b","hostToken":"t"}"#);
        let relay = RelayClient::http(url.clone()).unwrap();
        for _ in 0..4 {
            let (id, access) = relay.host(Some("a b")).await.unwrap();
            assert_eq!((id.as_str(), &*access.token), ("a b", "t"));
            relay.clone().send(url.clone().into(), "t".into(), "{}".to_owned()).await.unwrap();
        }
        // Each request was answered once.
        assert_eq!(requests.try_iter().count(), 8);
    }

    #[tokio::test]
    async fn a_receiver_that_takes_nothing_holds_up_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Arc::new(Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap());
        let answer = |mut stream: TcpStream| {
            let mut request = String::new();
            let _ = BufReader::new(&stream).read_line(&mut request);
            if request.contains("token=asleep") {
                thread::park();
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        };
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || answer(stream))))
        });
        let relay = RelayClient::http((*url).clone()).unwrap();
        let post = |token: &str| relay.clone().send(url.clone(), token.into(), "{}".to_owned());
        let asleep = select_all((0..3 * POSTS_HERE).map(|_| Box::pin(post("asleep"))));
        let awake = pin!(async {
            // Behind all the others.
            tokio::task::yield_now().await;
            post("awake").await
        });
        match select(asleep, awake).await {
            Either::Left(_) => panic!("a POST that is not answered was"),
            Either::Right((answer, _)) => answer.unwrap(),
        }
    }

    #[tokio::test]
    async fn ids_are_percent_encoded() {
        let (url, requests) = forgetful_relay(r#"{"clientToken":"t"}"#);
        let relay = RelayClient::http(url).unwrap();
        relay.join("a b+c&d=e#f%20g/größe 🎲").await.unwrap();
        assert_eq!(
            requests.recv().unwrap(),
            "POST /?action=join&hostId=a+b%2Bc%26d%3De%23f%2520g%2Fgr%C3%B6%C3%9Fe+%F0%9F%8E%B2&uhst=1 HTTP/1.1"
        );
    }

    #[test]
    fn no_error_shows_the_key_to_host() {
        let gone = RelayError::Unreachable("gone".to_owned());
        for (url, is_shown) in [
            ("http://127.0.0.1:3000/?key=secret", "http://127.0.0.1:3000/"),
            ("http://relay/?region=eu&key=secret", "http://relay/?region=eu"),
        ] {
            let relay = RelayClient::http(Url::parse(url).unwrap()).unwrap();
            let reason = relay.unreachable(&gone).to_string();
            assert!(reason.contains(&format!("{is_shown}: ")) && !reason.contains("secret"), "{reason}");
        }
    }

    #[tokio::test]
    async fn an_id_that_would_move_a_cursor_is_none() {
        let (url, _requests) = forgetful_relay(r#"{"hostId":"a\u001b[2Jb","hostToken":"t"}"#);
        let hosted = RelayClient::http(url).unwrap().host(None).await;
        assert!(matches!(hosted, Err(RelayError::Nonsense(_))), "{hosted:?}");
    }

    #[tokio::test]
    async fn messages_go_where_the_reply_says() {
        let reply = r#"{"clientToken":"t","sendUrl":"https://send.example/path","receiveUrl":"/events"}"#;
        let (url, _requests) = forgetful_relay(reply);
        let joined = RelayClient::http(url.clone()).unwrap().join("x").await.unwrap();
        assert_eq!(joined.access.send_to.as_str(), "https://send.example/path");
        assert_eq!(joined.access.listen_at, url.join("/events").unwrap());
    }

    #[tokio::test]
    async fn a_reply_cannot_send_us_to_other_machines_of_the_network() {
        for place in ["http://192.168.1.1/", "http://127.0.0.1:1/", "//10.0.0.1/", "file:///etc/passwd"] {
            for member in ["sendUrl", "receiveUrl"] {
                let (url, _requests) = forgetful_relay(format!(r#"{{"clientToken":"t","{member}":"{place}"}}"#));
                let joined = RelayClient::http(url).unwrap().join("x").await;
                assert!(matches!(joined, Err(RelayError::Nonsense(_))), "{member} {place}: {joined:?}");
            }
        }
    }
}
