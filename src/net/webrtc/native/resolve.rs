//! Resolves the names of STUN and TURN servers, with a timeout and a cache for all peers.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// How long a peer connection waits for an answer. It then does without the server; a later answer serves the next peer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer, or the lack of one, is cached.
const LIFETIME: Duration = Duration::from_secs(60);

/// The limit on cached names.
const MAX_NAMES: usize = 32;

type Answer = watch::Receiver<Option<Vec<SocketAddr>>>;

static LOOKUPS: LazyLock<Mutex<HashMap<String, (Instant, Answer)>>> = LazyLock::new(Mutex::default);

/// Starts the lookup of a server, so that all servers are looked up at once.
pub(super) fn prefetch(url: &str) {
    let Some((_, server)) = url.split_once(':') else { return };
    let host = server.split('?').next().unwrap_or(server);
    let has_port = host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    lookup(&if has_port { host.to_owned() } else { format!("{host}:3478") });
}

/// Resolves `host:port` within [`TIMEOUT`] after the lookup began.
///
/// # Errors
///
/// `NotFound` or `TimedOut`.
pub(super) async fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let (begun, mut answer) = lookup(host);
    let left = TIMEOUT.saturating_sub(begun.elapsed());
    match tokio::time::timeout(left, answer.wait_for(Option::is_some)).await {
        Ok(Ok(found)) => found.clone().filter(|found| !found.is_empty()).ok_or(io::ErrorKind::NotFound.into()),
        Ok(Err(_)) => Err(io::ErrorKind::NotFound.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn lookup(host: &str) -> (Instant, Answer) {
    let mut lookups = LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner);
    // A lookup whose runtime is gone never gets an answer.
    lookups.retain(|_, (begun, answer)| {
        begun.elapsed() < LIFETIME && (answer.borrow().is_some() || answer.has_changed().is_ok())
    });
    if let Some((begun, answer)) = lookups.get(host) {
        return (*begun, answer.clone());
    }
    let (sender, answer) = watch::channel(None);
    let name = host.to_owned();
    tokio::spawn(async move {
        let found = tokio::net::lookup_host(&name).await.map(Iterator::collect).unwrap_or_default();
        sender.send_replace(Some(found));
    });
    let begun = Instant::now();
    if lookups.len() < MAX_NAMES {
        lookups.insert(host.to_owned(), (begun, answer.clone()));
    }
    (begun, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_local_names_resolve() {
        let address = SocketAddr::from(([127, 0, 0, 1], 3478));
        assert_eq!(resolve("127.0.0.1:3478").await.expect("an address"), [address]);
        assert!(!resolve("localhost:3478").await.expect("a name").is_empty());
        assert!(!resolve("localhost:3478").await.expect("cached").is_empty());
    }

    #[tokio::test]
    async fn a_name_without_an_answer_takes_limited_time() {
        let begun = Instant::now();
        resolve("nowhere.invalid:1").await.expect_err("no such name");
        assert!(begun.elapsed() < TIMEOUT * 2);
    }
}
