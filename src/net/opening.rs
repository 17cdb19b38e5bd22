//! How an event stream is opened, and for how long a start asks a relay that refuses for now.

use std::time::Duration;

use n0_future::time::{Instant, sleep, timeout};

use super::{
    backoff::Backoff,
    events::EventStream,
    relay_client::{Access, RelayClient},
    relay_error::{MAX_WAIT, RelayError},
};

/// Old relays send the head of a good answer seconds late, but a refusal at once: after this silence we are listening.
const LATE: Duration = Duration::from_millis(250);
/// How long a start waits for a server that is in trouble, as while a relay behind a proxy starts again.
const TROUBLE: Duration = Duration::from_secs(5);
/// How long a start asks again after an answer that is none, of somebody who may be no relay at all.
const NO_ANSWER: Duration = Duration::from_secs(2);
/// How long a start goes on with what is a relay for sure, though requests fail: one that was started anew has its hosts
/// back after some seconds.
const STARTED_ANEW: Duration = Duration::from_secs(10);
/// How long a client asks for a host that the relay does not know: one whose stream broke has it back after a moment.
const MISSING: Duration = Duration::from_secs(2);

/// An event stream that was not refused.
pub(super) struct Opened {
    pub stream: EventStream,
    /// Whether the relay has written to it, and so counts us as listening. An old relay takes its time.
    pub begun: bool,
}

/// Opens the event stream of a token. Behind a proxy that holds it back, it is an error and not a silence.
pub(super) async fn open(relay: &RelayClient, access: &Access) -> Result<Opened, RelayError> {
    let mut stream = relay.listen(access);
    let begun = match timeout(LATE, stream.begun()).await {
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

/// Opens the event stream of a host's token, and returns when joiners can find us.
pub(super) async fn open_host(relay: &RelayClient, id: &str, access: &Access) -> Result<EventStream, RelayError> {
    let Opened { mut stream, mut begun } = open(relay, access).await?;
    // The relay knows us if others can join us.
    while !begun && relay.join(id).await.is_err() {
        if let Ok(first) = timeout(LATE, stream.begun()).await {
            first?;
            begun = true;
        }
    }
    Ok(stream)
}

/// How long a start goes on.
pub(super) struct Patience {
    since: Instant,
    backoff: Backoff,
    /// It has answered as only a relay does.
    is_relay: bool,
    /// A request has failed, so that other errors may follow from the same cause.
    troubled: bool,
    /// When the relay first did not know the host.
    missing: Option<Instant>,
}

impl Patience {
    pub fn new() -> Self {
        Patience { since: Instant::now(), backoff: Backoff::relay(), is_relay: false, troubled: false, missing: None }
    }

    /// It is a relay: what fails from now on is a disturbance, not a wrong URL.
    pub fn relay_found(&mut self) {
        self.is_relay = true;
    }

    /// Waits until the request may be made again, or gives the error back: it is final.
    pub async fn after(&mut self, error: RelayError) -> Result<(), RelayError> {
        let bound = match &error {
            RelayError::Busy { .. } => MAX_WAIT,
            // A token that it has just given, for one: it was started anew.
            RelayError::Status(429 | 500..=599)
            | RelayError::BadToken
            | RelayError::Unreachable(_)
            | RelayError::Moved(_)
            | RelayError::Nonsense(_)
            | RelayError::NoConnection(_)
                if self.is_relay =>
            {
                STARTED_ANEW
            }
            RelayError::Status(429 | 500..=599)
            | RelayError::BadToken
            | RelayError::Unreachable(_)
            | RelayError::Moved(_) => TROUBLE,
            RelayError::Nonsense(_) => NO_ANSWER,
            RelayError::Rejected if self.troubled => STARTED_ANEW,
            RelayError::Rejected => MISSING,
            _ => return Err(error),
        };
        let mut since = self.since;
        match error {
            // A slow request before it was no time to look.
            RelayError::Rejected => since = *self.missing.get_or_insert_with(Instant::now),
            _ => self.troubled = true,
        }
        let told = match &error {
            RelayError::Busy { wait, .. } => *wait,
            _ => Duration::ZERO,
        };
        let pause = self.backoff.next().max(told);
        if since.elapsed().saturating_add(pause) > bound {
            return Err(error);
        }
        sleep(pause).await;
        Ok(())
    }
}
