//! From a request to its answer: the one path `/`, with everything in the query.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Version,
    body::Incoming,
    header::{ACCEPT, HOST},
};
use tokio::{sync::Notify, time::timeout};

use super::{
    RelayConfig,
    answer::{self, Answer},
    body::{self, Message},
    directory::Directory,
    frame::Frame,
    listener::{Listener, NotSent},
    metrics::Metrics,
    number::{parse_int, write_number},
    query::{Param, Query},
    rooms::{Audience, NotListening, Rooms, reply},
    stream::{Greeting, Seat},
    tokens::{BadToken, Bearer, Tokens, Verified, signature},
    turns::Turns,
};
use crate::protocol::{HostReply, JoinReply, NativeHint, TokenKind, WebFile};

/// How long a request body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What all connections of a relay share.
pub(super) struct Service {
    pub(super) config: RelayConfig,
    pub(super) tokens: Tokens,
    pub(super) rooms: Arc<Rooms>,
    pub(super) turns: Arc<Turns>,
    pub(super) metrics: Arc<Metrics>,
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    directory: Option<Directory>,
}

/// The connection a request came on.
pub(super) struct Caller {
    pub(super) address: IpAddr,
    /// Ends the connection.
    pub(super) kill: Arc<Notify>,
    /// A stream that has begun on this connection.
    begun: Mutex<Option<Seat>>,
}

impl Caller {
    pub(super) fn new(address: IpAddr) -> Arc<Self> {
        Arc::new(Caller { address, kill: Arc::default(), begun: Mutex::default() })
    }

    fn begun(&self) -> MutexGuard<'_, Option<Seat>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the connection is this one's stream.
    pub(super) fn hand_over(&self, seat: Seat) {
        *self.begun() = Some(seat);
    }

    pub(super) fn take_over(&self) -> Option<Seat> {
        self.begun().take()
    }
}

impl Service {
    pub(super) fn new(config: RelayConfig, secret: &[u8]) -> Self {
        let metrics = Arc::new(Metrics::new());
        Service {
            tokens: Tokens::new(secret),
            rooms: Arc::new(Rooms::new(config.limits.clone(), config.hold, metrics.clone())),
            turns: Arc::default(),
            metrics,
            limiter: config.limits.requests_per_second.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
            directory: config.directory.clone().map(Directory::new),
            config,
        }
    }

    /// Forgets the addresses that have been quiet.
    pub(super) fn tidy(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
        let answer = self.route(caller, request).await;
        self.metrics.answered(answer.status().as_u16());
        answer
    }

    async fn route(&self, caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check_key(&network(caller.address)).is_err()) {
            return answer::plain(StatusCode::TOO_MANY_REQUESTS);
        }
        let (head, content) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        match (&head.method, head.uri.path()) {
            (&Method::OPTIONS, _) => answer::preflight(&head.headers),
            (&Method::POST, "/") => match self.read(&head.headers, content).await {
                Ok(message) => self.post(&query, &head.headers, &message).await,
                Err(status) => answer::bad_body(status),
            },
            (&Method::GET, "/") => match self.web_file("/") {
                Some(page) if is_visit(&query, &head.headers) => answer::file(page),
                _ => self.listen(&query, head.version, caller),
            },
            (&Method::DELETE, "/") if query.token != Param::Missing => self.release(&query),
            (&Method::GET, "/health") => answer::json_text(r#"{"status":"ok"}"#),
            (&Method::GET, "/metrics") => answer::prometheus(self.metrics.render()),
            (method, path) => match self.web_file(path) {
                Some(page) if method == Method::GET => answer::file(page),
                _ => answer::not_found(method, path),
            },
        }
    }

    fn web_file(&self, path: &str) -> Option<&WebFile> {
        self.config.web_files.iter().find(|page| page.path == path)
    }

    async fn read(&self, headers: &HeaderMap, content: Incoming) -> Result<Message, StatusCode> {
        let reading = body::read(headers, content, self.config.limits.body_bytes);
        timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
    }

    async fn post(&self, query: &Query<'_>, headers: &HeaderMap, message: &Message) -> Answer {
        let answered = match query.action.text() {
            Some("host") => self.host(query, headers).await,
            Some("join") => self.join(query),
            Some("ping") => self.ping(query, headers).await,
            _ => match self.bearer(query) {
                Ok(sender) => return self.send(&sender, message).await,
                Err(status) => answer::plain(status),
            },
        };
        // The original parses a body before it looks at anything else.
        match message.write(&mut Vec::new()) {
            Ok(()) => answered,
            Err(status) => answer::bad_body(status),
        }
    }

