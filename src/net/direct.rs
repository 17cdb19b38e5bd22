//! The direct path of one native peer: the attempts to open one, the packets over it, and its replacement.
//!
//! The client offers, as originals do. Signals travel inside the connection. Each begins with the number of its attempt,
//! so that a late answer is not taken for the answer to a newer offer.
//!
//! A new offer takes the place of an ICE restart. The old link continues until the new one is open, as with a restart, and
//! the code for a new path is that for the first one.

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    token_bucket::TokenBucket,
    webrtc::{AddressChange, DirectConfig, DirectDialect, DirectEvent, DirectLink, DirectRole, Full},
};
use crate::{
    connection::{Connection, Lane, Path, Timestamp},
    protocol::{Body, PathPolicy, Payload, Signal},
};

const LANES: [Lane; 2] = [Lane::DirectReliable, Lane::DirectUnreliable];
/// How long a replaced link still receives: the peer may change over a little later.
const CHANGEOVER: Duration = Duration::from_secs(2);
/// The pause after an attempt that was over the limit.
const LIMITED_RETRY: Duration = Duration::from_secs(1);

/// How many attempts may begin at once, and per second. Sockets are expensive here, and offers cost their sender nothing.
const ATTEMPTS: f64 = 8.0;
const ATTEMPTS_PER_SECOND: f64 = 1.0;

/// A signal that cannot be read. Native peers never send one.
#[derive(Debug, thiserror::Error)]
#[error("a signal of the peer cannot be read")]
pub(super) struct UnreadableSignal;

/// An event of a link, with the number of its attempt.
pub(super) type AttemptEvent = (u8, DirectEvent);

/// One attempt at a direct path: a link, from its offer to its end.
struct Attempt {
    number: u8,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
    open: bool,
    /// For each lane, a packet that found no room. It is sent before any other.
    blocked: [Option<Payload>; 2],
}

/// The direct path of one native peer.
pub(super) struct DirectPath {
    role: DirectRole,
    /// Absent if the session stays on the relay.
    config: Option<DirectConfig>,
    /// Whether the connection works without a direct path.
    optional: bool,
    wanted: bool,
    /// Oldest first: a replaced one, the current one, one that is not open yet.
    attempts: Vec<Attempt>,
    /// The number of the last offer.
    number: u8,
    retry_at: Option<Timestamp>,
    /// When to drop all attempts but the last open one.
    changed_over_at: Option<Timestamp>,
    backoff: Backoff,
    limit: TokenBucket,
}

