//! The direct paths of one native peer: when one is looked for, what travels over it, and when another takes its place.
//!
//! The client offers, as originals do. Signals travel inside the connection, each behind the number of the attempt it
//! belongs to, so that an answer which comes late is not taken for the answer to a newer offer.
//!
//! A new offer instead of an ICE restart: the old link carries on until the new one is open, which is what a restart
//! would give, and finding a way again is the same code as finding the first one.

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    webrtc::{AddressChange, DirectConfig, DirectDialect, DirectEvent, DirectLink, DirectRole, Full},
};
use crate::{
    connection::{Connection, Lane, Path, Timestamp},
    protocol::{Body, PathPolicy, Payload, Signal},
};

/// Events of a link that may wait; a link that has more waits itself, and slows the peer down.
const EVENTS: usize = 256;
const LANES: [Lane; 2] = [Lane::DirectReliable, Lane::DirectUnreliable];
/// How long a link that has a successor is still listened to: the peer may change over a little later.
const CHANGEOVER: Duration = Duration::from_secs(2);

/// How many attempts may begin at once, and each second: sockets are dear, and offers cost their sender nothing.
const ATTEMPTS: f64 = 8.0;
const ATTEMPTS_PER_SECOND: f64 = 1.0;

/// A peer of ours never sends one.
#[derive(Debug, thiserror::Error)]
#[error("a signal of the peer cannot be read")]
pub(super) struct UnreadableSignal;

/// What happened on which attempt.
pub(super) type AttemptEvent = (u8, DirectEvent);

/// One link, from its offer to its end.
struct Attempt {
    number: u8,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
    open: bool,
    /// For each lane, a packet that found no room. It goes before any other.
    blocked: [Option<Payload>; 2],
}

pub(super) struct DirectPath {
    role: DirectRole,
    config: Option<DirectConfig>,
    /// Whether the connection goes on without one.
    optional: bool,
    wanted: bool,
    /// The oldest first: one that had to give way, the one that carries messages, one on its way to be open.
    attempts: Vec<Attempt>,
    /// The number of the last offer.
    number: u8,
    retry_at: Option<Timestamp>,
    /// When all but the last open one are let go.
    changed_over_at: Option<Timestamp>,
    backoff: Backoff,
    /// How many attempts may begin, and as of when.
    budget: (f64, Timestamp),
}

impl DirectPath {
    /// Nothing happens before [`want`](Self::want).
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
            budget: (ATTEMPTS, Timestamp::ZERO),
        }
    }

    /// From here on a path is wanted: the side that offers begins to look for one.
    pub fn want(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.wanted, true) && self.role == DirectRole::Offer {
            self.offer(now);
        }
    }

    /// There may be a better path now, and the one in use may be dead: then it waits for a sign of life.
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
            // Only the client can offer. An empty signal asks it to.
            DirectRole::Answer => drop(connection.send_signal(Bytes::from_static(&[0]))),
        }
    }

    fn offer(&mut self, now: Timestamp) {
        self.number = self.number.wrapping_add(1);
        self.retry_at = if self.begin(self.number, now) { None } else { Some(now + Duration::from_secs(1)) };
    }

    /// Begins an attempt, in place of one that is not open yet. `false`: too many have begun.
    fn begin(&mut self, number: u8, now: Timestamp) -> bool {
        let Some(config) = &self.config else { return true };
        let (left, since) = self.budget;
        let left = ATTEMPTS.min(left + now.saturating_sub(since).as_secs_f64() * ATTEMPTS_PER_SECOND);
        let may = left >= 1.0;
        self.budget = (if may { left - 1.0 } else { left }, now);
        if !may {
            return false;
        }
        self.attempts.retain(|attempt| attempt.open);
        let (sender, events) = mpsc::channel(EVENTS);
        let link = DirectLink::start(self.role, DirectDialect::Native, config.clone(), sender);
        self.attempts.push(Attempt { number, link, events, open: false, blocked: [None, None] });
        true
    }

    /// Whether packets can be handed over.
    pub fn is_open(&self) -> bool {
        self.carrier().is_some()
    }

    /// When to [`time_passed`](Self::time_passed).
    pub fn next_timeout(&self) -> Option<Timestamp> {
        [self.retry_at, self.changed_over_at].into_iter().flatten().min()
    }

    /// Lets time pass.
    pub fn time_passed(&mut self, now: Timestamp) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.offer(now);
        }
        if self.changed_over_at.is_some_and(|at| at <= now) {
            self.changed_over_at = None;
            self.let_go_of_the_old();
        }
    }

    fn carrier(&self) -> Option<usize> {
        self.attempts.iter().rposition(|attempt| attempt.open)
    }

    fn let_go_of_the_old(&mut self) {
        if let Some(carrier) = self.carrier() {
            self.attempts.drain(..carrier);
        }
    }

    /// The next event. Cancel safe; pending without a link.
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

    /// More events, if there are.
    pub fn try_next(&mut self) -> Option<AttemptEvent> {
        self.attempts.iter_mut().find_map(|attempt| Some((attempt.number, attempt.events.try_recv().ok()?)))
    }

    /// Takes a signal that came over the connection.
    pub fn signalled(&mut self, signal: &Bytes, now: Timestamp) -> Result<(), UnreadableSignal> {
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

    /// Takes an event, and returns what a developer may want to know.
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
                // Without a connection there is nobody to signal to.
                let _ = connection.send_signal(numbered.freeze());
            }
            DirectEvent::Open { .. } => {
                self.let_go_of_the_old();
                if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.number == number) {
                    attempt.open = true;
                }
                self.changed_over_at = Some(now + CHANGEOVER);
                self.backoff.reset();
                connection.path_up(Path::Direct, now);
            }
            // Packets are for the connection, and room is found by looking.
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
        let carried = self.carrier() == Some(index);
        self.attempts.remove(index);
        if carried {
            self.lost(connection, now);
        } else {
            self.try_again(now);
        }
    }

    /// Nothing comes over the path. It stays, in case that something comes yet, and the side that offers looks for another.
    pub fn suspected(&mut self, now: Timestamp) {
        if self.role == DirectRole::Offer && self.config.is_some() && self.retry_at.is_none() {
            self.retry_at = Some(now + self.backoff.next());
        }
    }

    /// The path is of no use any more. The side that offers tries again later.
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

    /// Hands over the packets that are ready for it, for as long as there is room.
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

    /// Closes it after what was sent before, and returns when nothing of it is left.
    pub async fn close(&mut self) {
        let Some(carrier) = self.carrier() else { return };
        self.attempts.swap_remove(carrier).link.close().await;
    }
}
