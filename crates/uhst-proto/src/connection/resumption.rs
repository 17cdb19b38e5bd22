//! Resumption on a new route: both sides prove that they know the keys of the connection.

use core::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use super::{ResumeError, Timestamp, keys::LastingKeys, replay_guard::ReplayGuard, retransmission::Retry};
use crate::protocol::{
    EndReason,
    frame::{
        self,
        handshake_packet::{self, ConnectionId, HandshakePacket},
    },
};

/// How often a client repeats the same resumption request.
const TRIES: u32 = 4;

/// The lasting keys of a connection, and what this side does with it when the client comes back.
#[derive(Debug)]
pub(super) struct Resumption {
    keys: Option<LastingKeys>,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Client {
        /// The counter of the last request. Each request has a larger one, unless it repeats another.
        counter: u64,
        /// The request in progress.
        request: Option<ResumeRequest>,
    },
    Host(ReplayGuard),
}

/// A client's request to resume. It is repeated until the host answers.
#[derive(Debug)]
struct ResumeRequest {
    counter: u64,
    /// The counter of the last challenge, or of the first request before the first one. The answers may be late: those
    /// from this counter on belong to this route, and count.
    answered: u64,
    /// Proves that the request is new, once the host has chosen it. Zero before.
    nonce: [u8; 16],
    retry: Retry,
    tries: u32,
}

impl ResumeRequest {
    fn new(counter: u64) -> Self {
        Self { counter, answered: counter, nonce: [0; 16], retry: Retry::new(), tries: 0 }
    }

    /// The counters of the answers that belong to this request.
    fn awaited(&self) -> RangeInclusive<u64> {
        self.answered..=self.counter
    }
}

/// What the host's answer means to a client that resumes.
#[derive(Debug)]
pub(super) enum ResumeStep {
    /// The resumption goes on.
    Continue,
    /// The connection is resumed. The host has received what this acknowledges.
    Resumed(Bytes),
    /// The connection has ended on the host's side.
    Gone(EndReason),
    /// Whoever has the id now does not know the connection. The answer is not authenticated.
    Unknown,
}

impl Resumption {
    pub(super) fn client() -> Self {
        Self { keys: None, side: Side::Client { counter: 0, request: None } }
    }

