//! Follows redirects by hand: method, body and query are kept, and a token is sent to no other origin.

use reqwest::{Response, header::LOCATION};
use url::Url;

use super::HttpRequest;
use crate::net::relay_error::RelayError;

/// The URL to which an answer redirects this request, if it does.
///
/// # Errors
///
/// [`RelayError::NotARelay`] for an unusable redirect, [`RelayError::Moved`] for one that a secret must not follow.
pub(super) fn target(request: &HttpRequest, response: &Response) -> Result<Option<Url>, RelayError> {
    let status = response.status().as_u16();
    // A 303 names another resource in place of an answer, which is of no use to a POST.
    if !matches!(status, 301 | 302 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or(RelayError::Status(status))?;
    next(request, response.url(), location).map(Some)
}

/// The next URL. Parameters of the query that `location` does not name are kept.
fn next(request: &HttpRequest, from: &Url, location: &str) -> Result<Url, RelayError> {
    let mut next = from.join(location).map_err(|_| RelayError::NotARelay("its redirect"))?;
    let downgraded = from.scheme() == "https" && next.scheme() != "https";
    if downgraded || !matches!(next.scheme(), "http" | "https") {
        return Err(RelayError::NotARelay("its redirect"));
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

/// Whether a request may follow: to the same origin, or to the same host by TLS. Without a secret also to another server
/// with a certificate; one without could be any machine of the player's own network.
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
    fn redirects_keep_the_query() {
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
    fn a_token_is_sent_to_no_other_origin_and_nothing_from_tls_to_plain_text() {
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
            assert_eq!(redirected, Err(RelayError::NotARelay("its redirect")), "{location}");
        }
    }
}
