//! The task of one native peer: a [`Connection`] between the game's commands and the relay's messages.
//!
//! Hosts and clients run the same task. One POST is in flight at a time, which keeps the order. Everything queued
//! meanwhile goes into the next one.

mod events;
mod finish;
mod inputs;
mod posts;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::OptionFuture;
use n0_future::{
    boxed::BoxFuture,
    time::{Instant, sleep_until},
};
use tokio::sync::mpsc;

use self::posts::Post;
use super::{
    conditioner::Conditioner,
    contract::{Admission, PeerCommand, PeerHandle, PeerLimits, Received},
    direct::{AttemptEvent, DirectPath},
    offer::Offer,
    peer_link::{PeerContext, PeerEnd, PeerInput, Route},
    players::Players,
    post_retry::PostRetry,
    slots::{Slot, Slots},
    start_retry::HOST_LOST,
    suspension::SUSPENDED,
    webrtc::{DirectEvent, DirectRole},
};
use crate::{
    connection::{Connection, ConnectionConfig, Lane, MIN_PACKET_LIMIT, Path, Seed, Timestamp, random_seed},
    protocol::{Body, EndReason},
};

/// How long a client waits for a native reply of a host that may be an original.
const INTRODUCTION: Duration = Duration::from_millis(1500);
/// The poll interval while the inbox is congested, so that the peer learns soon that there is room again.
const INBOX_CHECK: Duration = Duration::from_millis(10);
/// How many rounds may pass before a due timer is served.
const MAX_BUSY_ROUNDS: u32 = 4;
/// How many inputs or commands are taken before the connection is driven again.
const BATCH: usize = 1024;

/// The side of the connection that this task is.
pub(super) enum Role {
    /// A client.
    Client {
        /// Whether the relay has reported that the host is native. Otherwise it may be an original.
        certain: bool,
        /// Whether the link names the host's key. Then the host is no original, whatever the relay reports.
        pinned: bool,
        /// The offer to a host that may be an original.
        offer: Option<Offer>,
    },
    /// A host.
    Host {
        /// How it decides on joiners.
        admission: Admission,
        /// The slots of its session.
        slots: Arc<Slots>,
        /// The players of its session.
        players: Arc<Players>,
    },
}

/// How the task of a native peer ended.
pub(super) enum NativeOutcome {
    /// The connection has ended.
    Ended(PeerEnd),
    /// The host is an original, or silent.
    Original {
        /// The first message of the host; none if it is silent.
        first: Option<Body>,
        /// The offer that the host was sent.
        offer: Option<Offer>,
        /// The task, in case the host turns out to be native after all.
        peer: Box<NativePeer>,
    },
}

/// Generates the random seed of one connection.
///
/// # Errors
///
/// [`EndReason::NotStarted`] if the system has no random bytes.
pub(super) fn connection_seed() -> Result<Seed, EndReason> {
    random_seed().map_err(|error| EndReason::NotStarted(format!("the system has no random bytes: {error}")))
}

/// The limits of a native peer. Its own limit on messages follows with the connection.
fn native_limits(config: &ConnectionConfig) -> PeerLimits {
    let ConnectionConfig { max_message, send_buffer, catch_up_timeout, .. } = *config;
    PeerLimits { max_message, send_buffer, text_only: false, native: true, catch_up_timeout }
}

#[cfg(test)]
fn credentials_of_a_test() -> crate::connection::Credentials {
    crate::connection::Credentials {
        host_id: "demo".to_owned(),
        password: None,
        game: crate::protocol::GameId::default(),
        key: crate::connection::StaticKey::from_bytes([1; 32]),
        host_key: None,
    }
}

/// Another route to a joiner, from which its handshake packets came, too.
struct Elsewhere {
    route: Route,
    /// The last answer that was posted there.
    answered: Option<Bytes>,
}

