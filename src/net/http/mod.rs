//! Requests over HTTP as relays need them: by way of a proxy or not, redirects followed with method and body kept, and
//! what a refusal says about when to come again.

mod near;
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

pub(super) use self::near::is_here;
use self::{near::is_near, redirect::target};
use super::relay_error::RelayError;

/// How many redirects of one request are followed.
const MAX_REDIRECTS: usize = 5;

/// One request. It has no `Debug`, since its URL may hold a token.
#[derive(Clone)]
pub(super) struct HttpRequest {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Option<Bytes>,
    /// For the whole answer, its body included.
    pub timeout: Option<Duration>,
    /// Whether the URL holds a token, which no other origin may see.
    pub secret: bool,
}

impl HttpRequest {
    pub fn new(method: Method, url: Url) -> Self {
        HttpRequest { method, url, headers: Vec::new(), body: None, timeout: None, secret: true }
    }

    pub fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

/// The HTTP clients of one relay: clones share them, and their idle connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http(Arc<RwLock<Clients>>);

/// One client for each [`Reach`].
type Clients = [Option<Client>; 3];

/// How a URL is reached, which decides on the settings of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Without a proxy and without TLS. The client does not load the system's certificates, which take several hundred
    /// kilobytes.
    NearPlain,
    /// Without a proxy, which cannot reach this machine or its network.
    NearTls,
    /// As the environment says. A proxy may require TLS, even for a plain URL.
    Far,
}

impl Reach {
    fn of(url: &Url) -> Self {
        match (is_near(url), url.scheme()) {
            (true, "http") => Reach::NearPlain,
            (true, _) => Reach::NearTls,
            (false, _) => Reach::Far,
        }
    }
}

impl Http {
    /// Connections that are kept for later are not used again.
    pub fn forget_connections(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Clients::default();
    }

    fn client(&self, url: &Url) -> Result<Client, RelayError> {
        let reach = Reach::of(url);
        if let Some(client) = &self.0.read().unwrap_or_else(PoisonError::into_inner)[reach as usize] {
            return Ok(client.clone());
        }
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match &mut clients[reach as usize] {
            Some(client) => Ok(client.clone()),
            slot => Ok(slot.insert(client(reach)?).clone()),
        }
    }

    /// Sends a request, follows redirects, and returns the answer if it is a success.
    pub async fn send(&self, request: HttpRequest) -> Result<Response, RelayError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_to(&request, &url).await?;
            match target(&request, &response)? {
                Some(next) => url = next,
                None => return checked(response),
            }
        }
        Err(RelayError::Unreachable(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    async fn send_to(&self, request: &HttpRequest, url: &Url) -> Result<Response, RelayError> {
        let client = self.client(url)?;
        let once = || {
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
            builder.send()
        };
        let answer = match once().await {
            // The relay closed an idle connection just as we used it: nothing was processed.
            Err(error) if error.is_request() && !error.is_connect() && !error.is_timeout() => once().await,
            other => other,
        };
        answer.map_err(RelayError::of_transport)
    }
}

/// Relays close idle connections after 5 s, so ours are dropped before.
fn client(reach: Reach) -> Result<Client, RelayError> {
    let builder = Client::builder();
    #[cfg(target_family = "wasm")]
    let _ = reach;
    #[cfg(not(target_family = "wasm"))]
    let builder = {
        let builder = builder
            .pool_idle_timeout(Duration::from_secs(4))
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none());
        match reach {
            Reach::NearPlain => builder.no_proxy().tls_certs_only([]),
            Reach::NearTls => builder.no_proxy(),
            Reach::Far => builder,
        }
    };
    builder.build().map_err(RelayError::of_transport)
}

/// Any 2xx is a success: what is in it is for the caller to judge.
fn checked(response: Response) -> Result<Response, RelayError> {
    match response.status().as_u16() {
        200..=299 => Ok(response),
        400 => Err(RelayError::Rejected),
        401 => Err(RelayError::BadToken),
        status => Err(match retry_after::wait(response.headers()) {
            Some(wait) => RelayError::Busy { status, wait },
            None => RelayError::Status(status),
        }),
    }
}

/// Reads a body, but no more than `limit` bytes of it.
pub(super) async fn read_bounded(response: Response, limit: usize) -> Result<Bytes, RelayError> {
    let mut stream = response.bytes_stream();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(RelayError::of_transport)?;
        if body.len() + chunk.len() > limit {
            return Err(RelayError::Nonsense("so long a reply"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_plain_urls_do_without_certificates() {
        let reach = |url: &str| Reach::of(&Url::parse(url).unwrap());
        assert_eq!(reach("http://192.168.1.5:3000/"), Reach::NearPlain);
        assert_eq!(reach("https://192.168.1.5:3000/"), Reach::NearTls);
        assert_eq!(reach("http://relay.example.com/"), Reach::Far, "its proxy may be reached by TLS");
        assert_eq!(reach("https://relay.example.com/"), Reach::Far);
    }
}
