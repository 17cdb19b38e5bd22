//! A proxy between sessions and any relay, which applies faults to requests.

#![allow(dead_code, reason = "the soak and the tests use a part of it each")]

#[path = "streams.rs"]
mod streams;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Write,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{sleep, sleep_until},
};

use uhst_proto::protocol::peek_sender;

use super::faults::{Answer, Faults, PostFault, Refusal, Side};

/// The connection is closed without an answer, or in the middle of one.
#[derive(Debug, thiserror::Error)]
#[error("closed by the hostile relay")]
struct Closed;

/// The most lines of the trace: more than a run of seconds has.
const TRACE: usize = 1000;

type Body = UnsyncBoxBody<Bytes, Closed>;
type Reply = Result<Response<Body>, Closed>;

/// A proxy in front of one relay, with an address for each side.
pub struct HostileRelay {
    state: Arc<State>,
    addresses: [SocketAddr; 2],
    listeners: Vec<JoinHandle<()>>,
}

struct State {
    relay: String,
    http: reqwest::Client,
    faults: RwLock<Arc<dyn Faults>>,
    mode: watch::Sender<Mode>,
    /// Counts how often all streams were cut.
    cuts: watch::Sender<u32>,
    /// The time until which the packets of each side stand still, on the way up and on the way down.
    held: [[watch::Sender<Option<Instant>>; 2]; 2],
    /// The number of requests of each kind from each side.
    counts: [[AtomicU64; 3]; 2],
    begun: Instant,
    /// Since when the relay has known no host for any client that wanted to join.
    missing_since: Mutex<Option<Instant>>,
    trace: Mutex<VecDeque<String>>,
}

/// The requests that are disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None. Requests that were disturbed before stay as they are, and streams are no longer cut.
    Honest,
    /// Sessions are about to begin: streams and tokens are late, redirected, or refused by answers that ask to come again.
    /// Through an original relay a client cannot tell a native host that does not answer from an original one, and is
    /// connected to that without a word. Such a connection is lost with the relay.
    Joining,
    Hostile,
}

/// A direction as a session sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

impl HostileRelay {
    /// Starts a proxy in front of the relay at `host:port`, on the caller's runtime.
    pub fn start(runtime: &Handle, relay: &str, faults: impl Faults) -> Self {
        // A relay closes idle connections after 5 s.
        let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2)).tcp_nodelay(true);
        let state = Arc::new(State {
            relay: format!("http://{relay}"),
            http: http.redirect(reqwest::redirect::Policy::none()).build().unwrap(),
            faults: RwLock::new(Arc::new(faults)),
            mode: watch::Sender::new(Mode::Honest),
            cuts: watch::Sender::new(0),
            held: Default::default(),
            counts: Default::default(),
            begun: Instant::now(),
            missing_since: Mutex::default(),
            trace: Mutex::default(),
        });
        let mut listeners = Vec::new();
        let addresses = [Side::Host, Side::Client].map(|side| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            listeners.push(runtime.spawn(accept(state.clone(), side, listener)));
            address
        });
        HostileRelay { state, addresses, listeners }
    }

    /// Returns the URL for sessions of this side.
    pub fn url(&self, side: Side) -> String {
        format!("http://{}/", self.addresses[side as usize])
    }

    /// Sets which requests are disturbed from now on.
    pub fn set(&self, mode: Mode) {
        if self.state.mode.send_replace(mode) != mode {
            self.state.note(format_args!("{mode:?}"));
        }
        if mode == Mode::Honest {
            for held in self.state.held.as_flattened() {
                held.send_replace(None);
            }
        }
    }

    /// Sets the faults of later requests and streams.
    pub fn set_faults(&self, faults: impl Faults) {
        *self.state.faults.write().unwrap() = Arc::new(faults);
    }

    /// Cuts all streams now.
    pub fn cut_all(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Holds the packets of this side for a while.
    pub fn hold(&self, side: Side, ways: &[Way], time: Duration) {
        self.state.note(format_args!("{side:?} stands still, {ways:?}, for {time:?}"));
        for way in ways {
            self.state.held[side as usize][*way as usize].send_replace(Some(Instant::now() + time));
        }
    }

    /// For how long every client that wanted to join has heard from the relay that it knows no such host.
    pub fn host_missing(&self) -> Duration {
        self.state.missing_since.lock().unwrap().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Adds a line to the trace.
    pub fn note(&self, what: impl std::fmt::Display) {
        self.state.note(what);
    }

    /// Returns the trace.
    pub fn trace(&self) -> Vec<String> {
        self.state.trace.lock().unwrap().iter().cloned().collect()
    }
}

impl Drop for HostileRelay {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(state: Arc<State>, side: Side, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(state.clone(), side, stream));
    }
}

