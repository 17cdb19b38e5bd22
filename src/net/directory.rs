//! The directory of public relays that the originals use: a JSON list of relays with the prefix of their ids.
//!
//! A host uses the relay that first answers a ping, of ten at random. A client finds the relay of an id by its prefix, the
//! part before the first `-`.

use std::time::Duration;

use n0_future::{FuturesUnordered, StreamExt, time};
use reqwest::Method;
use serde::Deserialize;
use url::Url;

use super::{
    http::{Http, HttpRequest, discard, read_bounded},
    relay_client::RelayClient,
    relay_error::RelayError,
};
use crate::protocol::{EndReason, RelayRequest};

/// The largest list this crate reads.
const MAX_LIST: usize = 1024 * 1024;
/// How many relays are pinged.
const PINGED: usize = 10;
/// The timeout of each request.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Entry {
    urls: Vec<String>,
    #[serde(default)]
    prefix: String,
}

/// Finds the quickest relay of the directory at this URL, for the id of a client's host, or for a new host.
///
/// # Errors
///
/// [`EndReason::RelayUnreachable`] if the directory cannot be read, or no relay answers.
pub(super) async fn relay(directory: &str, id: Option<&str>) -> Result<RelayClient, EndReason> {
    let relay = quickest(directory, id).await.and_then(RelayClient::http);
    relay.map_err(|error| EndReason::RelayUnreachable(format!("{directory}, a directory of relays: {error}")))
}

/// The quickest relay; for a client, of those with the prefix of its id.
async fn quickest(directory: &str, id: Option<&str>) -> Result<Url, RelayError> {
    let http = Http::default();
    let url = Url::parse(directory).map_err(|error| RelayError::Unreachable(error.to_string()))?;
    let list = read_bounded(http.send(request(Method::GET, url)).await?, MAX_LIST).await?;
    let list: Vec<Entry> =
        serde_json::from_slice(&list).map_err(|_| RelayError::NotARelay("its list of public relays"))?;
    first_to_answer(&http, sample(candidates(&list, id))).await
}

fn request(method: Method, url: Url) -> HttpRequest {
    HttpRequest { timeout: Some(TIMEOUT), secret: false, ..HttpRequest::new(method, url) }
}

/// The relays that may serve this id; all of them for a new host, whose id has no prefix yet.
fn candidates(list: &[Entry], id: Option<&str>) -> Vec<Url> {
    let prefix = id.and_then(|id| id.split_once('-')).map(|(prefix, _)| prefix);
    list.iter()
        .filter(|entry| id.is_none() || Some(entry.prefix.as_str()) == prefix)
        .flat_map(|entry| &entry.urls)
        .filter_map(|url| Url::parse(url).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .collect()
}

/// Ten random relays.
fn sample(mut urls: Vec<Url>) -> Vec<Url> {
    for i in 0..urls.len().min(PINGED) {
        let rest = urls.len() - i;
        let pick = getrandom::u64().unwrap_or_default() as usize % rest;
        urls.swap(i, i + pick);
    }
    urls.truncate(PINGED);
    urls
}

async fn first_to_answer(http: &Http, urls: Vec<Url>) -> Result<Url, RelayError> {
    let mut pings: FuturesUnordered<_> = urls
        .into_iter()
        .map(async |url| {
            let ping = request(Method::POST, RelayRequest::Ping { timestamp: 1 }.url(&url));
            discard(http.send(ping).await.ok()?).await;
            Some(url)
        })
        .collect();
    let answered = time::timeout(TIMEOUT, async {
        while let Some(answer) = pings.next().await {
            if answer.is_some() {
                return answer;
            }
        }
        None
    });
    answered.await.ok().flatten().ok_or_else(|| {
        RelayError::Unreachable("no public relay for this id answered; name a relay by its URL".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<Entry> {
        serde_json::from_str(
            r#"[{"urls":["https://a.example/","https://b.example/"],"prefix":"0042"},
                {"urls":["https://c.example/","file:///etc"],"prefix":"7"},{"urls":["no url"]}]"#,
        )
        .unwrap()
    }

    fn hosts(urls: &[Url]) -> Vec<&str> {
        urls.iter().filter_map(Url::host_str).collect()
    }

    #[test]
    fn the_prefix_of_an_id_names_its_relay() {
        assert_eq!(hosts(&candidates(&list(), Some("0042-18-9"))), ["a.example", "b.example"]);
        assert_eq!(hosts(&candidates(&list(), Some("7-1234"))), ["c.example"]);
        assert_eq!(hosts(&candidates(&list(), Some("nobody"))), [""; 0]);
        assert_eq!(hosts(&candidates(&list(), None)), ["a.example", "b.example", "c.example"]);
    }

    #[test]
    fn at_most_ten_relays_are_pinged_and_none_twice() {
        let urls: Vec<Url> = (0..30).map(|i| Url::parse(&format!("https://r{i}.example/")).unwrap()).collect();
        let mut pinged = sample(urls.clone());
        assert_eq!(pinged.len(), PINGED);
        pinged.sort();
        pinged.dedup();
        assert_eq!(pinged.len(), PINGED);
        assert!(pinged.iter().all(|url| urls.contains(url)));
        assert_eq!(sample(urls[..3].to_vec()).len(), 3);
    }
}
