//! Redirects, followed by hand: method, body and token are kept, and the token stays where it is known.

use reqwest::{Response, header::LOCATION};
use url::Url;

use super::HttpRequest;
use crate::net::relay_error::RelayError;

/// Where an answer sends this request, if it does.
pub(super) fn target(request: &HttpRequest, response: &Response) -> Result<Option<Url>, RelayError> {
    let status = response.status().as_u16();
    // A 303 asks for another resource in place of an answer, which a POST of ours has no use for.
    if !matches!(status, 301 | 302 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or(RelayError::Status(status))?;
    next(request, response.url(), location).map(Some)
}

/// A query that names no token means the same query.
fn next(request: &HttpRequest, from: &Url, location: &str) -> Result<Url, RelayError> {
    let mut next = from.join(location).map_err(|_| RelayError::Nonsense("its redirect"))?;
    let downgraded = from.scheme() == "https" && next.scheme() != "https";
    if downgraded || !matches!(next.scheme(), "http" | "https") {
        return Err(RelayError::Nonsense("its redirect"));
    }
    if !may_follow(from, &next, request.secret) {
        return Err(RelayError::Moved(next.origin().ascii_serialization()));
    }
    next.set_fragment(None);
    let missing: Vec<_> =
        request.url.query_pairs().filter(|(key, _)| next.query_pairs().all(|(k, _)| k != *key)).collect();
    if !missing.is_empty() {
        next.query_pairs_mut().extend_pairs(missing);
    }
    Ok(next)
}

/// To the same origin, or to the same host by TLS. Without a token also to another server, if it has a certificate: one
/// without could be any machine of the player's own network.
fn may_follow(from: &Url, to: &Url, secret: bool) -> bool {
    let by_tls = to.scheme() == "https";
    from.origin() == to.origin() || by_tls && (!secret || from.scheme() == "http" && from.host() == to.host())
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use super::*;

    fn redirected(from: &str, location: &str, secret: bool) -> Result<String, RelayError> {
        let url = Url::parse(from).unwrap();
        let request = HttpRequest { secret, ..HttpRequest::new(Method::GET, url.clone()) };
        next(&request, &url, location).map(String::from)
    }

    #[test]
    fn the_query_goes_along() {
        let from = "http://relay:3000/?token=t&uhst=1";
        for (location, to) in [
            ("/", "http://relay:3000/?token=t&uhst=1"),
            ("/other/?token=t", "http://relay:3000/other/?token=t&uhst=1"),
            ("?token=t&uhst=1", from),
            ("https://relay/#x", "https://relay/?token=t&uhst=1"),
        ] {
            assert_eq!(redirected(from, location, true).as_deref(), Ok(to), "{location}");
        }
    }

    #[test]
    fn a_token_goes_to_no_other_origin_and_nothing_from_tls_to_plain_text() {
        for (from, location) in [
            ("http://relay/?token=t", "http://portal/?token=t"),
            ("http://relay/?token=t", "http://relay:81/"),
            ("https://relay/?token=t", "https://relay:444/"),
            ("http://relay/?token=t", "https://portal/"),
        ] {
            let Err(RelayError::Moved(to)) = redirected(from, location, true) else { panic!("{location}") };
            assert!(!to.contains("token=t"), "{to}");
            assert_eq!(redirected(from, location, false).is_ok(), location.starts_with("https"), "{location}");
        }
        for location in ["http://relay/", "ftp://relay/", "file:///etc/passwd"] {
            let redirected = redirected("https://relay/?token=t", location, false);
            assert_eq!(redirected, Err(RelayError::Nonsense("its redirect")), "{location}");
        }
    }
}
