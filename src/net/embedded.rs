//! The embedded relay of a host. No other module starts [`relay`](crate::relay).

#[cfg(all(feature = "relay", not(target_family = "wasm")))]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(all(feature = "relay", not(target_family = "wasm")))]
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::relay_options::EmbeddedRelay;
use crate::protocol::{EndReason, JoinLink};

/// A relay in this process. Dropping it stops it.
pub(super) struct Embedded {
    #[cfg(all(feature = "relay", not(target_family = "wasm")))]
    relay: crate::relay::RelayServer,
    /// The key with which this process may host. Only the relay's URL for this process contains it, no link does.
    #[cfg(all(feature = "relay", not(target_family = "wasm")))]
    key: String,
}

#[cfg(all(feature = "relay", not(target_family = "wasm")))]
impl Embedded {
    /// Starts a relay on the first free port of its range.
    ///
    /// # Errors
    ///
    /// [`EndReason::RelayUnreachable`] if no port is free, or the system has no random bytes.
    pub async fn start(options: &EmbeddedRelay) -> Result<Self, EndReason> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| EndReason::RelayUnreachable(error.to_string()))?;
        let key = BASE64_URL_SAFE_NO_PAD.encode(random);
        let mut config = crate::relay::RelayConfig {
            bind: options.bind,
            port_attempts: options.port_attempts,
            web_files: options.web_files.clone(),
            names: Some(options.names.clone()),
            origins: Some(options.origins.clone()),
            ..crate::relay::RelayConfig::for_one_game(key.clone())
        };
        if options.other_hosts {
            config.host_key = None;
            config.limits = crate::relay::RelayLimits::default();
        }
        let relay = crate::relay::RelayServer::start(config)
            .await
            .map_err(|error| EndReason::RelayUnreachable(error.to_string()))?;
        Ok(Embedded { relay, key })
    }

    /// The URL for this process, with the key to host.
    pub fn url(&self) -> String {
        let (address, key) = (self.relay.local_addr(), &self.key);
        let here = |ip: IpAddr| format!("http://{}/?key={key}", SocketAddr::new(ip, address.port()));
        match address.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() && !has_ipv4() => here(Ipv6Addr::LOCALHOST.into()),
            ip if ip.is_unspecified() => here(Ipv4Addr::LOCALHOST.into()),
            ip => here(ip),
        }
    }

    /// The port of the relay.
    pub fn port(&self) -> u16 {
        self.relay.local_addr().port()
    }

    /// The links to join, those for other machines first.
    pub fn links(&self, id: &str) -> Vec<JoinLink> {
        self.relay.urls().into_iter().map(|url| JoinLink::new(Some(url), id)).collect()
    }

    /// Stops the relay once all posted messages are delivered.
    pub async fn stop(self) {
        self.relay.shutdown().await;
    }
}

/// Whether this machine has IPv4. If the system does not tell, it counts as having it.
#[cfg(all(feature = "relay", not(target_family = "wasm")))]
fn has_ipv4() -> bool {
    if_addrs::get_if_addrs().map_or(true, |found| found.iter().any(|interface| interface.ip().is_ipv4()))
}

#[cfg(not(all(feature = "relay", not(target_family = "wasm"))))]
impl Embedded {
    pub async fn start(_: &EmbeddedRelay) -> Result<Self, EndReason> {
        let words = if cfg!(target_family = "wasm") {
            "a page in a browser cannot run a relay: name one by its URL, with `Relay::Url`"
        } else {
            "this build has no embedded relay: name one by its URL, or enable the feature `relay`"
        };
        Err(EndReason::RelayUnreachable(words.to_owned()))
    }

    pub fn url(&self) -> String {
        String::new()
    }

    pub fn port(&self) -> u16 {
        0
    }

    pub fn links(&self, _: &str) -> Vec<JoinLink> {
        Vec::new()
    }

    pub async fn stop(self) {}
}

#[cfg(all(test, feature = "relay", not(target_family = "wasm")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_browser_gets_the_web_build_at_the_link() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "<p>the game").unwrap();
        let options = EmbeddedRelay { bind: ([127, 0, 0, 1], 0).into(), ..EmbeddedRelay::default() };
        let relay = Embedded::start(&options.web_app(folder.path()).unwrap()).await.unwrap();
        let link = relay.links("483920").remove(0).to_string();
        let page = reqwest::get(link).await.unwrap().text().await.unwrap();
        assert_eq!(page, "<p>the game");
        relay.stop().await;
    }
}
