//! Requests for tokens: a POST without a body, and a JSON reply.

use std::time::Duration;

use reqwest::{Method, header::CONTENT_LENGTH};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    net::{
        http::{Http, HttpRequest, read_bounded},
        relay_access::Access,
        relay_error::RelayError,
        relay_location::RelayLocation,
    },
    protocol::RelayRequest,
};

/// The query parameter of a relay's own URL that allows to host there. It is a secret.
const KEY: &str = "key";
/// The largest reply, in bytes. Replies of relays are small.
pub(super) const MAX_REPLY: usize = 64 * 1024;
/// The timeout of one request. A relay that takes longer counts as gone.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// Removes the key to host from a relay's URL, so that errors and links do not show it.
pub(super) fn without_key(url: &Url) -> Url {
    let mut shown = url.clone();
    let kept: Vec<_> = url.query_pairs().filter(|(name, _)| name != KEY).collect();
    shown.set_query(None);
    if !kept.is_empty() {
        shown.query_pairs_mut().extend_pairs(kept);
    }
    shown
}

/// The access of a reply from this relay.
///
/// # Errors
///
/// Refuses URLs of another origin, unless they are https. Otherwise a link to a hostile relay makes its reader post to any
/// machine of the reader's own network; servers with a certificate expect requests from everywhere.
pub(super) fn access(
    relay: &Url,
    token: String,
    send_url: Option<String>,
    receive_url: Option<String>,
) -> Result<Access, RelayError> {
    let resolve = |url: Option<String>| match url {
        None => Ok(relay.clone()),
        Some(text) => relay
            .join(&text)
            .ok()
            .filter(|url| url.origin() == relay.origin() || url.scheme() == "https")
            .ok_or(RelayError::NotARelay("a reply that names another place, without https,")),
    };
    Ok(Access { token: token.into(), send_to: resolve(send_url)?.into(), listen_at: resolve(receive_url)? })
}

/// Requests a token at the current URL of the relay, or at the original one if the current server is gone. Returns the
/// reply and the URL that answered, since the tokens are valid there.
///
/// # Errors
///
/// The error of the current URL, if both fail.
pub(super) async fn request<T: DeserializeOwned>(
    http: &Http,
    location: &RelayLocation,
    request: RelayRequest<'_>,
) -> Result<(T, Url), RelayError> {
    let current = location.current();
    let answer = match request_at(http, &current, request).await {
        Err(error) if error.is_gone() && current != *location.original() => {
            request_at(http, location.original(), request).await.map_err(|_| error)
        }
        answer => answer,
    };
    answer.inspect(|(_, url)| location.answered_at(url))
}

async fn request_at<T: DeserializeOwned>(
    http: &Http,
    relay: &Url,
    request: RelayRequest<'_>,
) -> Result<(T, Url), RelayError> {
    let url = request.url(relay);
    // The key to host is for this server alone.
    let secret = relay.query_pairs().any(|(name, _)| name == KEY);
    let request = HttpRequest::new(Method::POST, url.clone()).header(CONTENT_LENGTH, "0");
    let response = http.send(HttpRequest { timeout: Some(REQUEST_TIMEOUT), secret, ..request }).await?;
    let answered_at = match response.url() {
        same if *same == url => relay.clone(),
        moved => RelayRequest::without_query(moved),
    };
    let body = read_bounded(response, MAX_REPLY).await?;
    Ok((serde_json::from_slice(&body).map_err(|_| RelayError::NotARelay("its answer"))?, answered_at))
}
