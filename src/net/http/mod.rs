//! HTTP requests to relays: with or without a proxy, with redirects that keep method and body, and with `Retry-After`.

mod backend;
mod proxy_bypass;
mod redirect;
mod retry_after;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use n0_future::StreamExt;
use reqwest::{
    Client, Method, Response,
    header::{HeaderName, HeaderValue},
};
use url::Url;

pub(super) use self::{backend::discard, proxy_bypass::is_this_machine};
use self::{proxy_bypass::bypasses_proxy, redirect::target};
use super::relay_error::RelayError;

/// How many redirects a request follows.
const MAX_REDIRECTS: usize = 5;

/// One request. It has no `Debug`, since its URL may hold a token.
#[derive(Clone)]
pub(super) struct HttpRequest {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Option<Bytes>,
    /// The timeout for the whole answer, including its body.
    pub timeout: Option<Duration>,
    /// Whether the URL holds a token, which must not be sent to another origin.
    pub secret: bool,
    /// Whether the answer must not come from a cache.
    pub fresh: bool,
}

impl HttpRequest {
    pub fn new(method: Method, url: Url) -> Self {
        HttpRequest { method, url, headers: Vec::new(), body: None, timeout: None, secret: true, fresh: false }
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

/// The HTTP clients of one relay. Clones share them and their idle connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http(Arc<RwLock<Clients>>);

/// One client for each [`ClientKind`], created when it is first used.
type Clients = [Option<Client>; 3];

/// The kind of client that a URL needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientKind {
    /// For http on this machine or its network, without a proxy. It does not load the system's certificates, which take
    /// several hundred kilobytes.
    LocalPlain,
    /// For https on this machine or its network, without a proxy, which often cannot reach them.
    LocalTls,
    /// For all other URLs, with the proxy of the environment. A proxy may require TLS, even for an http URL.
    Remote,
}

impl ClientKind {
    fn of(url: &Url) -> Self {
        match (bypasses_proxy(url), url.scheme()) {
            (true, "http") => ClientKind::LocalPlain,
            (true, _) => ClientKind::LocalTls,
            (false, _) => ClientKind::Remote,
        }
    }
}

impl Http {
    /// Drops the idle connections.
    pub fn forget_connections(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Clients::default();
    }

    fn client(&self, url: &Url) -> Result<Client, RelayError> {
        let kind = ClientKind::of(url);
        if let Some(client) = &self.0.read().unwrap_or_else(PoisonError::into_inner)[kind as usize] {
            return Ok(client.clone());
        }
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match &mut clients[kind as usize] {
            Some(client) => Ok(client.clone()),
            slot => Ok(slot.insert(backend::client(kind)?).clone()),
        }
    }

    /// Sends a request, follows redirects, and returns a successful answer.
    ///
    /// # Errors
    ///
    /// [`RelayError`] for any other answer, or if there is none.
    pub async fn send(&self, request: HttpRequest) -> Result<Response, RelayError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_to(&request, &url).await?;
            match target(&request, &response)? {
                Some(next) => url = next,
                None => {
                    return match refusal(&response) {
                        None => Ok(response),
                        Some(error) => {
                            discard(response).await;
                            Err(error)
                        }
                    };
                }
            }
        }
        Err(RelayError::Unreachable(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    async fn send_to(&self, request: &HttpRequest, url: &Url) -> Result<Response, RelayError> {
        let client = self.client(url)?;
        let send = || {
            let mut builder = client.request(request.method.clone(), url.clone());
            for (name, value) in &request.headers {
                builder = builder.header(name, value);
            }
            if let Some(body) = &request.body {
                builder = builder.body(body.clone());
            }
            if let Some(timeout) = request.timeout {
                builder = builder.timeout(timeout);
            }
            if request.fresh {
                builder = backend::without_cache(builder);
            }
            builder.send()
        };
        let answer = match send().await {
            Err(error) if backend::is_closed_connection(&error) => send().await,
            other => other,
        };
        answer.map_err(RelayError::of_transport)
    }
}

/// The error of an answer that is none of the 2xx. The caller checks the body of those.
fn refusal(response: &Response) -> Option<RelayError> {
    Some(match response.status().as_u16() {
        200..=299 => return None,
        400 => RelayError::Rejected,
        401 => RelayError::BadToken,
        status => match retry_after::wait(response.headers()) {
            Some(wait) => RelayError::Busy { status, wait },
            None => RelayError::Status(status),
        },
    })
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
///
/// [`RelayError::NotARelay`] if the body is larger, and transport errors.
pub(super) async fn read_bounded(response: Response, limit: usize) -> Result<Bytes, RelayError> {
    let mut stream = response.bytes_stream();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(RelayError::of_transport)?;
        if body.len() + chunk.len() > limit {
            return Err(RelayError::NotARelay("so long a reply"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_plain_urls_need_no_certificates() {
        let kind = |url: &str| ClientKind::of(&Url::parse(url).unwrap());
        assert_eq!(kind("http://192.168.1.5:3000/"), ClientKind::LocalPlain);
        assert_eq!(kind("https://192.168.1.5:3000/"), ClientKind::LocalTls);
        assert_eq!(kind("http://relay.example.com/"), ClientKind::Remote, "its proxy may be reached by TLS");
        assert_eq!(kind("https://relay.example.com/"), ClientKind::Remote);
    }
}
