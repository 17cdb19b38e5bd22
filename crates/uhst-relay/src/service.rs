//! From a request to its answer: the one path `/`, with everything in the query.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri, Version,
    body::{Body, Incoming},
    header::{ACCEPT, HOST},
};
use tokio::time::timeout;

use super::{
    RelayConfig,
    answer::{self, Answer},
    arrivals::Ticket,
    body::{self, Message},
    budget::{Budget, Charge},
    callers::{Caller, Callers, network},
    directory::Directory,
    doors::Doors,
    frame::Frame,
    guesses::Guesses,
    lanes::{FRAME_COST, Placed, Sender},
    listener::{Listener, NotSent, Stream},
    metrics::{Metrics, Refusal},
    number::{parse_int, write_number},
    proxies,
    query::{Param, Query},
    rooms::{Audience, Dialect, NotListening, Rooms, reply},
    stream::{Greeting, Seat},
    tokens::{BadToken, Bearer, Origin, Tokens, Verified, signature},
    turns::Turns,
};
use uhst_proto::protocol::{HostReply, JoinReply, NativeHint, TokenKind, WebFile};

/// How long a request body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What all connections of a relay share.
pub(super) struct Service {
    pub(super) config: RelayConfig,
    pub(super) tokens: Tokens,
    pub(super) rooms: Arc<Rooms>,
    pub(super) turns: Arc<Turns>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) callers: Arc<Callers>,
    pub(super) directory: Option<Directory>,
    budget: Arc<Budget>,
    doors: Doors,
    guesses: Option<Guesses>,
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    draining: AtomicBool,
}

/// A request, as far as it is known before its body is read.
struct Asked<'a> {
    caller: &'a Arc<Caller>,
    /// Who sends it, or the network of that address.
    network: IpAddr,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    version: Version,
    query: Query<'a>,
}

impl Service {
    pub(super) fn new(config: RelayConfig, secret: &[u8]) -> Self {
        let metrics = Arc::new(Metrics::new());
        let limits = &config.limits;
        Service {
            tokens: Tokens::new(secret),
            rooms: Arc::new(Rooms::new(limits.clone(), config.hold, metrics.clone())),
            turns: Arc::default(),
            metrics,
            callers: Callers::new(limits),
            directory: config.directory.clone().map(|list| Directory::new(list, config.public_url.clone())),
            budget: Budget::new(limits.memory_bytes),
            doors: Doors::new(&config),
            guesses: limits.wrong_joins_per_minute.map(Guesses::new),
            limiter: limits.requests_per_second.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
            draining: AtomicBool::new(false),
            config,
        }
    }

    /// Forgets the addresses that have been quiet.
    pub(super) fn tidy(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        if let Some(guesses) = &self.guesses {
            guesses.tidy(Instant::now());
        }
    }

    /// From now on nobody new is taken in.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.rooms.drain();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Counts a refusal, and answers it.
    fn refuse(&self, refusal: Refusal) -> Answer {
        self.metrics.refused(refusal);
        match refusal {
            Refusal::Name => answer::for_nobody(StatusCode::MISDIRECTED_REQUEST),
            Refusal::Origin => answer::for_nobody(StatusCode::FORBIDDEN),
            Refusal::Key => answer::plain(StatusCode::FORBIDDEN),
            Refusal::Requests | Refusal::Guesses | Refusal::Waiting => answer::plain(StatusCode::TOO_MANY_REQUESTS),
            _ => answer::plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
        let answer = self.route(caller, request).await;
        self.metrics.answered(answer.status().as_u16());
        answer
    }

    async fn route(&self, caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
        let (head, content) = request.into_parts();
        let address = proxies::caller(caller.peer, &head.headers, &self.config.trusted_proxies);
        let network = network(address);
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check_key(&network).is_err()) {
            return self.refuse(Refusal::Requests);
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let (uri, headers, version) = (&head.uri, &head.headers, head.version);
        let asked = Asked { caller, network, uri, headers, version, query };
        match (&head.method, uri.path()) {
            _ if let Err(refusal) = self.doors.check(headers) => self.refuse(refusal),
            (&Method::GET, "/health") if self.is_draining() => answer::draining(),
            (&Method::GET, "/health") => answer::json_text(r#"{"status":"ok"}"#),
            (&Method::GET, "/metrics") => {
                self.metrics.kept.set(self.budget.total() as f64);
                answer::prometheus(self.metrics.render())
            }
            (&Method::OPTIONS, _) => answer::preflight(headers),
            (&Method::POST, "/") => self.post(&asked, content).await,
            (&Method::GET, "/") => match self.web_file("/") {
                Some(page) if is_visit(&asked.query, headers) => answer::file(page),
                // A stream is to begin where the request ends.
                _ if !content.is_end_stream() => answer::no_events(StatusCode::BAD_REQUEST),
                _ => self.listen(&asked),
            },
            (&Method::DELETE, "/") if asked.query.token != Param::Missing => self.release(&asked.query),
            (method, path) => match self.web_file(path) {
                Some(page) if method == Method::GET => answer::file(page),
                _ => answer::not_found(method, path),
            },
        }
    }

    fn web_file(&self, path: &str) -> Option<&WebFile> {
        self.config.web_files.iter().find(|page| page.path == path)
    }

    async fn read(&self, asked: &Asked<'_>, content: Incoming) -> Result<(Message, Charge), StatusCode> {
        let full = StatusCode::SERVICE_UNAVAILABLE;
        let charge = self.budget.charge(asked.network, 0).ok_or(full)?;
        let reading = body::read(asked.headers, content, self.config.limits.body_bytes, charge);
        let read = timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT));
        read.inspect_err(|status| {
            if *status == full {
                self.metrics.refused(Refusal::Bytes);
            }
        })
    }

