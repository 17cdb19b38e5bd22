//! The client of one relay: its requests as async calls, over HTTP or in memory.

mod token_request;

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use n0_future::time::timeout;
use reqwest::{Method, Response, header::CONTENT_TYPE};
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use url::Url;

use self::token_request::{MAX_REPLY, REQUEST_TIMEOUT, access, request, without_key};
use super::{
    events::EventStream,
    http::{Http, HttpRequest, discard, is_this_machine, read_bounded},
    memory::MemoryRelay,
    page_end::outlives_page,
    relay_access::{Access, HostHint, Joined},
    relay_error::RelayError,
    relay_location::RelayLocation,
};
use crate::protocol::{EndReason, HostReply, JoinReply, PingReply, RelayRequest};

/// Parallel POSTs to a relay on this machine. More gain nothing, since there is no network latency to hide, and each has
/// a connection, which takes 40 kB of a host with an embedded relay.
const LOCAL_POSTS: usize = 4;
/// How long a POST holds its permit. A slower one waits for its receiver, and must not hold up others.
const POST_PERMIT: Duration = Duration::from_millis(20);
/// The timeout for the release of a host id.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(300);

/// A client of one relay. Cheap to clone.
#[derive(Clone)]
pub(crate) enum RelayClient {
    Http {
        http: Http,
        location: RelayLocation,
        /// Limits the parallel POSTs.
        post_permits: Arc<Semaphore>,
        /// Whether the relay takes several messages in one POST, by its last reply.
        batches: Arc<AtomicBool>,
    },
    Memory(MemoryRelay),
}

impl fmt::Debug for RelayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RelayClient").field(&self.url().as_ref().map(Url::as_str)).finish()
    }
}

/// The messages of one POST.
enum Post {
    One(String),
    All(Vec<String>),
}

impl Post {
    fn bodies(&self) -> &[String] {
        match self {
            Post::One(body) => std::slice::from_ref(body),
            Post::All(bodies) => bodies,
        }
    }
}

impl RelayClient {
    /// Creates a client of the relay at a URL that the user entered.
    ///
    /// # Errors
    ///
    /// [`RelayError::Unreachable`] if this is no http or https URL.
    pub fn at(url: &str) -> Result<Self, RelayError> {
        let parsed =
            Url::parse(url).map_err(|error| RelayError::Unreachable(format!("`{url}` is not a URL: {error}")))?;
        Self::http(parsed)
    }

    /// Creates a client of the relay at this URL.
    ///
    /// # Errors
    ///
    /// [`RelayError::Unreachable`] if the URL is neither http nor https.
    pub fn http(url: Url) -> Result<Self, RelayError> {
        Self::sharing(Http::default(), url)
    }

    /// Creates a client that shares these HTTP clients.
    ///
    /// # Errors
    ///
    /// [`RelayError::Unreachable`] if the URL is neither http nor https.
    pub fn sharing(http: Http, url: Url) -> Result<Self, RelayError> {
        if !matches!(url.scheme(), "http" | "https") {
            let words = format!("`{}` is no URL of a relay: it starts with http or https", without_key(&url));
            return Err(RelayError::Unreachable(words));
        }
        let permits = if is_this_machine(&url) { LOCAL_POSTS } else { Semaphore::MAX_PERMITS };
        let (location, post_permits) = (RelayLocation::new(url), Arc::new(Semaphore::new(permits)));
        Ok(RelayClient::Http { http, location, post_permits, batches: Arc::default() })
    }

    /// The URL for join links: the current one, without the key to host, which joiners do not need.
    pub fn url(&self) -> Option<Url> {
        match self {
            RelayClient::Http { location, .. } => Some(without_key(&location.current())),
            RelayClient::Memory(_) => None,
        }
    }

    /// The reason of a session that this error ends.
    pub fn unreachable(&self, error: &RelayError) -> EndReason {
        EndReason::RelayUnreachable(match self.url() {
            Some(url) => format!("{url}: {error}"),
            None => error.to_string(),
        })
    }

    /// Drops idle connections, since an address of this machine is gone and they may be dead. Returns `false` if the relay
    /// is on this machine, and so cannot be affected.
    pub fn forget_connections(&self) -> bool {
        let RelayClient::Http { http, location, .. } = self else { return false };
        let is_remote = !is_this_machine(&location.current());
        if is_remote {
            http.forget_connections();
        }
        is_remote
    }

    /// Requests a token to host. Returns the id that it is for, too.
    ///
    /// # Errors
    ///
    /// [`RelayError::Rejected`] if the id is taken, [`RelayError::NotARelay`] for an unusable reply, and transport errors.
    pub async fn host(&self, id: Option<&str>) -> Result<(String, Access), RelayError> {
        match self {
            RelayClient::Http { http, location, batches, .. } => {
                let (HostReply { host_id, host_token, send_url, receive_url, batch }, at) =
                    request(http, location, RelayRequest::Host { id }).await?;
                // Players see the id.
                if host_id.contains(char::is_control) {
                    return Err(RelayError::NotARelay("an id with control characters in it"));
                }
                batches.store(batch, Ordering::Relaxed);
                Ok((host_id, access(&at, host_token, send_url, receive_url)?))
            }
            RelayClient::Memory(memory) => memory.host(id),
        }
    }

