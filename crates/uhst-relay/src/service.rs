//! The state that all connections share, and the routing of requests. All requests of peers use the path `/` and differ
//! in the query.

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
    header::ACCEPT,
};
use tokio::time::timeout;

use super::{
    RelayConfig,
    answer::{self, Answer},
    body::{self, Message},
    budget::{Budget, Charge},
    connection_limits::{ClientConnection, ConnectionLimits, network},
    directory::Directory,
    join_limiter::JoinLimiter,
    metrics::{Metrics, Refusal},
    number::{parse_int, write_number},
    proxies,
    query::{Param, Query},
    request_filter::RequestFilter,
    sessions::Sessions,
    ticket::Ticket,
    tokens::{BadToken, Tokens, Verified},
    web_files::WebFiles,
    write_scheduler::WriteScheduler,
};

/// The longest time for reading a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The state shared by all connections of a relay.
pub(super) struct Service {
    pub(super) config: RelayConfig,
    pub(super) tokens: Tokens,
    pub(super) sessions: Arc<Sessions>,
    pub(super) scheduler: Arc<WriteScheduler>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connection_limits: Arc<ConnectionLimits>,
    pub(super) directory: Option<Directory>,
    pub(super) budget: Arc<Budget>,
    filter: RequestFilter,
    pub(super) join_limiter: Option<JoinLimiter>,
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    web_files: WebFiles,
    draining: AtomicBool,
}

/// A request whose body has not been read.
pub(super) struct RequestHead<'a> {
    pub(super) connection: &'a Arc<ClientConnection>,
    /// The address of the client, or its network.
    pub(super) network: IpAddr,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) version: Version,
    pub(super) query: Query<'a>,
}

impl Service {
    pub(super) fn new(config: RelayConfig, web_files: WebFiles, secret: &[u8]) -> Self {
        let metrics = Arc::new(Metrics::new());
        let limits = &config.limits;
        Service {
            tokens: Tokens::new(secret),
            sessions: Arc::new(Sessions::new(limits.clone(), config.hold, metrics.clone())),
            scheduler: Arc::default(),
            metrics,
            connection_limits: ConnectionLimits::new(limits),
            directory: config.directory.clone().map(|list| Directory::new(list, config.public_url.clone())),
            budget: Budget::new(limits.memory_bytes),
            filter: RequestFilter::new(&config),
            join_limiter: limits.wrong_joins_per_minute.map(JoinLimiter::new),
            limiter: limits.requests_per_second.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
            web_files,
            draining: AtomicBool::new(false),
            config,
        }
    }

    /// Removes expired entries of the rate limits.
    pub(super) fn prune(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        if let Some(join_limiter) = &self.join_limiter {
            join_limiter.prune(Instant::now());
        }
    }

