//! The embedded relays of this machine: a second host gets the next port, and a bare code does not say which.

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
    http::Http, opening::Patience, relay_choice::EmbeddedRelay, relay_client::RelayClient, relay_error::RelayError,
};
use crate::protocol::EndReason;

/// How many ports are asked.
const MAX_PORTS: u16 = 32;
/// How long a host waits for the relays beside its own: some systems say of a port that nobody listens only after
/// seconds.
const NEIGHBOURS: Duration = Duration::from_secs(1);
/// How long two hosts that start at the same time look at each other. The one that gives way is gone by then.
const GIVING_WAY: Duration = Duration::from_millis(500);

/// The relay on this machine whose host has this id.
pub(super) async fn relay_of(options: &EmbeddedRelay, id: &str) -> Result<RelayClient, EndReason> {
    if options.bind.port() == 0 {
        let words = "a code alone does not say where its host is: the embedded relay takes any port. Join by the link \
                     that the host shows";
        return Err(EndReason::NotStarted(words.to_owned()));
    }
    let mut patience = Patience::new();
    loop {
        match ask(options, id, None).await {
            Ok((_, relay)) => return Ok(relay),
            Err(error) => patience.after(error).await.map_err(|error| match error {
                RelayError::Rejected => EndReason::NoSuchHost,
                error => nobody(options, &error),
            })?,
        }
    }
}

fn nobody(options: &EmbeddedRelay, error: &RelayError) -> EndReason {
    let (first, last) = ports(options);
    EndReason::RelayUnreachable(format!(
        "ports {first} to {last} of this machine: {error} A code alone finds the hosts of this machine; join others by \
         the link that they show"
    ))
}

/// Whether another host of this machine has this id. `ours`: the port of our own relay. `listening`: we listen already,
/// and so may somebody who started when we did: of these two, the one with the lower port stays.
pub(super) async fn is_taken(options: &EmbeddedRelay, id: &str, ours: u16, listening: bool) -> bool {
    let taken = async || timeout(NEIGHBOURS, ask(options, id, Some(ours))).await.ok()?.ok().map(|(port, _)| port);
    match taken().await {
        Some(port) if listening && port > ours => {
            sleep(GIVING_WAY).await;
            taken().await.is_some()
        }
        taken => taken.is_some(),
    }
}

/// Asks all at once, and returns the first that knows the host.
async fn ask(options: &EmbeddedRelay, id: &str, except: Option<u16>) -> Result<(u16, RelayClient), RelayError> {
    let http = Http::default();
    let (first, last) = ports(options);
    let mut asked: FuturesUnordered<_> = (first..=last)
        .filter(|port| *port != 0 && Some(*port) != except)
        .flat_map(|port| addresses(options.bind.ip()).into_iter().map(move |host| (port, host)))
        .map(async |(port, host)| {
            let url = Url::parse(&format!("http://{host}:{port}/")).map_err(|_| RelayError::Nonsense("its address"))?;
            let relay = RelayClient::sharing(http.clone(), url)?;
            relay.join(id).await.map(|_| (port, relay))
        })
        .collect();
    let mut error = RelayError::NoConnection("nobody listens".to_owned());
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(found) => return Ok(found),
            Err(RelayError::Rejected) => error = RelayError::Rejected,
            // Other programs listen on such ports, too.
            Err(busy @ RelayError::Busy { .. }) if error != RelayError::Rejected => error = busy,
            Err(_) => {}
        }
    }
    Err(error)
}

/// The first and the last port that an embedded relay of these options takes.
fn ports(options: &EmbeddedRelay) -> (u16, u16) {
    let first = options.bind.port();
    (first, first.saturating_add(options.port_attempts.clamp(1, MAX_PORTS) - 1))
}

/// How this machine reaches what listens on an address.
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
