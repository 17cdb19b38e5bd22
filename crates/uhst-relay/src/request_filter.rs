//! A filter for requests by their `Host` and `Origin` headers.
//!
//! A browser lets any web page send requests to a relay on the player's own machine. The page cannot hide its own
//! address in `Origin` or the name of the relay in `Host`. If it makes a name of its own resolve to this machine (DNS
//! rebinding), the request still contains that name.

use std::net::IpAddr;

use hyper::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

use super::{RelayConfig, metrics::Refusal};

/// The allowed names and origins. `None` allows all.
#[derive(Debug)]
pub(super) struct RequestFilter {
    names: Option<Box<[String]>>,
    origins: Option<Box<[String]>>,
}

impl RequestFilter {
    pub(super) fn new(config: &RelayConfig) -> Self {
        let lower = |texts: &Vec<String>| texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        RequestFilter { names: config.names.as_ref().map(lower), origins: config.origins.as_ref().map(lower) }
    }

    /// Checks the headers of a request.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
        if self.names.is_none() && self.origins.is_none() {
            return Ok(());
        }
        let host = text(HOST);
        if let (Some(names), Some(host)) = (&self.names, &host)
            && !is_own(host, names)
        {
            return Err(Refusal::Name);
        }
        match (&self.origins, text(ORIGIN)) {
            (Some(origins), Some(origin)) if !origins.iter().any(|known| known == "*" || *known == origin) => {
                let own_page = origin.split_once("://").is_some_and(|(_, page)| Some(page) == host.as_deref());
                if own_page { Ok(()) } else { Err(Refusal::Origin) }
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether nobody on the internet can own this name: an address, a name without a dot, a name of the local
/// network (`.local`), or a configured name.
fn is_own(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok()
        || !name.contains('.') && !name.is_empty()
        || name.ends_with(".local")
        || name.ends_with(".localhost")
        || names.iter().any(|own| own == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &RequestFilter, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<hyper::header::HeaderName>().expect("a name"), value.parse().expect("a value"))
        });
        filter.check(&headers.collect())
    }

    #[test]
    fn only_names_that_nobody_else_can_own() {
        let names = Some(vec!["Relay.Example.com".to_owned()]);
        let filter = RequestFilter::new(&RelayConfig { names, ..RelayConfig::default() });
        for host in [
            "127.0.0.1:3000",
            "192.168.1.5",
            "[::1]:3000",
            "[fe80::1]",
            "localhost:3000",
            "LOCALHOST",
            "game-pc:3000",
            "game-pc.local:3000",
            "game-pc.local.",
            "relay.example.com",
            "RELAY.example.com:443",
        ] {
            assert_eq!(check(&filter, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:3000", "127.0.0.1.nip.io:3000", "local", ".local.evil.example", "", "1.2.3"] {
            let expected = if host == "local" { Ok(()) } else { Err(Refusal::Name) };
            assert_eq!(check(&filter, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(check(&filter, &[]), Ok(()), "HTTP/1.0");
        let open = RequestFilter::new(&RelayConfig::default());
        assert_eq!(check(&open, &[("host", "evil.example"), ("origin", "https://evil.example")]), Ok(()));
    }

    #[test]
    fn only_the_own_page_and_configured_origins() {
        let origins = Some(vec!["https://game.example".to_owned()]);
        let filter = RequestFilter::new(&RelayConfig { origins, ..RelayConfig::default() });
        let host = ("host", "192.168.1.5:3000");
        assert_eq!(check(&filter, &[host]), Ok(()), "none, as programs have it");
        for origin in ["http://192.168.1.5:3000", "https://game.example", "HTTPS://Game.Example"] {
            assert_eq!(check(&filter, &[host, ("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in ["null", "http://192.168.1.5", "http://192.168.1.5:3001", "https://evil.example", "", "://"] {
            assert_eq!(check(&filter, &[host, ("origin", origin)]), Err(Refusal::Origin), "{origin}");
        }
        let any = RequestFilter::new(&RelayConfig { origins: Some(vec!["*".to_owned()]), ..RelayConfig::default() });
        assert_eq!(check(&any, &[host, ("origin", "null")]), Ok(()));
    }
}