async fn serve(state: Arc<State>, side: Side, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { state.answer(side, request).await }
    });
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    fn note(&self, what: impl std::fmt::Display) {
        let mut line = String::new();
        write!(line, "{:.3} s: {what}", self.begun.elapsed().as_secs_f64()).unwrap();
        let mut trace = self.trace.lock().unwrap();
        if trace.len() == TRACE {
            trace.pop_front();
        }
        trace.push_back(line);
    }

    fn is_honest(&self) -> bool {
        *self.mode.borrow() == Mode::Honest
    }

    fn faults(&self) -> Arc<dyn Faults> {
        self.faults.read().unwrap().clone()
    }

    fn number(&self, side: Side, kind: usize) -> u64 {
        self.counts[side as usize][kind].fetch_add(1, Ordering::Relaxed)
    }

    /// Waits while packets of this side stand still.
    async fn pass(&self, side: Side, way: Way) {
        let mut held = self.held[side as usize][way as usize].subscribe();
        loop {
            let until = held.borrow_and_update().filter(|until| *until > Instant::now());
            let Some(until) = until else { return };
            tokio::select! {
                () = sleep_until(until.into()) => {}
                _ = held.changed() => {}
            }
        }
    }

    async fn answer(self: Arc<Self>, side: Side, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let request = Forwarded { head, body: body.collect().await.map_err(|_| Closed)?.to_bytes() };
        let is_token = request.head.uri.query().is_some_and(|query| query.contains("action="));
        match (&request.head.method, is_token) {
            (&Method::GET, _) => self.stream(side, request).await,
            (&Method::POST, false) => self.post(side, request).await,
            (&Method::POST, true) => self.token(side, request).await,
            _ => self.forward(&request).await,
        }
    }

    fn mild(&self, refusal: Refusal) -> Refusal {
        if *self.mode.borrow() == Mode::Joining { Refusal::BUSY } else { refusal }
    }

    async fn token(&self, side: Side, request: Forwarded) -> Reply {
        let number = self.number(side, 2);
        self.pass(side, Way::Up).await;
        let refusal = if self.is_honest() { None } else { self.faults().token(side, number) };
        if let Some(refusal) = refusal.map(|refusal| self.mild(refusal)) {
            self.note(format_args!("{side:?} token #{number}: {refusal:?}"));
            return Ok(refused(refusal));
        }
        let reply = self.forward(&request).await;
        self.note(format_args!("{side:?} token #{number}: {}", status(&reply)));
        let mut missing_since = self.missing_since.lock().unwrap();
        match (side, status(&reply)) {
            (Side::Client, 200) => *missing_since = None,
            (Side::Client, 400) => *missing_since = missing_since.or_else(|| Some(Instant::now())),
            _ => {}
        }
        drop(missing_since);
        reply
    }

    async fn post(self: Arc<Self>, side: Side, request: Forwarded) -> Reply {
        let number = self.number(side, 0);
        let is_hostile = *self.mode.borrow() == Mode::Hostile;
        let fault = if is_hostile { self.faults().post(side, number) } else { PostFault::NONE };
        if fault != PostFault::NONE {
            self.note(format_args!("{side:?} POST #{number} with {}: {fault:?}", request.whose()));
        }
        self.pass(side, Way::Up).await;
        // It is spawned, since a message that was passed on arrives even if the sender gives up.
        let state = self.clone();
        let delivery = tokio::spawn(async move {
            sleep(fault.delay).await;
            let reply = if fault.copies > 0 { state.deliver(&request).await } else { Ok(refused(PORTAL)) };
            if status(&reply) != 200 || fault != PostFault::NONE {
                let (whose, status) = (request.whose(), status(&reply));
                state.note(format_args!("{side:?} POST #{number} with {whose}: the relay says {status}"));
            }
            if fault.copies > 1 {
                tokio::spawn(async move {
                    sleep(fault.again_after).await;
                    let _ = state.deliver(&request).await;
                });
            }
            reply
        });
        if fault.answer_first {
            return self.reply(fault.answer, Ok(refused(PORTAL))).await;
        }
        let reply = delivery.await.unwrap_or(Err(Closed));
        self.pass(side, Way::Down).await;
        self.reply(fault.answer, reply).await
    }

    async fn reply(&self, answer: Answer, reply: Reply) -> Reply {
        match answer {
            Answer::Relayed(late) => {
                sleep(late).await;
                reply
            }
            Answer::Never => pending().await,
            Answer::Closed => Err(Closed),
            Answer::Refused(refusal) => Ok(refused(refusal)),
        }
    }

    /// Passes on a POST, or what the relay gets in its place.
    async fn deliver(&self, request: &Forwarded) -> Reply {
        let query = request.head.uri.query().unwrap_or_default();
        let Some(instead) = self.faults().instead(query, &request.body) else { return self.forward(request).await };
        for (query, body) in instead {
            let mut head = request.head.clone();
            head.uri = format!("/?{query}").parse().unwrap();
            head.headers.remove(CONTENT_LENGTH);
            // One that nobody takes does not keep the others.
            let _ = self.forward(&Forwarded { head, body }).await;
        }
        Ok(text(200, "OK"))
    }

    async fn send(&self, request: &Forwarded) -> Result<reqwest::Response, Closed> {
        let mut headers = request.head.headers.clone();
        headers.remove(HOST);
        let url = format!("{}{}", self.relay, request.head.uri);
        let request = self.http.request(request.head.method.clone(), url).headers(headers).body(request.body.clone());
        request.send().await.map_err(|_| Closed)
    }

    async fn forward(&self, request: &Forwarded) -> Reply {
        let upstream = self.send(request).await?;
        let mut reply = Response::builder().status(upstream.status());
        *reply.headers_mut().unwrap() = end_to_end(&upstream);
        let body = upstream.bytes().await.map_err(|_| Closed)?;
        Ok(reply.body(whole(body)).unwrap())
    }
}

