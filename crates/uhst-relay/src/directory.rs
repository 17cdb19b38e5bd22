//! The list of public relays, in which a public relay finds the prefix of the ids it generates.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use reqwest::Client;
use serde::Deserialize;
use tokio::time::sleep;
use url::Url;

/// How long to wait before the list is fetched again: after it could not be read, and otherwise.
const RETRY: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);
/// A longer list is not read.
const LONGEST: usize = 1 << 20;

/// One entry of the list: `[{"urls":["https://…/"],"prefix":"0042"}]`.
#[derive(Deserialize)]
struct Entry {
    urls: Vec<String>,
    prefix: String,
}

/// The list, as it was read last. Requests never wait for it.
pub(super) struct Directory {
    list: Url,
    /// This relay, if it knows its own URL.
    own: Option<Url>,
    entries: RwLock<Vec<Entry>>,
}

impl Directory {
    pub(super) fn new(list: Url, own: Option<Url>) -> Self {
        Directory { list, own, entries: RwLock::default() }
    }

    /// The prefix under which this relay is listed: by its own URL, or, if it does not know that, as `https://<host>/`
    /// for the request with this `Host`, and for no other.
    pub(super) fn prefix(&self, host: &str) -> Option<String> {
        let own = self.own.as_ref().map_or_else(|| format!("https://{host}/"), Url::to_string);
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find(|entry| entry.urls.contains(&own)).map(|entry| entry.prefix.clone())
    }

    /// Reads the list now and then, for ever.
    pub(super) async fn run(&self) {
        loop {
            let pause = match self.fetch().await {
                Ok(entries) => {
                    *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
                    if let Some(own) = &self.own
                        && self.prefix("").is_none()
                    {
                        tracing::warn!(url = %own, list = %self.list, "this relay is not in the list of public relays");
                    }
                    REFRESH
                }
                Err(error) => {
                    tracing::warn!(%error, list = %self.list, "cannot read the list of public relays");
                    RETRY
                }
            };
            sleep(pause).await;
        }
    }

    async fn fetch(&self) -> Result<Vec<Entry>, Box<dyn std::error::Error + Send + Sync>> {
        let client = Client::builder().timeout(TIMEOUT).build()?;
        let mut answer = client.get(self.list.clone()).send().await?.error_for_status()?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                return Err(format!("it has more than {LONGEST} bytes").into());
            }
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}