    /// Who has no token that works cannot make the relay read a body.
    async fn post(&self, asked: &Asked<'_>, content: Incoming) -> Answer {
        let answered = match asked.query.action.text() {
            Some("host" | "join") if self.is_draining() => self.moved(asked),
            Some("host") => self.host(asked),
            Some("join") => self.join(asked),
            Some("ping") => ping(&asked.query),
            _ => match self.bearer(&asked.query) {
                Ok(sender) => {
                    let ticket = Ticket::new(sender.clone(), asked.caller);
                    return match self.read(asked, content).await {
                        Ok((message, charge)) => self.send(asked, &sender, ticket, &message, charge).await,
                        Err(StatusCode::SERVICE_UNAVAILABLE) => answer::plain(StatusCode::SERVICE_UNAVAILABLE),
                        Err(status) => answer::bad_body(status),
                    };
                }
                Err(status) => answer::plain(status),
            },
        };
        body::discard(content).await;
        answered
    }

    /// The answer to who comes while the relay ends.
    fn moved(&self, asked: &Asked<'_>) -> Answer {
        match &self.config.moved_to {
            Some(url) => answer::moved(url, asked.uri.query()),
            None => answer::plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    fn bearer(&self, query: &Query) -> Result<Arc<Verified>, StatusCode> {
        let token = query.token.text().ok_or(StatusCode::UNAUTHORIZED)?;
        self.tokens.verify(token).map_err(|error| match error {
            BadToken::Unauthorized => StatusCode::UNAUTHORIZED,
            BadToken::Unknown => StatusCode::BAD_REQUEST,
        })
    }

    fn host(&self, asked: &Asked) -> Answer {
        let key = asked.query.key.text();
        if self.config.host_key.as_deref().is_some_and(|wanted| !is_same(wanted, key.unwrap_or_default())) {
            return self.refuse(Refusal::Key);
        }
        let host_id = match &asked.query.host_id {
            Param::One(id) if !id.is_empty() => {
                if self.rooms.is_taken(id) {
                    return answer::plain(StatusCode::BAD_REQUEST);
                }
                id.to_string()
            }
            Param::Many => return answer::plain(StatusCode::BAD_REQUEST),
            _ => match self.free_id(asked.headers) {
                Some(id) => id,
                None => return answer::plain(StatusCode::SERVICE_UNAVAILABLE),
            },
        };
        let Some(host_token) = self.tokens.issue(TokenKind::HostToken, &host_id, None) else {
            return answer::plain(StatusCode::SERVICE_UNAVAILABLE);
        };
        let batch = asked.query.uhst != Param::Missing;
        answer::json(&HostReply { host_id, host_token, send_url: None, receive_url: None, batch })
    }

    /// Random digits that are not in use; on a public relay after its prefix.
    fn free_id(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let prefix = self.directory.as_ref().and_then(|directory| directory.prefix(host));
        let digits = self.config.id_digits.clamp(1, 18);
        let mut ids = std::iter::repeat_with(|| {
            // The lowest 62 bits of a v4 UUID are random.
            let number = uuid::Uuid::new_v4().as_u128() as u64 % (1 << 62) % 10_u64.pow(digits);
            let width = digits as usize;
            match &prefix {
                Some(prefix) => format!("{prefix}-{number:0width$}"),
                None => format!("{number:0width$}"),
            }
        });
        // Bounded, should all of them be in use.
        ids.by_ref().take(1000).find(|id| !self.rooms.is_taken(id))
    }

    fn join(&self, asked: &Asked) -> Answer {
        let now = Instant::now();
        if self.guesses.as_ref().is_some_and(|guesses| !guesses.may_try(asked.network, now)) {
            return self.refuse(Refusal::Guesses);
        }
        let host_id = asked.query.host_id.text().unwrap_or_default();
        let Some(dialect) = self.rooms.host_dialect(host_id) else {
            if let Some(guesses) = self.guesses.as_ref().filter(|_| !self.rooms.is_known(host_id)) {
                guesses.was_wrong(asked.network, now);
            }
            return answer::plain(StatusCode::BAD_REQUEST);
        };
        let client_id = uuid::Uuid::new_v4().to_string();
        let Some(client_token) = self.tokens.issue(TokenKind::ClientToken, host_id, Some(&client_id)) else {
            return answer::plain(StatusCode::SERVICE_UNAVAILABLE);
        };
        let uhst = dialect.native.map(|v| NativeHint { v });
        let batch = asked.query.uhst != Param::Missing;
        let texts = batch && dialect.texts;
        answer::json(&JoinReply { client_token, send_url: None, receive_url: None, uhst, batch, texts })
    }

    fn listen(&self, asked: &Asked) -> Answer {
        let query = &asked.query;
        let bearer = match self.bearer(query) {
            Ok(bearer) => bearer,
            Err(StatusCode::BAD_REQUEST) => return answer::no_events(StatusCode::BAD_REQUEST),
            Err(status) => return answer::plain(status),
        };
        let listener = |host: &Arc<str>, client: Sender| {
            let (chunked, capacity) = (asked.version >= Version::HTTP_11, self.config.limits.queue_bytes as usize);
            let (network, turns, kill) = (asked.network, self.turns.clone(), asked.caller.kill.clone());
            Listener::new(host.clone(), client, Stream { network, chunked, capacity, turns, kill })
        };
        let seated = match &bearer.bearer {
            Bearer::Host { host } => {
                let listener = listener(host, None);
                let native = query.uhst.text().and_then(|version| version.parse().ok());
                let token = signature(query.token.text().unwrap_or_default());
                self.rooms.listen_as_host(&listener, token, native).map(|()| listener)
            }
            Bearer::Client { host, client } => {
                let listener = listener(host, Some(client.clone()));
                self.rooms.listen_as_client(&listener, client).map(|()| listener)
            }
            Bearer::Response { .. } => Err(NotListening::Refused),
        };
        match seated {
            Ok(listener) => {
                // Quoted: an id is any text, and the log may be read on a terminal.
                tracing::debug!(host = ?listener.host, client = ?listener.client, "listening");
                asked.caller.listens();
                let seat = Seat::new(listener, self.rooms.clone(), self.config.keep_alive);
                answer::events(Greeting::new(asked.caller.clone(), seat))
            }
            Err(NotListening::Refused) => answer::no_events(StatusCode::BAD_REQUEST),
            Err(NotListening::Closing) => self.moved(asked),
            Err(NotListening::Full(refusal)) => {
                self.metrics.refused(refusal);
                answer::no_events(StatusCode::SERVICE_UNAVAILABLE)
            }
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

    async fn send(
        &self,
        asked: &Asked<'_>,
        sender: &Verified,
        ticket: Ticket,
        message: &Message,
        charge: Charge,
    ) -> Answer {
        const PLAIN: [&str; 1] = ["data: {\"body\":"];
        ticket.turn().await;
        let (listener, of, frame) = match &sender.bearer {
            Bearer::Client { host, client } => {
                let Some((listener, seat)) = self.rooms.host(host) else { return unsent(message) };
                let listens = self.rooms.client(host, client, None).is_some();
                let token =
                    self.tokens.respond(sender, Origin { network: asked.network, listens }, host, client, &seat);
                let frame = self.frame(asked, &["data: {\"responseToken\":\"", &token, "\",\"body\":"], message);
                (listener, Some(client.clone()), frame)
            }
            Bearer::Response { host, client, seat } => match self.rooms.client(host, client, seat.as_deref()) {
                Some(listener) => {
                    if self.rooms.host_dialect(host).is_some_and(Dialect::is_open) && message.is_text() {
                        self.rooms.host_texts(host);
                    }
                    (listener, None, self.frame(asked, &PLAIN, message))
                }
                None => return unsent(message),
            },
            Bearer::Host { host } => {
                let token = signature(asked.query.token.text().unwrap_or_default());
                let Some(audience) = self.rooms.audience(host, token) else { return unsent(message) };
                return match self.frame(asked, &PLAIN, message) {
                    Ok(frame) => self.broadcast(&audience, &frame),
                    Err(answer) => answer,
                };
            }
        };
        drop(charge);
        let frame = match frame {
            Ok(frame) => frame,
            Err(answer) => return answer,
        };
        let bytes = frame.len();
        let placed = listener.place(&of, &frame);
        // What is queued has its order: the next message of this sender may follow.
        drop((frame, ticket));
        let sent = match placed {
            Ok(Placed::Now) => Ok(()),
            Ok(Placed::Later(queued)) => listener.wait(queued, self.config.patience).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => {
                self.metrics.delivered(bytes, 1);
                answer::json_text("{}")
            }
            Err(NotSent::Crowded) => self.refuse(Refusal::Waiting),
            Err(NotSent::Full) => {
                self.drop_listener(&listener);
                answer::plain(StatusCode::BAD_REQUEST)
            }
            Err(NotSent::Gone) => answer::plain(StatusCode::BAD_REQUEST),
        }
    }

    /// One event, with the message as the original writes it, or one for each of a batch; or why there is none.
    #[expect(clippy::result_large_err, reason = "the error is the answer, which every request moves anyway")]
    fn frame(&self, asked: &Asked<'_>, start: &[&str], message: &Message) -> Result<Frame, Answer> {
        let messages = match asked.query.batch {
            Param::Missing => std::slice::from_ref(message),
            _ => &message.parts().map_err(answer::bad_body)?,
        };
        let around = start.iter().map(|part| part.len()).sum::<usize>() + 3;
        let size = messages.iter().map(|message| around + message.len()).sum::<usize>();
        let Some(charge) = self.budget.charge(asked.network, size + FRAME_COST) else {
            return Err(self.refuse(Refusal::Bytes));
        };
        let write = |out: &mut Vec<u8>| {
            for message in messages {
                start.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
                message.write(out)?;
                out.extend_from_slice(b"}\n\n");
            }
            Ok(())
        };
        Frame::charged(size, write, charge).map_err(answer::bad_body)
    }

    /// Never waits: who is behind by a whole queue is dropped. The reply names those who were reached.
    fn broadcast(&self, audience: &Audience, frame: &Frame) -> Answer {
        let mut missed = Vec::new();
        for (place, listener) in audience.listeners.iter().enumerate() {
            match listener.push(&None, frame) {
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
        tracing::debug!(host = ?listener.host, client = ?listener.client, "dropped: it does not read");
        self.metrics.dropped.increment(1);
        listener.kill();
        self.rooms.leave(listener);
    }
}

/// The answer to a message for which nobody listens: as the original, it is read first.
fn unsent(message: &Message) -> Answer {
    match message.write(&mut Vec::new()) {
        Ok(()) => answer::plain(StatusCode::BAD_REQUEST),
        Err(status) => answer::bad_body(status),
    }
}

fn ping(query: &Query<'_>) -> Answer {
    let mut pong = String::from(r#"{"pong":"#);
    write_number(query.timestamp.text().map_or(f64::NAN, parse_int), &mut pong);
    pong.push('}');
    answer::json_text(pong)
}

/// Whether two secrets are the same, in a time that does not say where they differ.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Whether a browser opens a link, rather than a peer listens with a token it has lost.
fn is_visit(query: &Query, headers: &HeaderMap) -> bool {
    let events = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    query.token == Param::Missing && query.action == Param::Missing && !events
}
