//! A client that joins a host of its own app: no relay, no task, no waiting. What one side sends is an event of the
//! other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use crossbeam_channel::Sender;

use super::contract::{Event, EventKind, PeerHandle, PeerKey, PeerLimits, PeerShared, Received, SessionKey};
use crate::{
    connection::Path,
    protocol::{EndReason, JoinLink},
};

/// The host, as its local client knows it.
const HOST: PeerKey = PeerKey(0);
/// The first local client of a host; those who come over the network count from 0.
const FIRST: u64 = 1 << 63;

/// Both ends of a local connection.
#[derive(Debug)]
pub(crate) struct LocalLink {
    /// How the client reaches its host.
    pub client: PeerHandle,
    /// How the host reaches this client.
    pub host: PeerHandle,
    /// What each says of itself, the client first.
    metadata: [Bytes; 2],
    connected: bool,
}

/// One side of the connection, and who the other is there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    session: SessionKey,
    peer: PeerKey,
}

/// How one side reaches the other.
#[derive(Clone, Debug)]
pub(super) struct LocalWay {
    to: End,
    client: End,
    host: End,
    events: Sender<Event>,
    /// What the other side knows of us: its inbox is our queue.
    other: Arc<PeerShared>,
    over: Arc<AtomicBool>,
}

impl LocalLink {
    /// Not connected until [`connect`](Self::connect). `number` tells the local clients of a host apart.
    pub fn new(
        client: (SessionKey, Bytes),
        host: (SessionKey, Bytes),
        number: u64,
        limits: PeerLimits,
        events: Sender<Event>,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let of_client = End { session: client.0, peer: HOST };
        let of_host = End { session: host.0, peer: PeerKey(FIRST + number) };
        let shared = [(); 2].map(|()| {
            let shared = Arc::new(PeerShared::new(limits));
            shared.set_path(Path::Direct);
            shared
        });
        let handle = |to, near: &Arc<PeerShared>, other: &Arc<PeerShared>| {
            let (events, other, over) = (events.clone(), other.clone(), over.clone());
            PeerHandle::local(LocalWay { to, client: of_client, host: of_host, events, other, over }, near.clone())
        };
        LocalLink {
            client: handle(of_host, &shared[0], &shared[1]),
            host: handle(of_client, &shared[1], &shared[0]),
            metadata: [client.1, host.1],
            connected: false,
        }
    }

    /// Tells both sides that they are connected: once, and only if none has left before.
    pub fn connect(&mut self, id: String, links: Vec<JoinLink>) {
        if std::mem::replace(&mut self.connected, true) {
            return;
        }
        let Some(way) = self.client.local_way().filter(|way| !way.over.load(Ordering::Relaxed)) else { return };
        let [of_client, of_host] = self.metadata.clone();
        way.tell(way.client, EventKind::Ready { id, links });
        let (handle, metadata) = (self.client.clone(), of_host);
        way.tell(way.client, EventKind::Connected { peer: way.client.peer, handle, metadata });
        let (handle, metadata) = (self.host.clone(), of_client);
        way.tell(way.host, EventKind::Connected { peer: way.host.peer, handle, metadata });
    }

    pub fn is_over(&self) -> bool {
        self.client.local_way().is_none_or(|way| way.over.load(Ordering::Relaxed))
    }
}

impl LocalWay {
    fn tell(&self, end: End, kind: EventKind) {
        // The app is gone when nobody receives.
        let _ = self.events.send(Event { session: end.session, kind });
    }

    pub(super) fn send(&self, message: Received, cost: usize) {
        self.other.delivered(cost);
        self.tell(self.to, EventKind::Messages { peer: self.to.peer, messages: vec![message] });
    }

    /// What the other side knows of this one.
    pub(super) fn sender(&self) -> Arc<PeerShared> {
        self.other.clone()
    }

    /// Ends the connection, once, and with it the client's session.
    pub(super) fn end(&self, reason: EndReason) {
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        self.other.close();
        let seen = |end: End| if end == self.to { reason.seen_by_peer() } else { reason.clone() };
        for end in [self.host, self.client] {
            self.tell(end, EventKind::Disconnected { peer: end.peer, reason: seen(end) });
        }
        self.tell(self.client, EventKind::Ended { reason: seen(self.client) });
    }
}
