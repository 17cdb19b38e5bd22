//! The embedded relay of a host: the one place that starts [`relay`](crate::relay).

use super::relay_choice::EmbeddedRelay;
use crate::protocol::{EndReason, JoinLink};

/// A relay in this process. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Embedded {
    #[cfg(feature = "relay")]
    relay: crate::relay::Relay,
}

#[cfg(feature = "relay")]
impl Embedded {
    /// Starts one, on the first free port of those it may try.
    pub async fn start(options: &EmbeddedRelay) -> Result<Self, EndReason> {
        let config = crate::relay::RelayConfig {
            bind: options.bind,
            port_attempts: options.port_attempts,
            web_files: options.web_files.clone(),
            ..Default::default()
        };
        let relay =
            crate::relay::Relay::start(config).await.map_err(|error| EndReason::RelayUnreachable(error.to_string()))?;
        Ok(Embedded { relay })
    }

    /// How this process reaches it.
    pub fn url(&self) -> String {
        let address = self.relay.local_addr();
        if address.ip().is_unspecified() {
            format!("http://127.0.0.1:{}/", address.port())
        } else {
            format!("http://{address}/")
        }
    }

    /// Links for other machines first, then for this one.
    pub fn links(&self, id: &str) -> Vec<JoinLink> {
        self.relay.urls().into_iter().map(|url| JoinLink { relay: Some(url), id: id.to_owned() }).collect()
    }

    /// Stops it once everything that was posted is delivered.
    pub async fn stop(self) {
        self.relay.shutdown().await;
    }
}

#[cfg(not(feature = "relay"))]
impl Embedded {
    pub async fn start(_: &EmbeddedRelay) -> Result<Self, EndReason> {
        let words = "this build has no embedded relay: name one by its URL, or enable the feature `relay`";
        Err(EndReason::RelayUnreachable(words.to_owned()))
    }

    pub fn url(&self) -> String {
        String::new()
    }

    pub fn links(&self, _: &str) -> Vec<JoinLink> {
        Vec::new()
    }

    pub async fn stop(self) {}
}