    /// Starts to redirect or refuse requests to host, join and listen.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.sessions.drain();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Counts a refusal and returns the response.
    pub(super) fn refuse(&self, refusal: Refusal) -> Answer {
        self.metrics.refused(refusal);
        match refusal {
            Refusal::Name => answer::without_cors(StatusCode::MISDIRECTED_REQUEST),
            Refusal::Origin => answer::without_cors(StatusCode::FORBIDDEN),
            Refusal::Key => answer::plain(StatusCode::FORBIDDEN),
            Refusal::Requests | Refusal::WrongJoins | Refusal::Waiting => answer::plain(StatusCode::TOO_MANY_REQUESTS),
            _ => answer::plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, connection: &Arc<ClientConnection>, request: Request<Incoming>) -> Answer {
        let answer = self.route(connection, request).await;
        self.metrics.answered(answer.status().as_u16());
        answer
    }

    async fn route(&self, connection: &Arc<ClientConnection>, request: Request<Incoming>) -> Answer {
        let (parts, content) = request.into_parts();
        let address = proxies::client_address(connection.peer, &parts.headers, &self.config.trusted_proxies);
        let network = network(address);
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check_key(&network).is_err()) {
            return self.refuse(Refusal::Requests);
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let (uri, headers, version) = (&parts.uri, &parts.headers, parts.version);
        let head = RequestHead { connection, network, uri, headers, version, query };
        match (&parts.method, uri.path()) {
            _ if let Err(refusal) = self.filter.check(headers) => self.refuse(refusal),
            (&Method::GET, "/health") if self.is_draining() => answer::draining(),
            (&Method::GET, "/health") => answer::json_text(r#"{"status":"ok"}"#),
            (&Method::GET, "/metrics") => {
                self.metrics.kept.set(self.budget.total() as f64);
                answer::prometheus(self.metrics.render())
            }
            (&Method::OPTIONS, _) => answer::preflight(headers),
            (&Method::POST, "/") => self.post(&head, content).await,
            (&Method::GET, "/") => match self.web_files.answer("/", headers) {
                Some(page) if is_page_request(&head.query, headers) => page,
                // A stream must not have a request body.
                _ if !content.is_end_stream() => answer::refuse_stream(StatusCode::BAD_REQUEST),
                _ => self.listen(&head),
            },
            (&Method::DELETE, "/") if head.query.token != Param::Missing => self.release(&head.query),
            (method @ (&Method::GET | &Method::HEAD), path) => {
                self.web_files.answer(path, headers).unwrap_or_else(|| answer::not_found(method, path))
            }
            (method, path) => answer::not_found(method, path),
        }
    }

    async fn read(&self, head: &RequestHead<'_>, content: Incoming) -> Result<(Message, Charge), StatusCode> {
        let full = StatusCode::SERVICE_UNAVAILABLE;
        let charge = self.budget.charge(head.network, 0).ok_or(full)?;
        let reading = body::read(head.headers, content, self.config.limits.body_bytes, charge);
        let read = timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT));
        read.inspect_err(|status| {
            if *status == full {
                self.metrics.refused(Refusal::Bytes);
            }
        })
    }

    /// Routes a POST request. The relay reads a body only after it has verified the token.
    async fn post(&self, head: &RequestHead<'_>, content: Incoming) -> Answer {
        let answered = match head.query.action.text() {
            Some("host" | "join") if self.is_draining() => self.redirect(head),
            Some("host") => self.host(head),
            Some("join") => self.join(head),
            Some("ping") => ping(&head.query),
            _ => match self.bearer(&head.query) {
                Ok(sender) => {
                    let ticket = Ticket::new(sender.sender, sender.in_flight.clone(), head.connection.arrival.clone());
                    return match self.read(head, content).await {
                        Ok((message, charge)) => self.send(head, &sender, ticket, &message, charge).await,
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

    /// Returns the response to a new host, client or listener while the relay drains.
    pub(super) fn redirect(&self, head: &RequestHead<'_>) -> Answer {
        match &self.config.moved_to {
            Some(url) => answer::redirect(url, head.uri.query()),
            None => answer::plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    pub(super) fn bearer(&self, query: &Query) -> Result<Arc<Verified>, StatusCode> {
        let token = query.token.text().ok_or(StatusCode::UNAUTHORIZED)?;
        self.tokens.verify(token).map_err(|error| match error {
            BadToken::Unauthorized => StatusCode::UNAUTHORIZED,
            BadToken::Unknown => StatusCode::BAD_REQUEST,
        })
    }
}

fn ping(query: &Query<'_>) -> Answer {
    let mut pong = String::from(r#"{"pong":"#);
    write_number(query.timestamp.text().map_or(f64::NAN, parse_int), &mut pong);
    pong.push('}');
    answer::json_text(pong)
}

/// Returns whether a browser opens the page, as opposed to a peer that listens without its token.
fn is_page_request(query: &Query, headers: &HeaderMap) -> bool {
    let events = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    query.token == Param::Missing && query.action == Param::Missing && !events
}
