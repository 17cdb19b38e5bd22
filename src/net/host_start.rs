//! Starts a host: finds or starts its relay, and listens under the requested id.

use std::time::Duration;

use n0_future::time::{Instant, sleep};

use super::{
    backoff::Backoff, contract::HostOptions, directory, embedded::Embedded, embedded_lookup, events::EventStream,
    listen::open_host, relay_access::Access, relay_client::RelayClient, relay_error::RelayError, relay_options::Relay,
    start_retry::StartRetry,
};
use crate::{
    connection::{MAX_METADATA, MetadataTooLarge},
    protocol::EndReason,
};

/// How long a start waits for an id to become free. A relay notices at once that the stream of a crashed host has ended:
/// an id that stays taken for longer belongs to another host.
const ID_IN_USE: Duration = Duration::from_secs(2);

/// A host that listens.
pub(super) struct Listening {
    pub relay: RelayClient,
    pub id: String,
    pub access: Access,
    pub stream: EventStream,
}

/// Finds the relay, or starts one, and listens under the requested id. Fills `embedded` when it starts one, also if it
/// then fails: the caller stops it.
///
/// # Errors
///
/// The reason for the end of the session.
pub(super) async fn start(options: &HostOptions, embedded: &mut Option<Embedded>) -> Result<Listening, EndReason> {
    let size = options.session.metadata.len();
    if size > MAX_METADATA {
        return Err(EndReason::NotStarted(MetadataTooLarge { size }.to_string()));
    }
    let relay = match &options.session.relay {
        Relay::Memory(memory) => RelayClient::Memory(memory.clone()),
        Relay::Url(url) => RelayClient::at(url).map_err(RelayError::into_not_started)?,
        Relay::Embedded(options) => {
            let embedded = embedded.insert(Embedded::start(options).await?);
            RelayClient::at(&embedded.url()).map_err(RelayError::into_not_started)?
        }
        Relay::Directory(url) => directory::relay(url, None).await?,
    };
    let since = Instant::now();
    let (mut retry, mut backoff) = (StartRetry::new(), Backoff::relay());
    loop {
        match host(&relay, options, embedded.as_ref(), &mut retry).await {
            Ok((id, access, stream)) => return Ok(Listening { relay, id, access, stream }),
            Err(RelayError::Rejected) if since.elapsed() > ID_IN_USE => return Err(EndReason::HostIdInUse),
            Err(RelayError::Rejected) => sleep(backoff.next()).await,
            Err(error) => retry.after(error).await.map_err(|error| relay.unreachable(&error))?,
        }
    }
}

/// Asks for the id and listens under it. An id that another embedded relay of this machine hosts counts as taken, since a
/// bare code would find either of the two hosts.
async fn host(
    relay: &RelayClient,
    options: &HostOptions,
    embedded: Option<&Embedded>,
    retry: &mut StartRetry,
) -> Result<(String, Access, EventStream), RelayError> {
    let is_taken = async |listening| match (&options.session.relay, &options.id, embedded) {
        (Relay::Embedded(options), Some(id), Some(own)) => {
            embedded_lookup::is_taken(options, id, own.port(), listening).await
        }
        _ => false,
    };
    if is_taken(false).await {
        return Err(RelayError::Rejected);
    }
    let (id, access) = relay.host(options.id.as_deref()).await?;
    retry.relay_found();
    let stream = open_host(relay, &id, &access).await?;
    if is_taken(true).await {
        relay.release(&access).await;
        return Err(RelayError::Rejected);
    }
    Ok((id, access, stream))
}