/// The task of one native peer.
pub(super) struct NativePeer {
    cx: PeerContext,
    connection: Connection,
    direct: DirectPath,
    /// Simulates the network conditions of each direction.
    outbound: Conditioner,
    inbound: Conditioner,
    role: Role,
    origin: Instant,
    route: Option<Route>,
    relay_up: bool,
    post: Option<Post>,
    retry: PostRetry,
    handle: PeerHandle,
    commands: mpsc::UnboundedReceiver<PeerCommand>,
    batch: Vec<Received>,
    identified: bool,
    refused: bool,
    /// Whether the game was asked about this joiner, and has neither refused it nor been told of its end.
    asked: bool,
    connected: bool,
    /// Whether the host counts this peer as interrupted.
    interrupted: bool,
    /// Whether the other side has sent a native packet.
    got_reply: bool,
    /// When the introduction reached the relay. An original gets it only once.
    introduced: Option<Timestamp>,
    /// Since when the relay answers that no host listens, while the host has not answered yet.
    missing_since: Option<Timestamp>,
    /// The bytes of the send queue that the connection holds.
    queued: usize,
    /// The bytes delivered to the game so far, and how many of them the connection knows to be consumed.
    delivered: usize,
    consumed: usize,
    slot: Option<Slot>,
    /// The wait of an admitted joiner for a slot.
    slot_wait: Option<BoxFuture<Option<Slot>>>,
    /// The metadata of a joiner.
    metadata: Bytes,
    /// Rounds since a timer became due.
    busy_rounds: u32,
    reported_foreign: bool,
    reported_takeover: bool,
    reported_forged: bool,
    ended: Option<EndReason>,
    /// The texts that the game has sent to this peer while it counted as an original. Present until it is connected.
    adopted: Option<Vec<ByteString>>,
    /// Whether some of them have crossed the relay already, unsealed.
    was_readable: bool,
    /// Where a joiner may be that has lost its stream, on a host.
    elsewhere: Option<Elsewhere>,
}