    /// Requests a token to join.
    ///
    /// # Errors
    ///
    /// [`RelayError::Rejected`] if there is no such host, [`RelayError::NotARelay`] for an unusable reply, and transport errors.
    pub async fn join(&self, id: &str) -> Result<Joined, RelayError> {
        match self {
            RelayClient::Http { http, location, batches, .. } => {
                let (JoinReply { client_token, send_url, receive_url, uhst, batch, texts }, at) =
                    request(http, location, RelayRequest::Join { id }).await?;
                batches.store(batch, Ordering::Relaxed);
                let hint = uhst.map(|_| HostHint::Native).or(texts.then_some(HostHint::Texts));
                Ok(Joined { access: access(&at, client_token, send_url, receive_url)?, hint })
            }
            RelayClient::Memory(memory) => memory.join(id),
        }
    }

    /// Whether this relay answers pings. Relay 2.1.1 and older ones do not.
    pub async fn answers_pings(&self) -> bool {
        match self {
            RelayClient::Http { http, location, .. } => {
                request::<PingReply>(http, location, RelayRequest::Ping { timestamp: 1 }).await.is_ok()
            }
            RelayClient::Memory(_) => true,
        }
    }

    /// Opens the event stream of a token. Errors come through the stream, since relay 2.1.1 sends the head of a good
    /// answer up to 5 s late.
    pub fn listen(&self, access: &Access) -> EventStream {
        match self {
            RelayClient::Http { http, .. } => {
                EventStream::open(http.clone(), RelayRequest::Listen { token: &access.token }.url(&access.listen_at))
            }
            RelayClient::Memory(memory) => memory.listen(&access.token),
        }
    }

    /// Posts one message body. `Ok` means that the relay has written it to the receiver's stream.
    ///
    /// # Errors
    ///
    /// [`RelayError::Rejected`] if the receiver does not listen, [`RelayError::BadToken`] if the relay does not know the token,
    /// and transport errors.
    pub async fn send(self, send_to: Arc<Url>, token: Arc<str>, body: String) -> Result<(), RelayError> {
        self.post(send_to, token, Post::One(body)).await
    }

    /// Whether the relay takes several messages in one POST, see [`send_all`](Self::send_all).
    pub fn batches(&self) -> bool {
        matches!(self, RelayClient::Http { batches, .. } if batches.load(Ordering::Relaxed))
    }

    /// Posts several message bodies in order. All of them arrive, or none does.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn send_all(self, send_to: Arc<Url>, token: Arc<str>, bodies: Vec<String>) -> Result<(), RelayError> {
        self.post(send_to, token, Post::All(bodies)).await
    }

    async fn post(self, send_to: Arc<Url>, token: Arc<str>, post: Post) -> Result<(), RelayError> {
        match self {
            RelayClient::Http { http, post_permits, .. } => {
                let (url, body) = match post {
                    Post::One(body) => (RelayRequest::Send { token: &token }.url(&send_to), body),
                    Post::All(bodies) => {
                        (RelayRequest::SendAll { token: &token }.url(&send_to), format!("[{}]", bodies.join(",")))
                    }
                };
                let request = HttpRequest::new(Method::POST, url).header(CONTENT_TYPE, "application/json");
                let request = HttpRequest { body: Some(body.into()), timeout: Some(REQUEST_TIMEOUT), ..request };
                if outlives_page(&request) {
                    return Ok(());
                }
                let permit = post_permits.acquire().await;
                let mut answer = pin!(async { delivered(http.send(request).await?).await });
                match timeout(POST_PERMIT, &mut answer).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        drop(permit);
                        answer.await
                    }
                }
            }
            RelayClient::Memory(memory) => {
                for body in post.bodies() {
                    memory.send(&token, body).await?;
                }
                Ok(())
            }
        }
    }

    /// Releases a host id, so that others may have it at once. Only our own relays support this; nothing depends on it.
    pub async fn release(&self, access: &Access) {
        if let RelayClient::Http { http, .. } = self {
            let url = RelayRequest::Release { token: &access.token }.url(&access.listen_at);
            let request = HttpRequest::new(Method::DELETE, url);
            if let Ok(answer) = http.send(HttpRequest { timeout: Some(RELEASE_TIMEOUT), ..request }).await {
                discard(answer).await;
            }
        }
    }
}

/// Checks that a success comes from a relay. A login page, for example, also has the status 200.
async fn delivered(answer: Response) -> Result<(), RelayError> {
    let body = read_bounded(answer, MAX_REPLY).await?;
    let body = body.trim_ascii();
    // Relay 2.1.1 answers `OK` instead of `{}`.
    let is_of_relay = body == b"OK" || body.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok();
    if is_of_relay { Ok(()) } else { Err(RelayError::NotARelay("its answer to a message")) }
}

#[cfg(test)]
mod tests;
