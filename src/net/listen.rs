//! Opens the event stream of a host or a client.

use std::time::Duration;

use n0_future::time::timeout;

use super::{
    events::EventStream,
    relay_access::{Access, Joined},
    relay_client::RelayClient,
    relay_error::RelayError,
    start_retry::StartRetry,
};

/// Old relays send the head of a good answer seconds late, but a refusal at once: after this silence the stream counts as
/// open.
const LATE_HEAD: Duration = Duration::from_millis(250);

/// An event stream that the relay did not refuse.
struct Opened {
    stream: EventStream,
    /// Whether the relay has written to the stream, which shows that it counts us as listening. Old relays write late.
    begun: bool,
}

/// Opens the event stream of a token. A stream that a proxy holds back is an error, and not a silence.
async fn open(relay: &RelayClient, access: &Access) -> Result<Opened, RelayError> {
    let mut stream = relay.listen(access);
    let begun = match timeout(LATE_HEAD, stream.begun()).await {
        Ok(begun) => begun.map(|()| true),
        // A relay that answers pings writes a comment at once.
        Err(_) => tokio::select! {
            begun = stream.begun() => begun.map(|()| true),
            is_new = relay.answers_pings() => match is_new {
                true => stream.begun().await.map(|()| true),
                false => Ok(false),
            }
        },
    };
    Ok(Opened { begun: begun?, stream })
}

/// Opens the event stream of a host's token. Returns once clients can join the host.
///
/// # Errors
///
/// [`RelayError::Rejected`] if another host has the id, [`RelayError::BadToken`] after a restart of the relay, and errors of the
/// stream.
pub(super) async fn open_host(relay: &RelayClient, id: &str, access: &Access) -> Result<EventStream, RelayError> {
    let Opened { mut stream, mut begun } = open(relay, access).await?;
    // The relay knows the host if others can join it.
    while !begun && relay.join(id).await.is_err() {
        if let Ok(first) = timeout(LATE_HEAD, stream.begun()).await {
            first?;
            begun = true;
        }
    }
    Ok(stream)
}

/// Asks the relay for a client token and opens its event stream.
///
/// # Errors
///
/// [`RelayError::Rejected`] if the relay does not know the host, and errors of the requests.
pub(super) async fn join(
    relay: &RelayClient,
    id: &str,
    retry: &mut StartRetry,
) -> Result<(Joined, EventStream), RelayError> {
    let joined = relay.join(id).await?;
    retry.relay_found();
    let Opened { stream, .. } = open(relay, &joined.access).await?;
    Ok((joined, stream))
}
