//! What differs between the HTTP client of the library and the browser's `fetch`.

use reqwest::{Client, Error, RequestBuilder, Response};

use super::ClientKind;
use crate::net::relay_error::RelayError;

/// Creates a client. It drops idle connections before relays close them, which they do after 5 s.
#[cfg(not(target_family = "wasm"))]
pub(super) fn client(kind: ClientKind) -> Result<Client, RelayError> {
    use std::time::Duration;

    let builder = Client::builder()
        .pool_idle_timeout(Duration::from_secs(4))
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none());
    let builder = match kind {
        ClientKind::LocalPlain => builder.no_proxy().tls_certs_only([]),
        ClientKind::LocalTls => builder.no_proxy(),
        ClientKind::Remote => builder,
    };
    builder.build().map_err(RelayError::of_transport)
}

/// Creates a client. Proxies, redirects and connections are the browser's own.
#[cfg(target_family = "wasm")]
pub(super) fn client(_: ClientKind) -> Result<Client, RelayError> {
    Ok(Client::new())
}

/// Makes sure that the answer comes from the server.
#[cfg(not(target_family = "wasm"))]
pub(super) fn without_cache(request: RequestBuilder) -> RequestBuilder {
    request.header(reqwest::header::CACHE_CONTROL, "no-cache")
}

/// Makes sure that the answer comes from the server. A header would cost another request, in which the browser asks whether
/// it may send the header.
#[cfg(target_family = "wasm")]
pub(super) fn without_cache(request: RequestBuilder) -> RequestBuilder {
    request.fetch_cache_no_store()
}

/// Whether the server closed an idle connection just as it was reused: it has processed nothing.
#[cfg(not(target_family = "wasm"))]
pub(super) fn is_closed_connection(error: &Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// Whether to repeat a request. Browsers do so themselves.
#[cfg(target_family = "wasm")]
pub(super) fn is_closed_connection(_: &Error) -> bool {
    false
}

/// Drops an answer whose body has no reader.
#[cfg(not(target_family = "wasm"))]
pub(in crate::net) async fn discard(response: Response) {
    drop(response);
}

/// Reads an answer to its end, up to a limit. A browser aborts a request whose answer is dropped earlier, and closes its
/// connection.
#[cfg(target_family = "wasm")]
pub(in crate::net) async fn discard(response: Response) {
    let _ = super::read_bounded(response, 64 * 1024).await;
}
