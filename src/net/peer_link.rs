//! The messages between a session and the tasks of its peers.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use n0_future::task;
use tokio::sync::mpsc;
use url::Url;

use super::{
    conditions::NetworkConditions,
    contract::{Event, EventKind, PeerKey, SessionKey, SessionOptions},
    relay_access::Access,
    relay_client::RelayClient,
    relay_error::RelayError,
    webrtc::{AddressChange, DirectConfig},
};
use crate::{
    connection::{ConnectionConfig, ConnectionId, Tombstone},
    protocol::{Body, EndReason, NATIVE_VERSION, PathPolicy},
};

/// The capacity of the input queue of a peer's task. The task waits for nothing but inputs.
const INPUT_QUEUE: usize = 1024;

/// The words for joiners of a locked session.
pub(super) const LOCKED: &str = "nobody new may join this session now";

/// The way to a peer through the relay. Cheap to clone, since one comes with every message. Its `Debug` hides the token.
#[derive(Clone)]
pub(super) struct Route {
    /// The URL to post to.
    pub send_to: Arc<Url>,
    /// A client token (leads to the host) or a response token (leads to a client).
    pub token: Arc<str>,
}

impl From<Access> for Route {
    fn from(access: Access) -> Self {
        Route { send_to: access.send_to, token: access.token }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("send_to", &self.send_to.as_str()).finish_non_exhaustive()
    }
}

/// A message from a session to the task of one peer.
#[derive(Debug)]
pub(super) enum PeerInput {
    /// A message of this peer. On a host it comes with the route for the answer.
    Body(Body, Option<Route>),
    /// A packet that may be of this peer, under another client id.
    Elsewhere { packet: Bytes, route: Route, client: String },
    /// A packet that claims to resume this peer's connection, under another client id.
    Resume { packet: Bytes, route: Route, client: String },
    /// The relay is back. On a client it comes with the new route to the host.
    RelayUp(Option<Route>),
    /// The relay is lost.
    RelayDown,
    /// The addresses of this machine have changed.
    AddressesChanged(AddressChange),
    /// The relay reports that the peer's event stream closed.
    PeerClosed,
    /// The app's answer to the join request.
    Decide(Result<(), String>),
    /// Change the simulated network conditions.
    Conditions(NetworkConditions),
    /// End this peer if it is still interrupted: a joiner needs its slot.
    GiveWay,
    /// The session has been locked: refuse a new player who is still joining.
    Locked,
    /// The password has been changed: refuse a player who is still joining.
    PasswordChanged,
    /// The player begins another attempt to join: end this one, unless it has succeeded.
    JoinsAgain,
    /// The player is connected as another peer: end at once.
    Rejoined,
    /// Say goodbye and end.
    Disconnect(EndReason),
    /// After [`Disconnect`](Self::Disconnect): wait no longer for its confirmation.
    GiveUp,
}

/// Creates the input queue of a peer's task.
pub(super) fn peer_inputs() -> (mpsc::Sender<PeerInput>, mpsc::Receiver<PeerInput>) {
    mpsc::channel(INPUT_QUEUE)
}

/// A message from the task of a peer to its session.
#[derive(Debug)]
pub(super) enum PeerOutput {
    /// The connection has an id, by which it can be resumed.
    Identified(ConnectionId),
    /// The peer has one of the host's slots.
    HasSlot,
    /// The peer proved a wrong password. Its task still repeats the refusal for a while.
    WrongPassword,
    /// That peer is a former attempt of the same player to join.
    JoinsAgain(PeerKey),
    /// The player of this peer is connected, and was that one before.
    Was(PeerKey),
    /// The player of this peer was sent away, and joins as that one, as a new player.
    Dismissed(PeerKey),
    /// The peer is admitted, and no slot is free.
    WantsSlot,
    /// The peer is interrupted (`true`) or resumed (`false`).
    Interrupted(bool),
    /// The connection continues with the client of this id.
    Rebound(String),
    /// The relay refuses the route's token.
    BadToken,
    /// The peer is alive on another path, but nothing arrives over the relay.
    RelaySilent,
    /// The relay does not answer.
    RelayGone(RelayError),
    /// The task has ended; its last output.
    Ended(PeerEnd),
}