/// The answer in place of a relay that was not asked.
const PORTAL: Refusal = Refusal { status: 200, retry_after: None, html: true };

/// A request that was read to its end.
struct Forwarded {
    head: hyper::http::request::Parts,
    body: Bytes,
}

impl Forwarded {
    /// Names the client of the token in the trace, or the end of a host's token.
    fn whose(&self) -> String {
        let query = self.head.uri.query().unwrap_or_default();
        let client = query.strip_prefix("token=").and_then(|token| peek_sender(token).ok());
        let name = client.map_or(query.to_owned(), |claims| claims.client_id);
        name.get(name.len().saturating_sub(6)..).unwrap_or_default().to_owned()
    }
}

/// Returns the headers that do not belong to one connection alone.
fn end_to_end(upstream: &reqwest::Response) -> hyper::http::HeaderMap {
    let mut headers = upstream.headers().clone();
    for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        headers.remove(name);
    }
    headers
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn text(status: u16, body: &'static str) -> Response<Body> {
    Response::builder().status(status).header(CONTENT_TYPE, "text/plain").body(whole(body)).unwrap()
}

fn refused(refusal: Refusal) -> Response<Body> {
    let mut reply = text(refusal.status, "no");
    if refusal.html {
        reply = text(refusal.status, "<!doctype html><title>Please wait</title><p>We are busy. {}");
        reply.headers_mut().insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
    }
    if let Some(seconds) = refusal.retry_after {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    reply
}

/// Returns the status, or 0 for a closed connection.
fn status(reply: &Reply) -> u16 {
    reply.as_ref().map_or(0, |reply| reply.status().as_u16())
}
