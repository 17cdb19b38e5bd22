//! The WebRTC offer of a client to a host that may speak the original protocol.

use std::time::Duration;

use bytestring::ByteString;
use n0_future::time::timeout;
use tokio::sync::mpsc;

use super::webrtc::{DirectConfig, DirectDialect, DirectEvent, DirectLink, DirectRole};
use crate::protocol::Signal;

/// How long the introduction waits for the offer, which takes milliseconds if this machine has sockets.
const OFFER_TIMEOUT: Duration = Duration::from_secs(1);

/// A direct path that a client offers to a host that may speak the original protocol.
pub(super) struct Offer {
    sdp: ByteString,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
}

impl Offer {
    /// Starts a direct path and waits for its offer. Returns `None` where no direct path is possible.
    pub async fn create(config: DirectConfig) -> Option<Self> {
        let (link, mut events) = DirectLink::start(DirectRole::Offer, DirectDialect::Plain, config);
        match timeout(OFFER_TIMEOUT, events.recv()).await {
            Ok(Some(DirectEvent::Signal(Signal::Offer(sdp)))) => Some(Offer { sdp, link, events }),
            other => {
                tracing::debug!("no offer for an original host: {other:?}");
                None
            }
        }
    }

    /// The description to send to the host.
    pub fn sdp(&self) -> &ByteString {
        &self.sdp
    }

    /// The path, and its events, once the host has answered.
    pub fn into_link(self) -> (DirectLink, mpsc::Receiver<DirectEvent>) {
        (self.link, self.events)
    }
}