/// How the task of a peer ended.
#[derive(Debug)]
pub(super) struct PeerEnd {
    /// Why the connection ended.
    pub reason: EndReason,
    /// Answers late packets of the connection, if there was one.
    pub tombstone: Option<Tombstone>,
}

impl From<EndReason> for PeerEnd {
    /// The end of a peer without a connection, such as an original.
    fn from(reason: EndReason) -> Self {
        PeerEnd { reason, tombstone: None }
    }
}

/// What the task of every peer needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct PeerContext {
    pub session: SessionKey,
    pub key: PeerKey,
    pub events: crossbeam_channel::Sender<Event>,
    pub outputs: mpsc::UnboundedSender<(PeerKey, PeerOutput)>,
    pub relay: RelayClient,
    pub config: ConnectionConfig,
    pub paths: PathPolicy,
    pub direct: DirectConfig,
    pub conditions: NetworkConditions,
}

impl PeerContext {
    /// Creates the context of a peer without a session or a relay, and returns the events for the app.
    #[cfg(test)]
    pub fn of_a_test(
        config: ConnectionConfig,
        paths: PathPolicy,
        direct: DirectConfig,
    ) -> (Self, crossbeam_channel::Receiver<Event>) {
        let (events, receiver) = crossbeam_channel::unbounded();
        let cx = PeerContext {
            session: SessionKey(1),
            key: PeerKey(0),
            events,
            outputs: mpsc::unbounded_channel().0,
            relay: RelayClient::Memory(Default::default()),
            config,
            paths,
            direct,
            conditions: NetworkConditions::PERFECT,
        };
        (cx, receiver)
    }

    /// Creates the context of one peer of a session.
    pub fn new(
        (session, key): (SessionKey, PeerKey),
        events: crossbeam_channel::Sender<Event>,
        outputs: mpsc::UnboundedSender<(PeerKey, PeerOutput)>,
        relay: RelayClient,
        options: &SessionOptions,
    ) -> Self {
        PeerContext {
            session,
            key,
            events,
            outputs,
            relay,
            config: options.connection.clone(),
            paths: options.paths,
            direct: options.direct.clone(),
            conditions: options.conditions,
        }
    }

    /// Sends an event to the app.
    pub fn emit(&self, kind: EventKind) {
        // Without a receiver the app is gone, and the session learns that itself.
        let _ = self.events.send(Event { session: self.session, kind });
    }

    /// Sends an output to the session.
    pub fn notify(&self, output: PeerOutput) {
        let _ = self.outputs.send((self.key, output));
    }

    /// Sends a diagnostic about this peer to the app.
    pub fn diagnostic(&self, text: String) {
        self.emit(EventKind::Diagnostic { peer: Some(self.key), text });
    }

    /// Posts one packet, see [`post_packet`].
    pub fn post(&self, route: Route, packet: Bytes) {
        post_packet(&self.relay, route, packet);
    }

    /// Posts packets in one POST, where they keep their order, or each alone if the relay takes only one at a time.
    pub fn post_all(&self, route: Route, packets: Vec<Bytes>) {
        if packets.len() < 2 || !self.relay.batches() {
            packets.into_iter().for_each(|packet| self.post(route.clone(), packet));
            return;
        }
        let bodies = packets.into_iter().map(|packet| Body::Native { version: NATIVE_VERSION, packet }.to_json());
        let answer = self.relay.clone().send_all(route.send_to, route.token, bodies.collect());
        task::spawn(async move {
            let _ = answer.await;
        });
    }
}

/// Posts one packet, without an order to any other POST. The other side repeats its request if the packet is lost.
pub(super) fn post_packet(relay: &RelayClient, route: Route, packet: Bytes) {
    let body = Body::Native { version: NATIVE_VERSION, packet }.to_json();
    let answer = relay.clone().send(route.send_to, route.token, body);
    task::spawn(async move {
        let _ = answer.await;
    });
}
