//! The relay of a running session: its event stream, the loss of it, and the reconnection.

use std::time::Duration;

use futures_util::future::OptionFuture;
use n0_future::{
    boxed::BoxFuture,
    time::{Instant, sleep},
};
use url::Url;

use super::{
    backoff::Backoff,
    events::{EventStream, StreamItem},
    listen::{join, open_host},
    page_end,
    relay_access::Access,
    relay_client::RelayClient,
    relay_error::RelayError,
    start_retry::StartRetry,
    webrtc::{AddressChange, AddressWatch},
};
use crate::protocol::{StreamEvent, StreamEventError};

/// What happens at the relay of a session.
#[derive(Debug)]
pub(super) enum RelayEvent {
    /// The relay sent an event.
    Event(StreamEvent),
    /// The relay sent an event that cannot be read. The stream continues.
    Malformed(StreamEventError),
    /// The stream is lost. The session reconnects.
    Lost(RelayError),
    /// The stream is open again.
    Back {
        /// Whether the relay answers at another URL than before.
        moved: bool,
    },
    /// A reconnection failed. The session tries again.
    StillLost(RelayError),
    /// The addresses of this machine have changed. Follows a [`Lost`](Self::Lost) that this caused.
    AddressesChanged(AddressChange),
}

/// How a session reconnects.
enum Reconnect {
    /// A host listens under its id again, and retries for this long before it reports a failure.
    Host { window: Duration },
    /// A client joins again, and reports each failure. After a break the old token may be worth nothing, and a new one
    /// costs one request.
    Client { backoff: Backoff },
}

type Reconnection = BoxFuture<Result<(Access, EventStream), RelayError>>;

/// The relay of one session. Reconnects by itself.
pub(super) struct RelaySession {
    relay: RelayClient,
    id: String,
    access: Access,
    stream: Option<EventStream>,
    reconnect: Reconnect,
    /// Present while the stream is lost.
    reconnection: Option<Reconnection>,
    addresses: AddressWatch,
    /// A change to report after the loss that it caused.
    pending_change: Option<AddressChange>,
    /// The URL at which the relay answered last.
    url: Option<Url>,
}

impl RelaySession {
    /// Creates the session of a host that listens.
    pub fn of_host(relay: RelayClient, id: String, access: Access, stream: EventStream, window: Duration) -> Self {
        Self::new(relay, id, access, stream, Reconnect::Host { window })
    }

    /// Creates the session of a client that has joined.
    pub fn of_client(relay: RelayClient, id: String, access: Access, stream: EventStream) -> Self {
        Self::new(relay, id, access, stream, Reconnect::Client { backoff: Backoff::relay() })
    }

    fn new(relay: RelayClient, id: String, access: Access, stream: EventStream, reconnect: Reconnect) -> Self {
        RelaySession {
            url: relay.url(),
            relay,
            id,
            access,
            stream: Some(stream),
            reconnect,
            reconnection: None,
            addresses: AddressWatch::new(),
            pending_change: None,
        }
    }

    /// The client of the relay.
    pub fn client(&self) -> &RelayClient {
        &self.relay
    }

    /// The id of the host.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The token in use, and its URLs.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> RelayEvent {
        if let Some(change) = self.pending_change.take() {
            return RelayEvent::AddressesChanged(change);
        }
        loop {
            tokio::select! {
                Some(item) = OptionFuture::from(self.stream.as_mut().map(EventStream::next)) => match item {
                    Ok(StreamItem::Event(event)) => return RelayEvent::Event(event),
                    Ok(StreamItem::Malformed(error)) => return RelayEvent::Malformed(error),
                    Ok(StreamItem::Open | StreamItem::Alive) => {}
                    // The browser cut it. Requests that outlive the page still reach the relay.
                    Err(_) if page_end::is_closing() => self.stream = None,
                    Err(error) => {
                        self.give_up_stream();
                        return RelayEvent::Lost(error);
                    }
                },
                Some(result) = OptionFuture::from(self.reconnection.as_mut()) => return self.reconnected(result),
                change = self.addresses.changed() => {
                    if change.gone && self.relay.forget_connections() && self.give_up_stream() {
                        self.pending_change = Some(change);
                        return RelayEvent::Lost(RelayError::Unreachable("an address of this machine is gone".to_owned()));
                    }
                    if self.reconnection.is_some() {
                        // The network may be there again, and the request in progress may have lost it.
                        self.start_reconnection(Duration::ZERO);
                    }
                    return RelayEvent::AddressesChanged(change);
                }
            }
        }
    }

    /// Closes the stream after an error elsewhere has shown that the relay is lost, and reconnects. The stream itself may
    /// stay silent for long before it breaks. Returns `false` if it was lost already.
    pub fn give_up_stream(&mut self) -> bool {
        let was_open = self.stream.take().is_some();
        if was_open {
            self.start_reconnection(Duration::ZERO);
        }
        was_open
    }

    fn start_reconnection(&mut self, pause: Duration) {
        let (relay, id) = (self.relay.clone(), self.id.clone());
        self.reconnection = Some(match self.reconnect {
            Reconnect::Host { window } => Box::pin(relisten(relay, id, self.access.clone(), window)),
            Reconnect::Client { .. } => Box::pin(rejoin(relay, id, pause)),
        });
    }

    fn reconnected(&mut self, result: Result<(Access, EventStream), RelayError>) -> RelayEvent {
        match result {
            Ok((access, stream)) => {
                (self.access, self.stream, self.reconnection) = (access, Some(stream), None);
                if let Reconnect::Client { backoff } = &mut self.reconnect {
                    backoff.reset();
                }
                let url = self.relay.url();
                let moved = url != self.url;
                self.url = url;
                RelayEvent::Back { moved }
            }
            Err(error) => {
                let pause = match &mut self.reconnect {
                    Reconnect::Host { .. } => Duration::ZERO,
                    Reconnect::Client { backoff } => backoff.after(&error),
                };
                self.start_reconnection(pause);
                RelayEvent::StillLost(error)
            }
        }
    }
}

async fn rejoin(relay: RelayClient, id: String, pause: Duration) -> Result<(Access, EventStream), RelayError> {
    sleep(pause).await;
    let (joined, stream) = join(&relay, &id, &mut StartRetry::new()).await?;
    Ok((joined.access, stream))
}

/// Listens under the id again. Asks for a new token if the relay does not know the old one any more, or redirects to
/// another relay, which must not see it. Fails with [`RelayError::Rejected`] if another host has the id.
async fn relisten(
    relay: RelayClient,
    id: String,
    mut access: Access,
    window: Duration,
) -> Result<(Access, EventStream), RelayError> {
    let since = Instant::now();
    let mut backoff = Backoff::relay();
    // A relay that redirected us may be gone by the end, and its error would hide that the id is taken.
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
            return Err(if is_taken { RelayError::Rejected } else { error });
        }
        sleep(backoff.after(&error)).await;
    }
}
