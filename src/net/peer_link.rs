//! What a session and the tasks of its peers say to each other.

use std::sync::Arc;

use bytes::Bytes;
use n0_future::task;
use tokio::sync::mpsc;
use url::Url;

use super::{
    conditions::NetworkConditions,
    contract::{Event, EventKind, PeerKey, SessionKey, SessionOptions},
    peer::NativePeer,
    plain::Offer,
    relay_client::RelayClient,
    relay_error::RelayError,
    webrtc::{AddressChange, DirectConfig},
};
use crate::{
    connection::{ConnectionConfig, ConnectionId, Tombstone},
    protocol::{Body, EndReason, NATIVE_VERSION, PathPolicy},
};

/// Where a peer is reached through the relay. Small and cheap to clone, as one comes with every message. Its `Debug` hides
/// the token.
#[derive(Clone)]
pub(super) struct Route {
    /// The URL to post to.
    pub send_to: Arc<Url>,
    /// A client token (to the host), or a response token (to a client).
    pub token: Arc<str>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("send_to", &self.send_to.as_str()).finish_non_exhaustive()
    }
}

/// What a session tells the task of a peer.
#[derive(Debug)]
pub(super) enum PeerInput {
    /// A message of this peer, and on a host the route that answers it.
    Body(Body, Option<Route>),
    /// The hello that this peer began with, from another place.
    HelloAgain { hello: Bytes, route: Route, client: String },
    /// A packet of a client that says it is this peer in another place.
    Resume { packet: Bytes, route: Route, client: String },
    /// The relay is back; on a client with the new route to the host.
    RelayUp(Option<Route>),
    /// The relay is gone.
    RelayDown,
    /// This machine has other addresses than before.
    AddressesChanged(AddressChange),
    /// The relay says that the peer's own stream closed.
    PeerClosed,
    /// The game's answer to the request to join.
    Decide(Result<(), String>),
    /// Make its network worse or better.
    Conditions(NetworkConditions),
    /// A joiner is to have the place of this peer, if it is still interrupted.
    GiveWay,
    /// Say goodbye and end.
    Disconnect(EndReason),
}

/// What the task of a peer tells its session.
#[derive(Debug)]
pub(super) enum PeerOutput {
    /// The connection has an id, by which it can be resumed.
    Identified(ConnectionId),
    /// It has one of the host's places.
    Placed,
    /// It has tried a wrong password. What is left of it goes on to say so for a while.
    WrongPassword,
    /// It is admitted, and no place is free.
    WantsPlace,
    /// It is interrupted from now on, or not any more.
    Interrupted(bool),
    /// The connection goes on with a client of this id.
    Rebound(String),
    /// The relay refuses the route's token.
    BadToken,
    /// Nothing comes over the relay, though the peer is alive on another path.
    RelaySilent,
    /// The relay does not answer.
    RelayGone(RelayError),
    /// The last word.
    Ended { reason: EndReason, tombstone: Option<Tombstone> },
}

/// What the tasks of all peers need.
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
    /// For a peer without a session or a relay, and what the game would be told of it.
    #[cfg(test)]
    pub fn of_a_test(
        config: ConnectionConfig,
        paths: PathPolicy,
        direct: DirectConfig,
    ) -> (Self, crossbeam_channel::Receiver<Event>) {
        let (events, told) = crossbeam_channel::unbounded();
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
        (cx, told)
    }

    /// For one peer of a session.
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

    pub fn emit(&self, kind: EventKind) {
        // The app is gone when nobody receives; the session will hear of it.
        let _ = self.events.send(Event { session: self.session, kind });
    }

    pub fn tell(&self, output: PeerOutput) {
        let _ = self.outputs.send((self.key, output));
    }

    pub fn diagnostic(&self, text: String) {
        self.emit(EventKind::Diagnostic { peer: Some(self.key), text });
    }

    /// Posts one packet outside of any connection's order. The other side asks again if it is lost.
    pub fn post(&self, route: Route, packet: Bytes) {
        let body = Body::Native { version: NATIVE_VERSION, packet }.to_json();
        let answer = self.relay.clone().send(route.send_to, route.token, body);
        task::spawn(async move {
            let _ = answer.await;
        });
    }
}

/// How the task ended.
pub(super) enum Outcome {
    /// For this reason.
    Ended(EndReason, Option<Tombstone>),
    /// The host is an original, or says nothing: what it said so far, what it was offered, and the peer that it is should
    /// it turn out to be one of ours.
    Plain(Option<Body>, Option<Offer>, Box<NativePeer>),
}
