//! The task of one native peer: a [`Connection`] between the game's commands and the relay's messages.
//!
//! Hosts and clients run the same task. One POST is in flight at a time, so that order is kept, and everything queued
//! meanwhile goes into the next one.

mod inputs;
mod posts;
mod upward;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::OptionFuture;
use n0_future::{
    boxed::BoxFuture,
    task,
    time::{Instant, sleep_until},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::posts::{POST_LIMIT, Post, leave_word};
use super::{
    backoff::Backoff,
    conditioner::Conditioner,
    contract::{Admission, EventKind, PeerCommand, PeerHandle, PeerLimits, Received},
    direct::{AttemptEvent, DirectPath},
    peer_link::{Outcome, PeerContext, PeerInput, Route},
    places::Places,
    plain::Offer,
    webrtc::{DirectEvent, DirectRole},
};
use crate::{
    connection::{Connection, ConnectionConfig, Lane, MIN_PACKET_LIMIT, Path, Timestamp},
    protocol::{Body, EndReason, NATIVE_VERSION},
};

/// How long a client waits for any native word of a host that may be an original.
const INTRODUCTION: Duration = Duration::from_millis(1500);
/// How often the game is looked at that has much to take, so that the peer learns soon that there is room again.
const INBOX_CHECK: Duration = Duration::from_millis(10);
/// Batches that are taken before the time, once it has come.
const BUSY: u32 = 4;
/// A task that wakes up so much later than it asked for was suspended, with its process or its machine.
const SLEEP: Duration = Duration::from_millis(500);
/// When the last word is posted again that the relay refused.
const LAST_WORD_RETRY: Duration = Duration::from_millis(100);
/// Inputs or commands taken before the connection is driven again.
const BATCH: usize = 1024;

/// Which side of the connection we are.
pub(super) enum Role {
    /// `certain`: the relay has told that the host is native. Else it may be an original, and is made this offer.
    Client {
        certain: bool,
        offer: Option<Offer>,
    },
    Host {
        admission: Admission,
        places: Arc<Places>,
    },
}

fn native_limits(config: &ConnectionConfig, max_message: usize) -> PeerLimits {
    let (send_buffer, catch_up_timeout) = (config.send_buffer, config.catch_up_timeout);
    PeerLimits { max_message, send_buffer, text_only: false, native: true, catch_up_timeout }
}

pub(super) struct NativePeer {
    cx: PeerContext,
    connection: Connection,
    direct: DirectPath,
    /// What the network does to packets on their way out and in, if it is to be worse than it is.
    outbound: Conditioner,
    inbound: Conditioner,
    role: Role,
    origin: Instant,
    route: Option<Route>,
    relay_up: bool,
    post: Option<Post>,
    retry_at: Option<Timestamp>,
    backoff: Backoff,
    handle: PeerHandle,
    commands: mpsc::UnboundedReceiver<PeerCommand>,
    batch: Vec<Received>,
    identified: bool,
    refused: bool,
    connected: bool,
    /// As the host counts it.
    interrupted: bool,
    /// A native word of the other side was heard.
    heard: bool,
    /// Our introduction reached the relay: an original gets it once only.
    introduced: Option<Timestamp>,
    /// What the connection holds of the send queue, by its cost.
    held: usize,
    /// What went up so far, by its cost, and how much of it the connection knows to be taken.
    delivered: usize,
    consumed: usize,
    place: Option<OwnedSemaphorePermit>,
    /// It is admitted, and waits for a place.
    waiting: Option<BoxFuture<Option<OwnedSemaphorePermit>>>,
    /// What a joiner says of itself.
    metadata: Bytes,
    /// Batches taken since the time came.
    busy: u32,
    reported_foreign: bool,
    reported_stranger: bool,
    ended: Option<EndReason>,
    /// The game knows this peer as an original, and has sent these texts to it.
    adopted: Option<Vec<ByteString>>,
    /// What the game says to the original that this peer was taken for.
    former: Option<mpsc::UnboundedReceiver<PeerCommand>>,
}

impl NativePeer {
    /// With a connection that began at [`Timestamp::ZERO`]. Boxed: each future that it passes through would have room for it.
    pub fn new(cx: PeerContext, role: Role, route: Option<Route>, mut connection: Connection) -> Box<Self> {
        if matches!(role, Role::Client { .. }) {
            connection.path_up(Path::Relay, Timestamp::ZERO);
        }
        let (handle, commands) = PeerHandle::new(native_limits(&cx.config, cx.config.max_message));
        let direct_role = if matches!(role, Role::Client { .. }) { DirectRole::Offer } else { DirectRole::Answer };
        let direct = DirectPath::new(direct_role, cx.paths, cx.direct.clone());
        let conditioner = || Conditioner::new(cx.conditions, fastrand::Rng::new());
        Box::new(NativePeer {
            outbound: conditioner(),
            inbound: conditioner(),
            cx,
            connection,
            direct,
            role,
            origin: Instant::now(),
            route,
            relay_up: true,
            post: None,
            retry_at: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(500)),
            handle,
            commands,
            batch: Vec::new(),
            identified: false,
            refused: false,
            connected: false,
            interrupted: false,
            heard: false,
            introduced: None,
            held: 0,
            delivered: 0,
            consumed: 0,
            place: None,
            waiting: None,
            metadata: Bytes::new(),
            busy: 0,
            reported_foreign: false,
            reported_stranger: false,
            ended: None,
            adopted: None,
            former: None,
        })
    }

    fn now(&self) -> Timestamp {
        self.origin.elapsed()
    }

    /// Runs to the end.
    pub async fn run(mut self: Box<Self>, inputs: &mut mpsc::Receiver<PeerInput>) -> Outcome {
        loop {
            self.pump();
            if let Some(reason) = self.ended.take() {
                return self.finish(reason).await;
            }
            self.transmit_direct();
            self.start_post();
            let deadline = self.deadline();
            if self.is_kept_busy(deadline) {
                self.time_passed();
                continue;
            }
            let answer = async {
                match &mut self.post {
                    Some(post) => (&mut post.answer).await,
                    None => std::future::pending().await,
                }
            };
            // What waits comes before the time: this side may have slept.
            tokio::select! {
                biased;
                input = inputs.recv() => {
                    let Some(input) = input else { return Outcome::Ended(EndReason::EndedLocally, None) };
                    if let Some(original) = self.input(input) {
                        return self.plain(Some(original));
                    }
                    for _ in 1..BATCH {
                        let Ok(input) = inputs.try_recv() else { break };
                        if let Some(original) = self.input(input) {
                            return self.plain(Some(original));
                        }
                    }
                }
                result = answer => self.posted(result),
                Some(place) = OptionFuture::from(self.waiting.as_mut()) => self.placed(place),
                event = self.direct.next() => {
                    self.direct_event(event);
                    for _ in 1..BATCH {
                        let Some(event) = self.direct.try_next() else { break };
                        self.direct_event(event);
                    }
                }
                Some(command) = OptionFuture::from(self.former.as_mut().filter(|_| self.connected).map(|former| former.recv())) => {
                    self.former_command(command);
                }
                Some(command) = self.commands.recv() => {
                    // The game gave these before it had a new handle.
                    while let Some(command) = self.former.as_mut().and_then(|former| former.try_recv().ok()) {
                        self.former_command(Some(command));
                    }
                    self.command(command);
                    for _ in 1..BATCH {
                        let Ok(command) = self.commands.try_recv() else { break };
                        self.command(command);
                    }
                }
                () = sleep_until(self.origin + deadline) => {
                    self.busy = 0;
                    self.woken(deadline);
                    if self.awaits_original() {
                        return self.plain(None);
                    }
                    self.time_passed();
                }
            }
        }
    }

    fn plain(mut self: Box<Self>, first: Option<Body>) -> Outcome {
        Outcome::Plain(first, self.take_offer(), self)
    }

    /// A host that was taken for an original is native after all: the game knows it already, by the handle at the other end
    /// of `former`, and has sent these texts, which the host ignores.
    pub fn adopt(&mut self, texts: Vec<ByteString>, former: mpsc::UnboundedReceiver<PeerCommand>) {
        self.adopted = Some(texts);
        self.former = Some(former);
    }

    /// Where the host is reached since the relay came back.
    pub fn set_route(&mut self, route: Option<Route>) {
        self.route = route;
    }

    /// Takes a packet from the network: at once, unless it is to be late or lost.
    fn receive(&mut self, lane: Lane, packet: Bytes) {
        let now = self.now();
        if self.inbound.is_clear() {
            self.connection.receive(lane, packet, now);
        } else {
            self.inbound.push(lane, packet, now);
        }
    }

    fn direct_event(&mut self, event: AttemptEvent) {
        let now = self.now();
        if let (_, DirectEvent::Packet { reliable, payload }) = event {
            let lane = if reliable { Lane::DirectReliable } else { Lane::DirectUnreliable };
            return self.receive(lane, payload.into_bytes());
        }
        if let Some(text) = self.direct.event(event, &mut self.connection, now) {
            self.cx.diagnostic(text);
        }
    }

    /// Whether so much comes that the time never does.
    fn is_kept_busy(&mut self, deadline: Timestamp) -> bool {
        self.busy = if deadline <= self.now() { self.busy + 1 } else { 0 };
        self.busy > BUSY && std::mem::replace(&mut self.busy, 0) > 0
    }

    /// Much later than asked for, this side was asleep: nothing that was on its way then is late for that.
    fn woken(&mut self, deadline: Timestamp) {
        let late = self.now().saturating_sub(deadline);
        if late > SLEEP {
            self.introduced = self.introduced.map(|at| at + late);
            if let Some(post) = &mut self.post {
                post.slept(late);
            }
        }
    }

    fn time_passed(&mut self) {
        let now = self.now();
        self.direct.time_passed(now);
        self.suspect_post(now);
        if self.connection.next_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
    }

    /// Whether the wait for a native word of an unknown host is over.
    fn awaits_original(&self) -> bool {
        self.may_be_original() && self.introduced.is_some_and(|at| self.now() >= at + INTRODUCTION)
    }

    /// Whether the other side is a host that has not shown what it speaks.
    fn may_be_original(&self) -> bool {
        matches!(self.role, Role::Client { certain: false, .. }) && !self.heard
    }

    fn transmit_direct(&mut self) {
        let now = self.now();
        let NativePeer { direct, connection, outbound, .. } = self;
        if !direct.is_open() && !outbound.is_clear() {
            outbound.cut(Path::Direct);
        }
        direct.transmit(|lane| next_packet(connection, outbound, lane, MIN_PACKET_LIMIT, now));
    }

    /// When to wake up though nothing happens.
    fn deadline(&self) -> Timestamp {
        let now = self.now();
        let crowded = self.delivered - self.consumed > self.cx.config.receive_buffer / 4;
        let inbox = crowded.then_some(now + INBOX_CHECK);
        let suspect = self.post.as_ref().and_then(Post::suspect_at);
        let introduction = self.introduced.filter(|_| self.may_be_original()).map(|at| at + INTRODUCTION);
        let arrivals = [self.outbound.next(now), self.inbound.next(now)];
        [self.connection.next_timeout(), self.direct.next_timeout(), self.retry_at, inbox, suspect, introduction]
            .into_iter()
            .chain(arrivals)
            .flatten()
            .min()
            .unwrap_or(now + Duration::from_secs(60))
    }

    /// Posts what is left to say (a refusal, the answer to a goodbye), then reports the end.
    async fn finish(mut self: Box<Self>, reason: EndReason) -> Outcome {
        if self.connected || self.adopted.is_some() {
            self.cx.emit(EventKind::Disconnected { peer: self.cx.key, reason: reason.clone() });
        }
        self.count_interrupted(false);
        self.handle.shared().leave_place(self.place.take());
        let farewell = async {
            // The last words do not wait for a bad network.
            self.outbound.release();
            self.transmit_direct();
            self.direct.close().await;
            if let Some(post) = self.post.take() {
                let _ = post.answer.await;
            }
            let is_client = matches!(self.role, Role::Client { .. });
            let Some(route) = self.route.clone().filter(|_| self.relay_up || is_client) else { return };
            let mut next = || {
                next_packet(&mut self.connection, &mut self.outbound, Lane::Relay, POST_LIMIT, self.origin.elapsed())
            };
            while let Some(packet) = next() {
                let body = Body::Native { version: NATIVE_VERSION, packet }.to_json();
                let post = || self.cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body.clone());
                if !self.relay_up {
                    // Nobody waits for that.
                    task::spawn(leave_word(self.cx.relay.clone(), route, body, self.cx.config.drain_timeout));
                    return;
                }
                while post().await.is_err() {
                    n0_future::time::sleep(LAST_WORD_RETRY).await;
                }
            }
        };
        let _ = n0_future::time::timeout(Duration::from_millis(500), farewell).await;
        Outcome::Ended(reason, self.connection.tombstone())
    }
}

/// The next packet that has passed the network's conditions.
fn next_packet(
    connection: &mut Connection,
    outbound: &mut Conditioner,
    lane: Lane,
    limit: usize,
    now: Timestamp,
) -> Option<Bytes> {
    if outbound.is_clear() {
        return connection.poll_transmit(lane, limit, now);
    }
    while outbound.has_room(lane, now)
        && let Some(packet) = connection.poll_transmit(lane, limit, now)
    {
        outbound.push(lane, packet, now);
    }
    outbound.pop(lane, now)
}