impl NativePeer {
    /// Creates the task for a connection whose timestamps count from `origin`. It is boxed, since otherwise each future
    /// that it passes through reserves room for it.
    pub fn new(
        cx: PeerContext,
        role: Role,
        route: Option<Route>,
        mut connection: Connection,
        origin: Instant,
    ) -> Box<Self> {
        if matches!(role, Role::Client { .. }) {
            connection.path_up(Path::Relay, origin.elapsed());
        }
        let (handle, commands) = PeerHandle::new(native_limits(&cx.config));
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
            origin,
            route,
            relay_up: true,
            post: None,
            retry: PostRetry::new(),
            handle,
            commands,
            batch: Vec::new(),
            identified: false,
            refused: false,
            asked: false,
            connected: false,
            interrupted: false,
            got_reply: false,
            introduced: None,
            missing_since: None,
            queued: 0,
            delivered: 0,
            consumed: 0,
            slot: None,
            slot_wait: None,
            metadata: Bytes::new(),
            busy_rounds: 0,
            reported_foreign: false,
            reported_takeover: false,
            reported_forged: false,
            ended: None,
            adopted: None,
            was_readable: false,
            elsewhere: None,
        })
    }

    fn now(&self) -> Timestamp {
        self.origin.elapsed()
    }

    /// Runs the peer to its end.
    pub async fn run(mut self: Box<Self>, inputs: &mut mpsc::Receiver<PeerInput>) -> NativeOutcome {
        loop {
            self.deliver_events();
            if let Some(reason) = self.ended.take() {
                return NativeOutcome::Ended(self.finish(reason).await);
            }
            self.transmit_direct();
            self.answer_elsewhere();
            self.start_post();
            let deadline = self.deadline();
            if self.is_timer_starved(deadline) {
                self.handle_timers();
                continue;
            }
            let answer = async {
                match &mut self.post {
                    Some(post) => (&mut post.answer).await,
                    None => std::future::pending().await,
                }
            };
            // Inputs come before timers: after a suspension, packets of the peer are waiting.
            tokio::select! {
                biased;
                input = inputs.recv() => {
                    let Some(input) = input else { return NativeOutcome::Ended(EndReason::EndedLocally.into()) };
                    let more = std::iter::from_fn(|| inputs.try_recv().ok()).take(BATCH - 1);
                    for input in std::iter::once(input).chain(more) {
                        if let Some(first) = self.input(input) {
                            return self.into_original(Some(first));
                        }
                    }
                }
                result = answer => self.posted(result),
                Some(slot) = OptionFuture::from(self.slot_wait.as_mut()) => self.slot_wait_ended(slot),
                event = self.direct.next() => {
                    self.direct_event(event);
                    for _ in 1..BATCH {
                        let Some(event) = self.direct.try_next() else { break };
                        self.direct_event(event);
                    }
                }
                // The commands to an adopted peer follow its texts.
                Some(command) = self.commands.recv(), if self.adopted.is_none() => self.command_batch(command),
                () = sleep_until(self.origin + deadline) => {
                    self.busy_rounds = 0;
                    self.excuse_suspension(deadline);
                    if self.is_introduction_over() {
                        return self.into_original(None);
                    }
                    self.handle_timers();
                }
            }
        }
    }

    fn into_original(mut self: Box<Self>, first: Option<Body>) -> NativeOutcome {
        NativeOutcome::Original { first, offer: self.take_offer(), peer: self }
    }

    /// Takes over from an original, for a host that turned out to be native. The game knows the peer already, by this
    /// handle, and has sent it these texts, which the host ignored. They still count in the handle's send queue.
    /// `was_readable` is whether some of them have crossed the relay.
    pub fn adopt(
        &mut self,
        (texts, was_readable): (Vec<ByteString>, bool),
        (handle, commands): (PeerHandle, mpsc::UnboundedReceiver<PeerCommand>),
    ) {
        (self.handle, self.commands, self.adopted) = (handle, commands, Some(texts));
        self.was_readable = was_readable;
        if was_readable {
            let text = "the host was silent for so long that it was taken for an original: what was sent meanwhile crossed the \
                        relay unsealed";
            self.cx.diagnostic(text.to_owned());
        }
    }

    /// Sets the route to the host.
    pub fn set_route(&mut self, route: Option<Route>) {
        self.route = route;
    }

    /// Receives a packet, at once or as the simulated conditions say.
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

    /// Whether inputs have delayed a due timer for too many rounds.
    fn is_timer_starved(&mut self, deadline: Timestamp) -> bool {
        self.busy_rounds = if deadline <= self.now() { self.busy_rounds + 1 } else { 0 };
        self.busy_rounds > MAX_BUSY_ROUNDS && std::mem::replace(&mut self.busy_rounds, 0) > 0
    }

    /// After a suspension, extends the waits for answers that were on their way: they are not late for that.
    fn excuse_suspension(&mut self, deadline: Timestamp) {
        let late = self.now().saturating_sub(deadline);
        if late > SUSPENDED {
            self.introduced = self.introduced.map(|at| at + late);
            self.missing_since = self.missing_since.map(|at| at + late);
            if let Some(post) = &mut self.post {
                post.extend_by(late);
            }
        }
    }

    fn handle_timers(&mut self) {
        let now = self.now();
        self.direct.handle_timeout(now);
        self.suspect_post(now);
        if self.missing_until().is_some_and(|at| at <= now) {
            self.connection.abort(EndReason::NoSuchHost);
        }
        if self.connection.next_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
    }

    /// Whether the wait for a native reply of an unknown host is over.
    fn is_introduction_over(&self) -> bool {
        self.may_be_original() && self.introduced.is_some_and(|at| self.now() >= at + INTRODUCTION)
    }

    /// Until when a host that does not listen may come back; `None` while a request may still find it. Only a host that has
    /// answered is waited for as long as a connection can resume.
    fn missing_until(&self) -> Option<Timestamp> {
        self.missing_since.filter(|_| self.is_unanswered_client() && self.post.is_none()).map(|at| at + HOST_LOST)
    }

    /// Whether the other side is a host that has not answered yet.
    fn is_unanswered_client(&self) -> bool {
        matches!(self.role, Role::Client { .. }) && !self.got_reply
    }

    /// Whether the other side is a host that has not shown its dialect.
    fn may_be_original(&self) -> bool {
        self.is_unanswered_client() && matches!(self.role, Role::Client { certain: false, .. })
    }

    fn transmit_direct(&mut self) {
        let now = self.now();
        let NativePeer { direct, connection, outbound, .. } = self;
        if !direct.is_open() && !outbound.is_clear() {
            outbound.cut(Path::Direct);
        }
        direct.transmit(|lane| next_packet(connection, outbound, lane, MIN_PACKET_LIMIT, now));
    }

    /// When to wake up without an input.
    fn deadline(&self) -> Timestamp {
        let now = self.now();
        let congested = self.delivered - self.consumed > self.cx.config.receive_buffer / 4;
        let inbox = congested.then_some(now + INBOX_CHECK);
        let suspect = self.post.as_ref().and_then(Post::suspect_at);
        let introduction = self.introduced.filter(|_| self.may_be_original()).map(|at| at + INTRODUCTION);
        let network = [self.outbound.next(now), self.inbound.next(now)];
        let host = [introduction, self.missing_until()];
        let retry = self.retry.pause_ends().map(|at| at.saturating_duration_since(self.origin));
        [self.connection.next_timeout(), self.direct.next_timeout(), retry, inbox, suspect]
            .into_iter()
            .chain(network)
            .chain(host)
            .flatten()
            .min()
            .unwrap_or(now + Duration::from_secs(60))
    }
}

/// The next packet that the simulated conditions let out.
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
