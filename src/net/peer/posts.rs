//! Posts the peer's packets to the relay, one POST at a time, and handles the answers.

use std::time::Duration;

use n0_future::{
    boxed::BoxFuture,
    time::{sleep, timeout},
};

use super::{NativePeer, Role, next_packet};
use crate::{
    connection::{Lane, Path, Timestamp},
    net::{
        backoff::Backoff,
        page_end,
        peer_link::{PeerInput, PeerOutput, Route},
        relay_client::RelayClient,
        relay_error::RelayError,
    },
    protocol::{Body, NATIVE_VERSION, introduction},
};

/// The bytes of frames in one POST: with base64 and the envelope they stay under the 102,400 bytes that relays take.
pub(super) const POST_LIMIT: usize = 64 * 1024;
/// A POST that is unanswered for this long makes the relay suspect, and not the peer.
const POST_SUSPECT: Duration = Duration::from_secs(2);
/// A POST up to this size is late because it or its answer is lost, and not because the network is slow.
const SMALL: usize = 8 * 1024;

/// How many times a host may be missing at its relay before its client gives up.
const MAX_MISSING: u32 = 5;

/// One POST in flight.
pub(super) struct Post {
    pub answer: BoxFuture<Result<(), RelayError>>,
    since: Timestamp,
    suspect: bool,
    /// Whether to repeat the POST instead of waiting: it belongs to the handshake, and is small.
    handshake: bool,
}

impl Post {
    /// When the POST becomes suspect, if it is not yet.
    pub fn suspect_at(&self) -> Option<Timestamp> {
        (!self.suspect).then_some(self.since + POST_SUSPECT)
    }

    /// Extends the wait by the time of a suspension.
    pub fn extend_by(&mut self, time: Duration) {
        self.since += time;
    }
}

/// Posts the last packet of a client to a host whose relay is lost, within this time. The embedded relay of a suspended
/// host returns with the host, which then does not wait for this client.
pub(super) async fn post_after_loss(relay: RelayClient, route: Route, body: String, within: Duration) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(2));
    let posted = async {
        let mut missing = 0;
        while let Err(error) = relay.clone().send(route.send_to.clone(), route.token.clone(), body.clone()).await {
            // A resumed host listens again a moment after its relay is back.
            missing += u32::from(error == RelayError::Rejected);
            if error == RelayError::BadToken || missing > MAX_MISSING {
                return;
            }
            sleep(backoff.after(&error)).await;
        }
    };
    let _ = timeout(within, posted).await;
}

impl NativePeer {
    /// Takes the relay's path down if a POST is unanswered for too long. Before the connection is open there is no other
    /// path and little time, so such a POST is repeated.
    pub(super) fn suspect_post(&mut self, now: Timestamp) {
        let Some(post) = self.post.as_mut().filter(|post| post.suspect_at().is_some_and(|at| now >= at)) else {
            return;
        };
        if post.handshake {
            self.post = None;
            return self.undelivered(&RelayError::NoConnection("no answer in time".to_owned()), now);
        }
        post.suspect = true;
        self.connection.path_down(Path::Relay, now);
    }

    pub(super) fn start_post(&mut self) {
        let now = self.now();
        let introduced = self.introduced.is_some() && self.may_be_original();
        if self.post.is_some() || !self.relay_up || introduced || self.retry.is_pausing() {
            return;
        }
        let Some(route) = &self.route else { return };
        if let Some(packet) = next_packet(&mut self.connection, &mut self.outbound, Lane::Relay, POST_LIMIT, now) {
            let body = match &self.role {
                Role::Client { offer: Some(offer), .. } => introduction(NATIVE_VERSION, &packet, offer.sdp()),
                _ => Body::Native { version: NATIVE_VERSION, packet }.to_json(),
            };
            let handshake = body.len() <= SMALL && (!self.connected || self.connection.is_establishing());
            let answer = self.cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body);
            self.post = Some(Post { answer: Box::pin(answer), since: now, suspect: false, handshake });
        }
    }

    pub(super) fn posted(&mut self, result: Result<(), RelayError>) {
        let now = self.now();
        let suspect = self.post.take().is_some_and(|post| post.suspect);
        if result.is_err() && page_end::is_closing() {
            // The browser cut it. It is sent again with the goodbye.
            return;
        }
        if let Err(error) = &result
            && error.is_gone()
        {
            let error = error.clone();
            // Nothing else goes over the relay until the session has found it again.
            self.input(PeerInput::RelayDown);
            return self.cx.notify(PeerOutput::RelayGone(error));
        }
        if suspect && self.relay_up {
            self.connection.path_up(Path::Relay, now);
        }
        match result {
            Ok(()) => {
                self.retry.succeeded();
                self.missing_since = None;
                self.introduced.get_or_insert(now);
            }
            Err(error) => self.undelivered(&error, now),
        }
    }

    fn undelivered(&mut self, error: &RelayError, now: Timestamp) {
        tracing::debug!(peer = self.cx.key.0, "a message was not delivered: {error}");
        self.connection.lost_in_flight(Lane::Relay);
        self.retry.failed(error);
        if *error != RelayError::Rejected {
            self.missing_since = None;
        }
        match error {
            // The other side does not listen: the relay is fine.
            RelayError::Rejected => {
                self.missing_since.get_or_insert(now);
            }
            RelayError::BadToken => {
                self.route = None;
                self.cx.notify(PeerOutput::BadToken);
            }
            _ => self.connection.undelivered(now),
        }
    }
}
