//! The list of public relays, in which a public relay finds the prefix of the ids it generates.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

/// How long to wait before a list that could not be read, or that lacks this relay, is fetched again.
const RETRY: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5);

/// One entry of the list: `[{"urls":["https://…/"],"prefix":"0042"}]`.
#[derive(Deserialize)]
struct Entry {
    urls: Vec<String>,
    prefix: String,
}

/// The prefix of this relay, once it is found.
pub(super) struct Directory {
    list: Url,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    prefix: Option<String>,
    tried: Option<Instant>,
}

impl Directory {
    pub(super) fn new(list: Url) -> Self {
        Directory { list, found: Mutex::default() }
    }

    /// The prefix under which `https://<host>/` is listed. The first `Host` header that is in the list decides.
    pub(super) async fn prefix(&self, host: &str) -> Option<String> {
        let mut found = self.found.lock().await;
        if found.prefix.is_none() && found.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
            found.tried = Some(Instant::now());
            let own = format!("https://{host}/");
            match self.fetch().await {
                Ok(entries) => {
                    let listed = entries.into_iter().find(|entry| entry.urls.contains(&own));
                    if listed.is_none() {
                        tracing::warn!(url = %own, list = %self.list, "this relay is not in the list of public relays");
                    }
                    found.prefix = listed.map(|entry| entry.prefix);
                }
                Err(error) => tracing::warn!(%error, "cannot read the list of public relays"),
            }
        }
        found.prefix.clone()
    }

    async fn fetch(&self) -> reqwest::Result<Vec<Entry>> {
        let client = Client::builder().timeout(TIMEOUT).build()?;
        let answer = client.get(self.list.clone()).send().await?.error_for_status()?;
        let bytes = answer.bytes().await?;
        // A list that is not JSON lists nobody.
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }
}
