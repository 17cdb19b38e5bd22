//! Resumption on a new route: both sides prove that they know the secret of the connection.

use bytes::{Bytes, BytesMut};

use super::{
    ResumeError, Timestamp, Tombstone, handshake::SharedSecret, replay_guard::ReplayGuard, retransmission::Retry,
};
use crate::protocol::{
    EndReason,
    frame::{
        Ack,
        handshake_packet::{self, ConnectionId, HandshakePacket},
    },
};

/// How often a client repeats the same resumption request.
const TRIES: u32 = 4;

/// The secret of a connection, and what this side does with it when the client comes back.
#[derive(Debug)]
pub(super) struct Resumption {
    secret: Option<SharedSecret>,
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

    /// Whether an answer with this counter belongs to this request.
    fn awaits(&self, counter: u64) -> bool {
        (self.answered..=self.counter).contains(&counter)
    }
}

/// What the host's answer means to a client that resumes.
#[derive(Debug)]
pub(super) enum ResumeStep<'a> {
    /// The resumption goes on.
    Continue,
    /// The connection is resumed. The host has received what it acknowledges.
    Resumed(Ack<'a>),
    /// The connection has ended on the host's side.
    Gone(EndReason),
    /// Whoever has the id now does not know the connection. The answer is not authenticated.
    Unknown,
}

impl Resumption {
    pub(super) fn client() -> Self {
        Self { secret: None, side: Side::Client { counter: 0, request: None } }
    }

    /// `seed` is the seed of the connection.
    pub(super) fn host(seed: &[u8; 32]) -> Self {
        Self { secret: None, side: Side::Host(ReplayGuard::new(seed)) }
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.side, Side::Client { .. })
    }

    /// Sets the secret on which the handshake has agreed.
    pub(super) fn set_secret(&mut self, secret: Option<&SharedSecret>) {
        self.secret = secret.cloned();
    }

    /// The id of the connection.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.secret.as_ref().map(|secret| secret.id)
    }

    /// What to keep of the connection, which has ended for this reason.
    pub(super) fn tombstone(&self, reason: EndReason) -> Option<Tombstone> {
        self.secret.as_ref().map(|secret| Tombstone::new(secret, reason))
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
        let (Some(secret), Side::Client { counter, request: Some(request) }) = (&self.secret, &mut self.side) else {
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
        let mut packet = handshake_packet::resume(secret.id, request.counter, &request.nonce);
        put_ack(&mut packet);
        Some(secret.key.seal(&[], packet))
    }

    /// Client: processes the host's answer. Only answers with a valid MAC count, because another host may have taken
    /// the id.
    pub(super) fn receive<'a>(&mut self, packet: &Bytes, message: HandshakePacket<'a>) -> ResumeStep<'a> {
        let (Some(secret), Side::Client { request: current, .. }) = (&self.secret, &mut self.side) else {
            return ResumeStep::Continue;
        };
        if let HandshakePacket::Gone { id, counter: handshake_packet::UNASKED, reason } = &message
            && *id == secret.id
            && secret.key.opens(&[], packet)
        {
            return ResumeStep::Gone(reason.clone());
        }
        let Some(request) = current else { return ResumeStep::Continue };
        let is_ours = |id, counter| id == secret.id && request.awaits(counter);
        match message {
            HandshakePacket::Unknown { id, counter, nonce } if is_ours(id, counter) && nonce == request.nonce => {
                ResumeStep::Unknown
            }
            HandshakePacket::ResumeChallenge { id, counter, nonce }
                if is_ours(id, counter) && secret.key.opens(&[], packet) =>
            {
                request.answered = counter;
                // A copy of the challenge is ignored.
                if request.nonce != nonce {
                    (request.nonce, request.retry, request.tries) = (nonce, Retry::new(), 0);
                }
                ResumeStep::Continue
            }
            HandshakePacket::Resumed { id, counter, ack } if is_ours(id, counter) && secret.key.opens(&[], packet) => {
                *current = None;
                ResumeStep::Resumed(ack)
            }
            HandshakePacket::Gone { id, counter, reason } if is_ours(id, counter) && secret.key.opens(&[], packet) => {
                ResumeStep::Gone(reason)
            }
            _ => ResumeStep::Continue,
        }
    }

    /// Host: the largest counter that came with a valid MAC.
    pub(super) fn counter(&self) -> u64 {
        match &self.side {
            Side::Host(guard) => guard.counter(),
            Side::Client { .. } => 0,
        }
    }

    /// Host: checks whether a packet resumes the connection. Returns its counter and the client's acknowledgement.
    /// `next_packet` is the number of the next packet to the client.
    pub(super) fn check<'a>(&mut self, packet: &'a Bytes, next_packet: u64) -> Result<(u64, Ack<'a>), ResumeError> {
        match (&self.secret, &mut self.side) {
            (Some(secret), Side::Host(guard)) => guard.check(packet, secret.id, &secret.key, next_packet),
            _ => Err(ResumeError::NotOpen),
        }
    }

    /// Host: returns the answer to a resumption with this counter. `put_ack` appends the acknowledgement.
    pub(super) fn resumed(&self, counter: u64, put_ack: impl FnOnce(&mut BytesMut)) -> Option<Bytes> {
        let secret = self.secret.as_ref()?;
        let mut packet = handshake_packet::resumed(secret.id, counter);
        put_ack(&mut packet);
        Some(secret.key.seal(&[], packet))
    }

    /// Host: applies the largest packet number that the client received over the relay.
    pub(super) fn acked(&mut self, largest: u64) {
        if let Side::Host(guard) = &mut self.side {
            guard.acked(largest);
        }
    }
}
