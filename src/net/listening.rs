//! How a host gets its id, and gets it back.

use std::time::Duration;

use n0_future::time::{Instant, sleep};

use super::{
    backoff::Backoff,
    client::not_started,
    contract::HostOptions,
    directory,
    embedded::Embedded,
    events::EventStream,
    here,
    opening::{Patience, open_host},
    relay_choice::Relay,
    relay_client::{Access, RelayClient},
    relay_error::RelayError,
};
use crate::{
    connection::{MAX_METADATA, MetadataTooLarge},
    protocol::EndReason,
};

/// How long a start waits for an id to become free: a relay notices the end of a crashed host's stream at once, so
/// whoever holds the id for longer is somebody else.
const IN_USE: Duration = Duration::from_secs(2);
/// A host that listens.
pub(super) struct Listening {
    pub relay: RelayClient,
    pub id: String,
    pub access: Access,
    pub stream: EventStream,
}

/// Finds the relay, or starts one, and listens under the wanted id.
pub(super) async fn start(options: &HostOptions, embedded: &mut Option<Embedded>) -> Result<Listening, EndReason> {
    let size = options.session.metadata.len();
    if size > MAX_METADATA {
        return Err(EndReason::NotStarted(MetadataTooLarge { size }.to_string()));
    }
    let relay = match &options.session.relay {
        Relay::Memory(memory) => RelayClient::Memory(memory.clone()),
        Relay::Url(url) => RelayClient::at(url).map_err(not_started)?,
        Relay::Embedded(options) => {
            let embedded = embedded.insert(Embedded::start(options).await?);
            RelayClient::at(&embedded.url()).map_err(not_started)?
        }
        Relay::Directory(url) => directory::relay(url, None).await?,
    };
    let since = Instant::now();
    let (mut patience, mut backoff) = (Patience::new(), Backoff::relay());
    loop {
        match host(&relay, options, embedded.as_ref(), &mut patience).await {
            Ok((id, access, stream)) => return Ok(Listening { relay, id, access, stream }),
            Err(RelayError::Rejected) if since.elapsed() > IN_USE => return Err(EndReason::HostIdInUse),
            Err(RelayError::Rejected) => sleep(backoff.next()).await,
            Err(error) => patience.after(error).await.map_err(|error| relay.unreachable(&error))?,
        }
    }
}

/// Asks for the id and listens under it. An id that another embedded relay of this machine has is taken, too: a bare
/// code would find either of the two.
async fn host(
    relay: &RelayClient,
    options: &HostOptions,
    embedded: Option<&Embedded>,
    patience: &mut Patience,
) -> Result<(String, Access, EventStream), RelayError> {
    let is_taken = async |listening| match (&options.session.relay, &options.id, embedded) {
        (Relay::Embedded(options), Some(id), Some(own)) => here::is_taken(options, id, own.port(), listening).await,
        _ => false,
    };
    if is_taken(false).await {
        return Err(RelayError::Rejected);
    }
    let (id, access) = relay.host(options.id.as_deref()).await?;
    patience.relay_found();
    let stream = open_host(relay, &id, &access).await?;
    if is_taken(true).await {
        relay.release(&access).await;
        return Err(RelayError::Rejected);
    }
    Ok((id, access, stream))
}

/// Takes the id again: with the token we have, or with a new one, where the relay no longer knows it, or sends us to
/// another relay, which must not see it.
pub(super) async fn relisten(relay: RelayClient, id: String, mut access: Access, window: Duration) -> Relistened {
    let since = Instant::now();
    let mut backoff = Backoff::relay();
    // The relay that has sent us on may be gone when this ends, and its last error would be that.
    let mut is_taken = false;
    loop {
        let error = match open_host(&relay, &id, &access).await {
            Ok(stream) => return Ok((access, stream)),
            Err(RelayError::BadToken | RelayError::Moved(_)) => match relay.host(Some(&id)).await {
                Ok((_, fresh)) => {
                    access = fresh;
                    sleep(backoff.next()).await;
                    continue;
                }
                Err(error) => {
                    is_taken |= error == RelayError::Rejected;
                    error
                }
            },
            Err(error) => error,
        };
        if since.elapsed() > window {
            return Err(match error {
                _ if is_taken => EndReason::HostIdInUse,
                RelayError::Rejected => EndReason::HostIdInUse,
                error => relay.unreachable(&error),
            });
        }
        sleep(backoff.next().max(error.wait())).await;
    }
}

pub(super) type Relistened = Result<(Access, EventStream), EndReason>;
