//! The list of public relays, in which a public relay finds the prefix for its generated ids.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use reqwest::Client;
use serde::Deserialize;
use tokio::time::sleep;
use url::Url;

/// How long to wait before fetching the list again, after a failure and after a success.
const RETRY: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of the list in bytes.
const MAX_SIZE: usize = 1 << 20;

/// One entry of the list: `[{"urls":["https://…/"],"prefix":"0042"}]`.
#[derive(Deserialize)]
struct Entry {
    urls: Vec<String>,
    prefix: String,
}

/// The last list that was fetched. Requests never wait for it.
pub(super) struct Directory {
    list: Url,
    /// The URL of this relay, if it is configured.
    own: Option<Url>,
    entries: RwLock<Vec<Entry>>,
}

impl Directory {
    pub(super) fn new(list: Url, own: Option<Url>) -> Self {
        Directory { list, own, entries: RwLock::default() }
    }

    /// Returns the prefix under which this relay is listed. Without a configured URL, the relay looks for
    /// `https://<host>/`, where `host` is the `Host` header of the request. The result holds for that request only.
    pub(super) fn prefix(&self, host: &str) -> Option<String> {
        let own = self.own.as_ref().map_or_else(|| format!("https://{host}/"), Url::to_string);
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find(|entry| entry.urls.contains(&own)).map(|entry| entry.prefix.clone())
    }

    /// Fetches the list periodically, forever.
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
            if bytes.len() > MAX_SIZE {
                return Err(format!("the list has more than {MAX_SIZE} bytes").into());
            }
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}
