//! Finds hosts at the embedded relays of this machine. A second host gets the next port, which a bare code does not name.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use n0_future::{
    FuturesUnordered, StreamExt,
    time::{sleep, timeout},
};
use url::Url;

use super::{
    http::Http, relay_client::RelayClient, relay_error::RelayError, relay_options::EmbeddedRelay,
    start_retry::StartRetry,
};
use crate::protocol::EndReason;

/// How many ports are searched.
const MAX_PORTS: u16 = 32;
/// How long a host waits for the other relays of its machine: some systems refuse a connection to a closed port only after
/// seconds.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a host waits before it looks again for one that started at the same time. The one that gives way is gone by
/// then.
const GIVING_WAY: Duration = Duration::from_millis(500);

/// Finds the relay on this machine whose host has this id.
///
/// # Errors
///
/// [`EndReason::NoSuchHost`] if no relay knows the host, [`EndReason::RelayUnreachable`] if there is none, and
/// [`EndReason::NotStarted`] if the relay may have any port.
pub(super) async fn relay_of(options: &EmbeddedRelay, id: &str) -> Result<RelayClient, EndReason> {
    if options.bind.port() == 0 {
        let words = "a code alone does not say where its host is: the embedded relay takes any port. Join by the link \
                     that the host shows";
        return Err(EndReason::NotStarted(words.to_owned()));
    }
    let mut retry = StartRetry::new();
    loop {
        match search(options, id, None).await {
            Ok((_, relay)) => return Ok(relay),
            Err(error) => retry.after(error).await.map_err(|error| match error {
                RelayError::Rejected => EndReason::NoSuchHost,
                error => not_found(options, &error),
            })?,
        }
    }
}

fn not_found(options: &EmbeddedRelay, error: &RelayError) -> EndReason {
    let (first, last) = ports(options);
    EndReason::RelayUnreachable(format!(
        "ports {first} to {last} of this machine: {error} A code alone finds the hosts of this machine; join others by \
         the link that they show"
    ))
}

/// Whether another host of this machine has this id. `own_port` is the port of our relay. `listening`: this host listens
/// already, and so may one that started at the same time: of the two, the one with the lower port stays.
pub(super) async fn is_taken(options: &EmbeddedRelay, id: &str, own_port: u16, listening: bool) -> bool {
    let taken = async || {
        let found = timeout(SEARCH_TIMEOUT, search(options, id, Some(own_port))).await.ok()?.ok();
        found.map(|(port, _)| port)
    };
    match taken().await {
        Some(port) if listening && port > own_port => {
            sleep(GIVING_WAY).await;
            taken().await.is_some()
        }
        taken => taken.is_some(),
    }
}

/// Asks all relays at once, and returns the first one that knows the host.
async fn search(options: &EmbeddedRelay, id: &str, except: Option<u16>) -> Result<(u16, RelayClient), RelayError> {
    let http = Http::default();
    let (first, last) = ports(options);
    let mut asked: FuturesUnordered<_> = (first..=last)
        .filter(|port| *port != 0 && Some(*port) != except)
        .flat_map(|port| addresses(options.bind.ip()).into_iter().map(move |host| (port, host)))
        .map(async |(port, host)| {
            let url =
                Url::parse(&format!("http://{host}:{port}/")).map_err(|_| RelayError::NotARelay("its address"))?;
            let relay = RelayClient::sharing(http.clone(), url)?;
            relay.join(id).await.map(|_| (port, relay))
        })
        .collect();
    let mut error = RelayError::NoConnection("no relay listens".to_owned());
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(found) => return Ok(found),
            Err(RelayError::Rejected) => error = RelayError::Rejected,
            // Other programs may listen on such ports, too.
            Err(busy @ RelayError::Busy { .. }) if error != RelayError::Rejected => error = busy,
            Err(_) => {}
        }
    }
    Err(error)
}

/// The first and the last port that an embedded relay with these options may have.
fn ports(options: &EmbeddedRelay) -> (u16, u16) {
    let first = options.bind.port();
    (first, first.saturating_add(options.port_attempts.clamp(1, MAX_PORTS) - 1))
}

/// The hosts under which this machine reaches a listener on an address.
fn addresses(bound: IpAddr) -> Vec<String> {
    match bound {
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![Ipv4Addr::LOCALHOST.to_string(), format!("[{}]", Ipv6Addr::LOCALHOST)]
        }
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.to_string()],
        IpAddr::V4(ip) => vec![ip.to_string()],
        IpAddr::V6(ip) => vec![format!("[{ip}]")],
    }
}