impl DirectPath {
    /// Creates the path. Attempts begin with [`want`](Self::want).
    pub fn new(role: DirectRole, policy: PathPolicy, config: DirectConfig) -> Self {
        DirectPath {
            role,
            config: (policy != PathPolicy::RelayOnly).then_some(config),
            optional: policy != PathPolicy::DirectOnly,
            wanted: false,
            attempts: Vec::new(),
            number: 0,
            retry_at: None,
            changed_over_at: None,
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(60)),
            limit: TokenBucket::new(ATTEMPTS, ATTEMPTS_PER_SECOND, Timestamp::ZERO),
        }
    }

    /// Requests a direct path: the side that offers begins an attempt.
    pub fn want(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.wanted, true) && self.role == DirectRole::Offer {
            self.offer(now);
        }
    }

    /// Begins an attempt after a change of this machine's addresses: a better path may exist. If an address is gone, the
    /// current path is suspect.
    pub fn addresses_changed(&mut self, change: AddressChange, connection: &mut Connection, now: Timestamp) {
        if !self.wanted || self.config.is_none() {
            return;
        }
        if change.gone {
            connection.suspect(Path::Direct, now);
        }
        self.backoff.reset();
        match self.role {
            DirectRole::Offer => self.offer(now),
            // Only the client offers. An empty signal requests an offer.
            DirectRole::Answer => drop(connection.send_signal(Bytes::from_static(&[0]))),
        }
    }

    fn offer(&mut self, now: Timestamp) {
        self.number = self.number.wrapping_add(1);
        self.retry_at = if self.begin(self.number, now) { None } else { Some(now + LIMITED_RETRY) };
    }

    /// Begins an attempt, which replaces one that is not open yet. Returns `false` if too many have begun.
    fn begin(&mut self, number: u8, now: Timestamp) -> bool {
        let Some(config) = &self.config else { return true };
        if !self.limit.try_take(now) {
            return false;
        }
        self.attempts.retain(|attempt| attempt.open);
        let (link, events) = DirectLink::start(self.role, DirectDialect::Native, config.clone());
        self.attempts.push(Attempt { number, link, events, open: false, blocked: [None, None] });
        true
    }

    /// Whether the path takes packets.
    pub fn is_open(&self) -> bool {
        self.current().is_some()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn next_timeout(&self) -> Option<Timestamp> {
        [self.retry_at, self.changed_over_at].into_iter().flatten().min()
    }

    /// Handles due timers.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.offer(now);
        }
        if self.changed_over_at.is_some_and(|at| at <= now) {
            self.changed_over_at = None;
            self.drop_replaced();
        }
    }

    /// The index of the attempt that carries packets.
    fn current(&self) -> Option<usize> {
        self.attempts.iter().rposition(|attempt| attempt.open)
    }

    fn drop_replaced(&mut self) {
        if let Some(current) = self.current() {
            self.attempts.drain(..current);
        }
    }

    /// Waits for the next event; forever without a link. Cancel safe.
    pub async fn next(&mut self) -> AttemptEvent {
        poll_fn(|cx| {
            for attempt in &mut self.attempts {
                if let Poll::Ready(Some(event)) = attempt.events.poll_recv(cx) {
                    return Poll::Ready((attempt.number, event));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<AttemptEvent> {
        self.attempts.iter_mut().find_map(|attempt| Some((attempt.number, attempt.events.try_recv().ok()?)))
    }

    /// Handles a signal of the peer.
    ///
    /// # Errors
    ///
    /// [`UnreadableSignal`], which ends the connection.
    pub fn signal(&mut self, signal: &Bytes, now: Timestamp) -> Result<(), UnreadableSignal> {
        let (number, body) = signal.split_first().ok_or(UnreadableSignal)?;
        if body.is_empty() {
            if self.role == DirectRole::Offer && self.wanted {
                self.offer(now);
            }
            return Ok(());
        }
        let Ok(Ok(Body::Signal(signal))) = std::str::from_utf8(body).map(Body::parse) else {
            return Err(UnreadableSignal);
        };
        if self.role == DirectRole::Answer && matches!(signal, Signal::Offer(_)) {
            self.begin(*number, now);
        }
        if let Some(attempt) = self.attempts.iter().rfind(|attempt| attempt.number == *number) {
            attempt.link.signal(signal);
        }
        Ok(())
    }

    /// Handles an event, and returns a diagnostic, if any.
    pub fn event(
        &mut self,
        (number, event): AttemptEvent,
        connection: &mut Connection,
        now: Timestamp,
    ) -> Option<String> {
        let index = self.attempts.iter().rposition(|attempt| attempt.number == number)?;
        match event {
            DirectEvent::Signal(signal) => {
                let mut numbered = BytesMut::new();
                numbered.put_u8(number);
                numbered.put_slice(Body::Signal(signal).to_json().as_bytes());
                // Without a connection the signal has no receiver.
                let _ = connection.send_signal(numbered.freeze());
            }
            DirectEvent::Open { .. } => {
                self.drop_replaced();
                if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.number == number) {
                    attempt.open = true;
                }
                self.changed_over_at = Some(now + CHANGEOVER);
                self.backoff.reset();
                connection.path_up(Path::Direct, now);
            }
            // The caller takes packets, and `transmit` finds room by itself.
            DirectEvent::Packet { .. } | DirectEvent::Writable => {}
            DirectEvent::Diagnostic(text) => return Some(text),
            DirectEvent::Failed(error) => {
                tracing::debug!("no direct path: {error}");
                self.ended(index, connection, now);
                return (!self.optional).then(|| format!("the direct path that this connection needs: {error}"));
            }
            DirectEvent::Closed => self.ended(index, connection, now),
        }
        None
    }

    fn ended(&mut self, index: usize, connection: &mut Connection, now: Timestamp) {
        let was_current = self.current() == Some(index);
        self.attempts.remove(index);
        if was_current {
            self.lost(connection, now);
        } else {
            self.try_again(now);
        }
    }

    /// Begins another attempt later, since the path is silent. The path stays open meanwhile.
    pub fn suspected(&mut self, now: Timestamp) {
        if self.role == DirectRole::Offer && self.config.is_some() && self.retry_at.is_none() {
            self.retry_at = Some(now + self.backoff.next());
        }
    }

    /// Drops the broken path. The side that offers tries again later.
    pub fn lost(&mut self, connection: &mut Connection, now: Timestamp) {
        self.attempts.retain(|attempt| !attempt.open);
        connection.path_down(Path::Direct, now);
        self.try_again(now);
    }

    fn try_again(&mut self, now: Timestamp) {
        if self.role == DirectRole::Offer && self.config.is_some() && self.attempts.is_empty() {
            self.retry_at = Some(now + self.backoff.next());
        }
    }

    /// Sends the packets of `next` while there is room.
    pub fn transmit(&mut self, mut next: impl FnMut(Lane) -> Option<Bytes>) {
        let Some(Attempt { link, blocked, .. }) = self.attempts.iter_mut().rfind(|attempt| attempt.open) else {
            return;
        };
        for (lane, blocked) in LANES.into_iter().zip(blocked) {
            let reliable = lane == Lane::DirectReliable;
            loop {
                let packet = blocked.take().or_else(|| next(lane).map(Payload::Binary));
                let Some(packet) = packet else { break };
                if let Err(Full(packet)) = link.try_send(reliable, packet) {
                    *blocked = Some(packet);
                    break;
                }
            }
        }
    }

    /// Closes the path after what was sent before, and waits until it is gone.
    pub async fn close(&mut self) {
        let Some(current) = self.current() else { return };
        self.attempts.swap_remove(current).link.close().await;
    }
}