    fn bearer(&self, query: &Query) -> Result<Arc<Verified>, StatusCode> {
        let token = query.token.text().ok_or(StatusCode::UNAUTHORIZED)?;
        self.tokens.verify(token).map_err(|error| match error {
            BadToken::Unauthorized => StatusCode::UNAUTHORIZED,
            BadToken::Unknown => StatusCode::BAD_REQUEST,
        })
    }

    /// The prefix of a public relay, which the original looks up on the first host or ping request.
    async fn prefix(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        self.directory.as_ref()?.prefix(host).await
    }

    async fn host(&self, query: &Query<'_>, headers: &HeaderMap) -> Answer {
        let prefix = self.prefix(headers).await;
        let host_id = match &query.host_id {
            Param::One(id) if !id.is_empty() => {
                if self.rooms.is_taken(id) {
                    return answer::plain(StatusCode::BAD_REQUEST);
                }
                id.to_string()
            }
            Param::Many => return answer::plain(StatusCode::BAD_REQUEST),
            _ => match self.free_id(prefix.as_deref()) {
                Some(id) => id,
                None => return answer::plain(StatusCode::SERVICE_UNAVAILABLE),
            },
        };
        let host_token = self.tokens.issue(TokenKind::HostToken, &host_id, None);
        answer::json(&HostReply { host_id, host_token, send_url: None, receive_url: None })
    }

    /// Six random digits that are not in use; on a public relay its prefix and four.
    fn free_id(&self, prefix: Option<&str>) -> Option<String> {
        let digits = if self.directory.is_some() { 4 } else { 6 };
        let mut ids = std::iter::repeat_with(|| {
            let number = uuid::Uuid::new_v4().as_u128() as u32 % 10_u32.pow(digits);
            let width = digits as usize;
            match prefix {
                Some(prefix) => format!("{prefix}-{number:0width$}"),
                None => format!("{number:0width$}"),
            }
        });
        // Bounded, should all of them be in use.
        ids.by_ref().take(1000).find(|id| !self.rooms.is_taken(id))
    }

    fn join(&self, query: &Query) -> Answer {
        let host_id = query.host_id.text().unwrap_or_default();
        let Some(dialect) = self.rooms.host_dialect(host_id) else {
            return answer::plain(StatusCode::BAD_REQUEST);
        };
        let client_id = uuid::Uuid::new_v4().to_string();
        let client_token = self.tokens.issue(TokenKind::ClientToken, host_id, Some(&client_id));
        let uhst = dialect.map(|v| NativeHint { v });
        answer::json(&JoinReply { client_token, send_url: None, receive_url: None, uhst })
    }

