//! The direct path of one native peer: when it is tried, what travels over it, and when it is tried again.
//!
//! The client offers, as originals do. Signals travel inside the connection, on whatever path it has.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    webrtc::{DirectConfig, DirectDialect, DirectEvent, DirectLink, DirectRole, Full},
};
use crate::{
    connection::{Connection, Lane, Path, Time},
    protocol::{Body, Payload, Signal},
};

/// Which ways a connection between two native peers may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathPolicy {
    /// Over the relay first, directly as soon as that works, and back when it breaks.
    #[default]
    Automatic,
    /// Over the relay only: peers never learn each other's addresses.
    RelayOnly,
}

/// Events of a link that may wait; a link that has more waits itself, and slows the peer down.
const EVENTS: usize = 256;
const LANES: [Lane; 2] = [Lane::DirectReliable, Lane::DirectUnreliable];

/// A peer of ours never sends one.
#[derive(Debug, thiserror::Error)]
#[error("a signal of the peer cannot be read")]
pub(super) struct UnreadableSignal;

pub(super) struct DirectPath {
    role: DirectRole,
    config: Option<DirectConfig>,
    link: Option<DirectLink>,
    events: mpsc::Receiver<DirectEvent>,
    open: bool,
    /// For each lane, a packet that found no room. It goes before any other.
    blocked: [Option<Payload>; 2],
    retry_at: Option<Time>,
    backoff: Backoff,
}

impl DirectPath {
    /// Nothing happens before [`start`](Self::start) or an offer.
    pub fn new(role: DirectRole, policy: PathPolicy, config: DirectConfig) -> Self {
        DirectPath {
            role,
            config: (policy == PathPolicy::Automatic).then_some(config),
            link: None,
            events: mpsc::channel(1).1,
            open: false,
            blocked: [None, None],
            retry_at: None,
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(60)),
        }
    }

    /// Looks for a path, unless the policy forbids it.
    pub fn start(&mut self) {
        self.retry_at = None;
        let Some(config) = &self.config else { return };
        let (sender, events) = mpsc::channel(EVENTS);
        self.link = Some(DirectLink::start(self.role, DirectDialect::Native, config.clone(), sender));
        self.events = events;
        self.blocked = [None, None];
        self.open = false;
    }

    /// Whether packets can be handed over.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// When to look again.
    pub fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }

    /// Lets time pass.
    pub fn time_passed(&mut self, now: Time) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.start();
        }
    }

    /// The next event. Cancel safe; pending without a link.
    pub async fn next(&mut self) -> DirectEvent {
        if self.link.is_some()
            && let Some(event) = self.events.recv().await
        {
            return event;
        }
        std::future::pending().await
    }

    /// More events, if there are.
    pub fn try_next(&mut self) -> Option<DirectEvent> {
        self.events.try_recv().ok()
    }

    /// Takes a signal that came over the connection.
    pub fn signalled(
        &mut self,
        signal: &Bytes,
        connection: &mut Connection,
        now: Time,
    ) -> Result<(), UnreadableSignal> {
        let signal = match std::str::from_utf8(signal).map(Body::parse) {
            Ok(Ok(Body::Signal(signal))) => signal,
            _ => return Err(UnreadableSignal),
        };
        // A new offer: the client has given up what was before.
        if self.role == DirectRole::Answer && matches!(signal, Signal::Offer(_)) {
            self.stop(connection, now);
            self.start();
        }
        if let Some(link) = &self.link {
            link.signal(signal);
        }
        Ok(())
    }

    /// Takes an event, and returns what a developer may want to know.
    pub fn event(&mut self, event: DirectEvent, connection: &mut Connection, now: Time) -> Option<String> {
        match event {
            DirectEvent::Signal(signal) => {
                // Without a connection there is nobody to signal to.
                let _ = connection.send_signal(Body::Signal(signal).to_json().into());
            }
            DirectEvent::Open => {
                self.open = true;
                self.backoff.reset();
                connection.path_up(Path::Direct, now);
            }
            // Packets are for the connection, and room is found by looking.
            DirectEvent::Packet { .. } | DirectEvent::Writable => {}
            DirectEvent::Diagnostic(text) => return Some(text),
            DirectEvent::Failed(error) => {
                tracing::debug!("no direct path: {error}");
                self.lost(connection, now);
            }
            DirectEvent::Closed => self.lost(connection, now),
        }
        None
    }

    /// The path is of no use any more. The side that offers tries again later.
    pub fn lost(&mut self, connection: &mut Connection, now: Time) {
        self.stop(connection, now);
        if self.role == DirectRole::Offer && self.config.is_some() {
            self.retry_at = Some(now + self.backoff.next());
        }
    }

    fn stop(&mut self, connection: &mut Connection, now: Time) {
        self.link = None;
        if std::mem::take(&mut self.open) {
            connection.path_down(Path::Direct, now);
        }
    }

    /// Hands over the packets that are ready for it, for as long as there is room.
    pub fn transmit(&mut self, mut next: impl FnMut(Lane) -> Option<Bytes>) {
        let Some(link) = self.link.as_ref().filter(|_| self.open) else { return };
        for (lane, blocked) in LANES.into_iter().zip(&mut self.blocked) {
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

    /// Closes it after what was sent before, and returns when nothing is left of it.
    pub async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }
}
