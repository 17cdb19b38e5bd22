//! How a host gets its id, and gets it back.

use std::time::Duration;

use n0_future::time::{Instant, sleep, timeout};

use super::{
    backoff::Backoff,
    client::{LATE, unreachable},
    contract::HostOptions,
    directory,
    embedded::Embedded,
    events::EventStream,
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
        Relay::Memory(memory) => Ok(RelayClient::Memory(memory.clone())),
        Relay::Url(url) => RelayClient::at(url),
        Relay::Embedded(options) => RelayClient::at(&embedded.insert(Embedded::start(options).await?).url()),
        Relay::Directory(directory) => match directory::quickest(directory, None).await {
            Ok(url) => RelayClient::http(url),
            Err(error) => Err(error),
        },
    };
    let relay = relay.map_err(unreachable)?;
    let since = Instant::now();
    let mut backoff = Backoff::relay();
    loop {
        match host(&relay, options.id.as_deref()).await {
            Ok((id, access, stream)) => return Ok(Listening { relay, id, access, stream }),
            Err(RelayError::Rejected) if since.elapsed() > IN_USE => return Err(EndReason::HostIdInUse),
            Err(RelayError::Rejected) => sleep(backoff.next()).await,
            Err(error) => return Err(unreachable(error)),
        }
    }
}

/// Asks for the id and listens under it.
async fn host(relay: &RelayClient, id: Option<&str>) -> Result<(String, Access, EventStream), RelayError> {
    let (id, access) = relay.host(id).await?;
    let stream = listen(relay, &id, &access).await?;
    Ok((id, access, stream))
}

/// Listens, and returns when joiners can find us.
async fn listen(relay: &RelayClient, id: &str, access: &Access) -> Result<EventStream, RelayError> {
    let mut stream = relay.listen(access);
    loop {
        match timeout(LATE, stream.next()).await {
            Ok(Ok(_)) => return Ok(stream),
            Ok(Err(error)) => return Err(error),
            // An old relay sends the head of a good answer late. It knows us already if others can join us.
            Err(_) => {
                if relay.join(id).await.is_ok() {
                    return Ok(stream);
                }
            }
        }
    }
}

/// Takes the id again: with the token we have, or, where the relay no longer knows it, with a new one.
pub(super) async fn relisten(relay: RelayClient, id: String, mut access: Access, window: Duration) -> Relistened {
    let since = Instant::now();
    let mut backoff = Backoff::relay();
    loop {
        let error = match listen(&relay, &id, &access).await {
            Ok(stream) => return Ok((access, stream)),
            Err(RelayError::BadToken) => match relay.host(Some(&id)).await {
                Ok((_, fresh)) => {
                    access = fresh;
                    sleep(backoff.next()).await;
                    continue;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        if since.elapsed() > window {
            return Err(match error {
                RelayError::Rejected => EndReason::HostIdInUse,
                error => unreachable(error),
            });
        }
        sleep(backoff.next()).await;
    }
}

pub(super) type Relistened = Result<(Access, EventStream), EndReason>;
