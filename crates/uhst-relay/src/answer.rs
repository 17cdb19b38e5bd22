//! HTTP responses with the status, headers and body that the original relay sends.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_ENCODING,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER,
        VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde::Serialize;
use url::Url;

use super::stream::StreamHead;

/// Disables nginx's buffering of a stream.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The policy for a game's page: it runs only the scripts that come with it and connects only to this relay. No other
/// page may embed it in a frame, and no form or base URL leads out of it. `scripts` are further sources, each after a space.
pub(super) fn page_policy(scripts: &str) -> String {
    format!(
        "default-src 'self' data: blob:; script-src 'self' 'wasm-unsafe-eval'{scripts}; style-src 'self' 'unsafe-inline'; \
         object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The body of a response.
pub(super) enum Content {
    /// A complete body. It is empty once it has been written.
    Full(Bytes),
    /// The first bytes of an event stream.
    Events(StreamHead),
}

pub(super) type Answer = Response<Content>;

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Content::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Events(head) => Pin::new(head).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Events(_) => SizeHint::default(),
        }
    }
}

/// Builds a response that every web page may read.
fn answer(status: StatusCode, content: Content, content_type: &'static str) -> Answer {
    let mut answer = Response::new(content);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Returns 200 with a JSON text.
pub(super) fn json_text(text: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, Content::Full(text.into()), "application/json; charset=utf-8")
}

/// Returns 200 with a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    // Serializing the types used here cannot fail.
    json_text(serde_json::to_vec(value).unwrap_or_default())
}

/// Returns a status with its name as plain text.
pub(super) fn plain(status: StatusCode) -> Answer {
    let name = status.canonical_reason().unwrap_or_default();
    let content = Content::Full(Bytes::from_static(name.as_bytes()));
    let mut answer = answer(status, content, "text/plain; charset=utf-8");
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// Returns a status to a request that no web page should have sent. No web page may read this response.
pub(super) fn without_cors(status: StatusCode) -> Answer {
    let mut answer = plain(status);
    answer.headers_mut().remove(ACCESS_CONTROL_ALLOW_ORIGIN);
    answer
}

/// Returns 307 with the URL of the same request at another relay.
pub(super) fn redirect(relay: &Url, query: Option<&str>) -> Answer {
    let mut url = relay.clone();
    url.set_query(query);
    let mut answer = plain(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(location) = HeaderValue::from_str(url.as_str()) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

/// Returns 503 to a load balancer while the relay drains.
pub(super) fn draining() -> Answer {
    let mut answer = json_text(r#"{"status":"draining"}"#);
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// Returns 200 with metrics in the Prometheus text format.
pub(super) fn prometheus(text: String) -> Answer {
    answer(StatusCode::OK, Content::Full(text.into()), "text/plain; version=0.0.4; charset=utf-8")
}

/// Returns a file, or the status that the browser has it already. The browser revalidates it on every load, so the page
/// always matches the game that serves it.
pub(super) fn file(
    status: StatusCode,
    body: Bytes,
    content_type: &HeaderValue,
    policy: &HeaderValue,
    encoding: Option<&'static str>,
    tag: &HeaderValue,
) -> Answer {
    let mut answer = Response::new(Content::Full(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CONTENT_TYPE, content_type.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ETAG, tag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    answer
}

/// Returns a status with an HTML page that contains `text`. Express responds like this to requests that do not reach
/// the original relay's own code.
fn page(status: StatusCode, text: &str) -> Answer {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n\
         <body>\n<pre>{text}</pre>\n</body>\n</html>\n"
    );
    let mut answer = answer(status, Content::Full(html.into()), "text/html; charset=utf-8");
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Returns an HTML page for a rejected request body.
pub(super) fn bad_body(status: StatusCode) -> Answer {
    page(status, status.canonical_reason().unwrap_or_default())
}

/// Returns 404 for a method and path that the relay does not serve.
pub(super) fn not_found(method: &Method, path: &str) -> Answer {
    let mut text = format!("Cannot {method} ");
    for character in path.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            other => text.push(other),
        }
    }
    page(StatusCode::NOT_FOUND, &text)
}

/// How long a browser may keep the answer to a preflight request, in seconds: two hours, the most that Chromium keeps one.
/// Without it, Chromium asks again after five seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Returns 204 to a CORS preflight request.
pub(super) fn preflight(request: &HeaderMap) -> Answer {
    let mut answer = Response::new(Content::Full(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    headers.insert(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|wanted| !wanted.is_empty()) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    answer
}

/// Adds the headers of an event stream. A refused stream has them too.
fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// Returns 200 with an event stream.
pub(super) fn events(head: StreamHead) -> Answer {
    let mut answer = answer(StatusCode::OK, Content::Events(head), "text/event-stream; charset=utf-8");
    stream_headers(answer.headers_mut());
    answer
}

/// Refuses an event stream with a status.
pub(super) fn refuse_stream(status: StatusCode) -> Answer {
    let mut answer = plain(status);
    stream_headers(answer.headers_mut());
    answer
}
