//! A client that joins a host of its own app: no relay, no task, no waiting. What one side sends is an event of the
//! other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use crossbeam_channel::Sender;

use super::contract::{Event, EventKind, LocalSink, PeerHandle, PeerKey, PeerLimits, PeerShared, Received, SessionKey};
use crate::{
    connection::{Path, Security},
    protocol::{EndReason, JoinLink, PublicKey},
};

/// The key of the host in the session of its local client.
const HOST: PeerKey = PeerKey(0);
/// The key of the first local client in the session of its host. The keys of network peers count from 0.
const FIRST_LOCAL: u64 = 1 << 63;

/// Both ends of a local connection.
#[derive(Debug)]
pub(crate) struct LocalLink {
    /// The client's handle to its host.
    pub client: PeerHandle,
    /// The host's handle to this client.
    pub host: PeerHandle,
    connection: LocalConnection,
    /// The metadata of the client and of the host.
    metadata: [Bytes; 2],
    connected: bool,
}

/// One side of the connection: its session, and the key of the other side there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    session: SessionKey,
    peer: PeerKey,
}

/// What both sides share.
#[derive(Clone, Debug)]
struct LocalConnection {
    client: End,
    host: End,
    events: Sender<Event>,
    ended: Arc<AtomicBool>,
}

impl LocalConnection {
    fn emit(&self, end: End, kind: EventKind) {
        // Without a receiver the app is gone.
        let _ = self.events.send(Event { session: end.session, kind });
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// The other side, for the handle of one side.
#[derive(Debug)]
struct LocalPeer {
    connection: LocalConnection,
    to: End,
    /// The counters that the other side has of this side: its inbox is our queue.
    other: Arc<PeerShared>,
}

impl LocalLink {
    /// Creates a link, which [`connect`](Self::connect) connects. `number` distinguishes the local clients of a host. Both
    /// sides are the player at this machine.
    pub fn new(
        client: (SessionKey, Bytes),
        host: (SessionKey, Bytes),
        number: u64,
        (limits, identity): (PeerLimits, Option<PublicKey>),
        events: Sender<Event>,
    ) -> Self {
        let of_client = End { session: client.0, peer: HOST };
        let of_host = End { session: host.0, peer: PeerKey(FIRST_LOCAL + number) };
        let connection = LocalConnection { client: of_client, host: of_host, events, ended: Arc::default() };
        let [client_shared, host_shared] = [(); 2].map(|()| {
            let shared = Arc::new(PeerShared::new(limits));
            shared.set_path(Path::Direct);
            if let Some(identity) = identity {
                // There is nobody in between.
                shared.set_secured(Security::Authenticated, identity);
            }
            shared
        });
        let handle = |to, near: &Arc<PeerShared>, other: &Arc<PeerShared>| {
            let peer = LocalPeer { connection: connection.clone(), to, other: other.clone() };
            PeerHandle::local(Arc::new(peer), near.clone())
        };
        LocalLink {
            client: handle(of_host, &client_shared, &host_shared),
            host: handle(of_client, &host_shared, &client_shared),
            connection,
            metadata: [client.1, host.1],
            connected: false,
        }
    }

    /// Reports to both sides that they are connected: once, and only if neither has left before.
    pub fn connect(&mut self, id: String, links: Vec<JoinLink>) {
        if std::mem::replace(&mut self.connected, true) || self.connection.has_ended() {
            return;
        }
        let LocalConnection { client, host, .. } = self.connection;
        let [of_client, of_host] = self.metadata.clone();
        self.connection.emit(client, EventKind::Ready { id, links });
        let kind = EventKind::Connected { peer: client.peer, handle: self.client.clone(), metadata: of_host };
        self.connection.emit(client, kind);
        let kind = EventKind::Connected { peer: host.peer, handle: self.host.clone(), metadata: of_client };
        self.connection.emit(host, kind);
    }

    /// Whether the connection has ended.
    pub fn is_over(&self) -> bool {
        self.connection.has_ended()
    }
}

impl LocalSink for LocalPeer {
    fn send(&self, message: Received, cost: usize) {
        self.other.delivered(cost);
        let kind = EventKind::Messages { peer: self.to.peer, messages: vec![message] };
        self.connection.emit(self.to, kind);
    }

    fn counters_of_sender(&self) -> Arc<PeerShared> {
        self.other.clone()
    }

    /// Also ends the client's session.
    fn disconnect(&self, reason: EndReason) {
        let LocalConnection { client, host, ended, .. } = &self.connection;
        if ended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.other.close();
        let seen_by = |end: End| if end == self.to { reason.seen_by_peer() } else { reason.clone() };
        for end in [*host, *client] {
            self.connection.emit(end, EventKind::Disconnected { peer: end.peer, reason: seen_by(end) });
        }
        self.connection.emit(*client, EventKind::Ended { reason: seen_by(*client) });
    }
}