    async fn ping(&self, query: &Query<'_>, headers: &HeaderMap) -> Answer {
        self.prefix(headers).await;
        let mut pong = String::from(r#"{"pong":"#);
        write_number(query.timestamp.text().map_or(f64::NAN, parse_int), &mut pong);
        pong.push('}');
        answer::json_text(pong)
    }

    fn listen(&self, query: &Query, version: Version, caller: &Arc<Caller>) -> Answer {
        let bearer = match self.bearer(query) {
            Ok(bearer) => bearer,
            Err(StatusCode::BAD_REQUEST) => return answer::no_events(StatusCode::BAD_REQUEST),
            Err(status) => return answer::plain(status),
        };
        let listener = |host: &Arc<str>, client: Option<&Arc<str>>| {
            let (chunked, capacity) = (version >= Version::HTTP_11, self.config.limits.queue_bytes);
            let (turns, kill) = (self.turns.clone(), caller.kill.clone());
            Listener::new(host.clone(), client.cloned(), chunked, capacity, turns, kill)
        };
        let seated = match &bearer.bearer {
            Bearer::Host { host } => {
                let listener = listener(host, None);
                let native = query.uhst.text().and_then(|version| version.parse().ok());
                let token = signature(query.token.text().unwrap_or_default());
                self.rooms.listen_as_host(&listener, token, native).map(|()| listener)
            }
            Bearer::Client { host, client } => {
                let listener = listener(host, Some(client));
                self.rooms.listen_as_client(&listener, client).map(|()| listener)
            }
            Bearer::Response { .. } => Err(NotListening::Refused),
        };
        match seated {
            Ok(listener) => {
                tracing::debug!(host = %listener.host, client = ?listener.client, "listening");
                let seat = Seat::new(listener, self.rooms.clone(), self.config.keep_alive);
                answer::events(Greeting::new(caller.clone(), seat))
            }
            Err(NotListening::Refused) => answer::no_events(StatusCode::BAD_REQUEST),
            Err(NotListening::Full) => answer::no_events(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Beyond the original: a host that leaves for good gives its id free.
    fn release(&self, query: &Query) -> Answer {
        match self.bearer(query).as_deref() {
            Ok(Verified { bearer: Bearer::Host { host }, .. })
                if self.rooms.release(host, signature(query.token.text().unwrap_or_default())) =>
            {
                answer::json_text("{}")
            }
            Ok(_) => answer::plain(StatusCode::BAD_REQUEST),
            Err(status) => answer::plain(*status),
        }
    }

    async fn send(&self, sender: &Verified, message: &Message) -> Answer {
        let frame = match &sender.bearer {
            Bearer::Client { host, client } => {
                let token = self.tokens.respond(sender, host, client);
                frame(&["data: {\"responseToken\":\"", &token, "\",\"body\":"], message)
            }
            _ => frame(&["data: {\"body\":"], message),
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(status) => return answer::bad_body(status),
        };
        let listener = match &sender.bearer {
            Bearer::Client { host, .. } => self.rooms.host(host),
            Bearer::Response { host, client } => self.rooms.client(host, client),
            Bearer::Host { host } => {
                return match self.rooms.audience(host) {
                    Some(audience) => self.broadcast(&audience, &frame),
                    None => answer::plain(StatusCode::BAD_REQUEST),
                };
            }
        };
        let Some(listener) = listener else { return answer::plain(StatusCode::BAD_REQUEST) };
        let bytes = frame.len();
        match listener.send(&frame, self.config.patience).await {
            Ok(()) => {
                self.metrics.delivered(bytes, 1);
                answer::json_text("{}")
            }
            Err(NotSent::Crowded) => answer::plain(StatusCode::TOO_MANY_REQUESTS),
            Err(NotSent::Full) => {
                self.drop_listener(&listener);
                answer::plain(StatusCode::BAD_REQUEST)
            }
            Err(NotSent::Gone) => answer::plain(StatusCode::BAD_REQUEST),
        }
    }

    /// Never waits: who is behind by a whole queue is dropped. The reply names those who were reached.
    fn broadcast(&self, audience: &Audience, frame: &Frame) -> Answer {
        let mut missed = Vec::new();
        for (place, listener) in audience.listeners.iter().enumerate() {
            match listener.push(frame) {
                Ok(()) => {}
                Err(error) => {
                    missed.push(place);
                    if error == NotSent::Full {
                        self.drop_listener(listener);
                    }
                }
            }
        }
        self.metrics.delivered(frame.len(), audience.listeners.len() - missed.len());
        if missed.is_empty() {
            return answer::json_text(audience.reply.clone());
        }
        let reached = audience.listeners.iter().enumerate().filter(|(place, _)| missed.binary_search(place).is_err());
        answer::json_text(reply(reached.map(|(_, listener)| listener)))
    }

    fn drop_listener(&self, listener: &Arc<Listener>) {
        tracing::debug!(host = %listener.host, client = ?listener.client, "dropped: it does not read");
        self.metrics.dropped.increment(1);
        listener.kill();
        self.rooms.leave(listener);
    }
}

/// One event, with the message as the original writes it.
fn frame(start: &[&str], message: &Message) -> Result<Frame, StatusCode> {
    let body = if let Message::Json(bytes) = message { bytes.len() } else { 2 };
    Frame::write(start.iter().map(|part| part.len()).sum::<usize>() + body + 3, |out| {
        start.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        message.write(out)?;
        out.extend_from_slice(b"}\n\n");
        Ok(())
    })
}

/// What counts as one caller: an IPv4 address, or a network of IPv6, of which everybody has a whole one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// Whether a browser opens a link, rather than a peer listens with a token it has lost.
fn is_visit(query: &Query, headers: &HeaderMap) -> bool {
    let events = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    query.token == Param::Missing && query.action == Param::Missing && !events
}