    /// `seed` is the seed of the connection.
    pub(super) fn host(seed: &[u8; 32]) -> Self {
        Self { keys: None, side: Side::Host(ReplayGuard::new(seed)) }
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.side, Side::Client { .. })
    }

    /// Sets the keys on which the handshake has agreed.
    pub(super) fn set_keys(&mut self, keys: Option<&LastingKeys>) {
        self.keys = keys.cloned();
    }

    /// The id of the connection.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.keys.as_ref().map(|keys| keys.id)
    }

    /// The keys, once there are any.
    pub(super) fn keys(&self) -> Option<&LastingKeys> {
        self.keys.as_ref()
    }

    /// Client: starts a new request, because the relay path is up again.
    pub(super) fn start(&mut self) {
        if let Side::Client { counter, request } = &mut self.side {
            *counter += 1;
            *request = Some(ResumeRequest::new(*counter));
        }
    }

    /// Client: stops the request in progress.
    pub(super) fn stop(&mut self) {
        if let Side::Client { request, .. } = &mut self.side {
            *request = None;
        }
    }

    fn request_mut(&mut self) -> Option<&mut ResumeRequest> {
        match &mut self.side {
            Side::Client { request, .. } => request.as_mut(),
            Side::Host(_) => None,
        }
    }

    fn request(&self) -> Option<&ResumeRequest> {
        match &self.side {
            Side::Client { request, .. } => request.as_ref(),
            Side::Host(_) => None,
        }
    }

    /// Whether a request is in progress. Until the host has proven itself, another host may have taken the id, so the
    /// relay path carries nothing else.
    pub(super) fn is_pending(&self) -> bool {
        self.request().is_some()
    }

    /// When to repeat the request.
    pub(super) fn next_retry(&self) -> Option<Timestamp> {
        self.request()?.retry.at()
    }

    /// Applies the passing of time.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if let Some(request) = self.request_mut() {
            request.retry.advance(now);
        }
    }

    /// Repeats the request at once, because the relay failed to deliver it.
    pub(super) fn repeat(&mut self) {
        if let Some(request) = self.request_mut() {
            request.retry = Retry::new();
        }
    }

    /// Returns the request to send now. `put_ack` appends the acknowledgement.
    pub(super) fn poll(&mut self, now: Timestamp, put_ack: impl FnOnce(&mut BytesMut)) -> Option<Bytes> {
        let (Some(keys), Side::Client { counter, request: Some(request) }) = (&self.keys, &mut self.side) else {
            return None;
        };
        if !request.retry.poll(now) {
            return None;
        }
        request.tries += 1;
        if request.tries > TRIES {
            // The host may already have completed this resumption, and then challenges a new one. Otherwise the nonce
            // still holds, so that a host whose answers are later than this needs to give it only once.
            *counter += 1;
            (request.counter, request.tries) = (*counter, 1);
        }
        let mut ack = BytesMut::new();
        put_ack(&mut ack);
        Some(keys.control.seal(handshake_packet::resume(keys.id, request.counter, &request.nonce), &ack))
    }

    /// Client: processes the host's answer. Only answers that the host has sealed count, because another host may have
    /// taken the id.
    pub(super) fn receive(&mut self, message: HandshakePacket<'_>) -> ResumeStep {
        let (Some(keys), Side::Client { request: current, .. }) = (&self.keys, &mut self.side) else {
            return ResumeStep::Continue;
        };
        let awaited = current.as_ref().map(ResumeRequest::awaited);
        let is_ours = |id, counter| id == keys.id && awaited.as_ref().is_some_and(|awaited| awaited.contains(&counter));
        match message {
            HandshakePacket::Gone { id, counter, sealed }
                if is_ours(id, counter) || id == keys.id && counter == handshake_packet::UNASKED =>
            {
                let reason = keys.control.open(sealed).and_then(|contents| frame::read_reason(&contents).ok());
                return reason.map_or(ResumeStep::Continue, ResumeStep::Gone);
            }
            HandshakePacket::Resumed { id, counter, sealed } if is_ours(id, counter) => {
                if let Some(ack) = keys.control.open(sealed) {
                    *current = None;
                    return ResumeStep::Resumed(ack);
                }
            }
            HandshakePacket::Unknown { id, counter, nonce }
                if is_ours(id, counter) && current.as_ref().is_some_and(|request| request.nonce == nonce) =>
            {
                return ResumeStep::Unknown;
            }
            HandshakePacket::ResumeChallenge { id, counter, nonce, sealed } if is_ours(id, counter) => {
                if let Some(request) = current.as_mut()
                    && keys.control.open(sealed).is_some()
                {
                    request.answered = counter;
                    // A copy of the challenge is ignored.
                    if request.nonce != nonce {
                        (request.nonce, request.retry, request.tries) = (nonce, Retry::new(), 0);
                    }
                }
            }
            _ => {}
        }
        ResumeStep::Continue
    }

    /// Host: the largest counter that came from the client.
    pub(super) fn counter(&self) -> u64 {
        match &self.side {
            Side::Host(guard) => guard.counter(),
            Side::Client { .. } => 0,
        }
    }

    /// Host: checks whether a packet resumes the connection. Returns its counter and the client's acknowledgement.
    /// `next_packet` is the number of the next packet to the client.
    pub(super) fn check(&mut self, packet: &Bytes, next_packet: u64) -> Result<(u64, Bytes), ResumeError> {
        match (&self.keys, &mut self.side) {
            (Some(keys), Side::Host(guard)) => guard.check(packet, keys, next_packet),
            _ => Err(ResumeError::NotOpen),
        }
    }

    /// Host: returns the answer to a resumption with this counter. `put_ack` appends the acknowledgement.
    pub(super) fn resumed(&self, counter: u64, put_ack: impl FnOnce(&mut BytesMut)) -> Option<Bytes> {
        let keys = self.keys.as_ref()?;
        let mut ack = BytesMut::new();
        put_ack(&mut ack);
        Some(keys.control.seal(handshake_packet::resumed(keys.id, counter), &ack))
    }

    /// Host: applies the largest packet number that the client received over the relay.
    pub(super) fn acked(&mut self, largest: u64) {
        if let Side::Host(guard) = &mut self.side {
            guard.acked(largest);
        }
    }
}
