//! The peers of a host, found by key, by client id and by connection.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use bytes::Bytes;
use n0_future::time::Instant;
use tokio::sync::mpsc;

use super::dispatch::Sender;
use crate::{
    connection::ConnectionId,
    net::{
        contract::PeerKey,
        peer_link::{PeerInput, peer_inputs},
    },
    protocol::frame::HandshakeKind,
};

/// How many joiners may be in their handshake at a time.
pub(super) const MAX_PENDING: usize = 64;
/// How many other client ids of a joiner are remembered.
const ELSEWHERE: usize = 4;

/// One peer, from its first message to the end of its task.
pub(super) struct Entry {
    inputs: mpsc::Sender<PeerInput>,
    /// The client id at the relay.
    pub client: String,
    /// Where the peer connects from, see [`Sender::origin`].
    pub origin: Box<str>,
    /// The first packet of a native peer; none for an original.
    hello: Option<Bytes>,
    /// Other client ids under which the peer may be, since its hello or its proof came from there, too. The latest is last.
    elsewhere: Vec<String>,
    connection: Option<ConnectionId>,
    /// Whether the peer has one of the slots. Before, a native peer has yet to prove that it knows the password.
    pub has_slot: bool,
    /// Since when the peer is interrupted, if it is.
    pub interrupted: Option<Instant>,
    /// Whether the relay reported that the peer's stream closed.
    pub stream_closed: bool,
}

impl Entry {
    pub fn is_native(&self) -> bool {
        self.hello.is_some()
    }
}

/// The peers of one host.
#[derive(Default)]
pub(super) struct PeerTable {
    entries: BTreeMap<PeerKey, Entry>,
    by_client: HashMap<String, PeerKey>,
    by_connection: HashMap<ConnectionId, PeerKey>,
    next_key: u64,
}

impl PeerTable {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a peer, and returns its key and the inputs for its task. `hello` is the first packet of a native peer.
    pub fn add(
        &mut self,
        Sender { client, origin, .. }: Sender,
        hello: Option<Bytes>,
    ) -> (PeerKey, mpsc::Receiver<PeerInput>) {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let (inputs, receiver) = peer_inputs();
        self.by_client.insert(client.clone(), key);
        let has_slot = hello.is_none();
        let entry = Entry {
            inputs,
            client,
            origin,
            hello,
            elsewhere: Vec::new(),
            connection: None,
            has_slot,
            interrupted: None,
            stream_closed: false,
        };
        self.entries.insert(key, entry);
        (key, receiver)
    }

    /// Removes a peer. Its task, if it still runs, ends with its inputs.
    pub fn remove(&mut self, key: PeerKey) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.by_client.remove(&entry.client);
        entry.connection.map(|id| self.by_connection.remove(&id));
        Some(entry)
    }

    pub fn get_mut(&mut self, key: PeerKey) -> Option<&mut Entry> {
        self.entries.get_mut(&key)
    }

    pub fn of_client(&self, client: &str) -> Option<PeerKey> {
        self.by_client.get(client).copied()
    }

    pub fn of_connection(&self, id: &ConnectionId) -> Option<PeerKey> {
        self.by_connection.get(id).copied()
    }

    /// The peer of which this packet of another client may be: its hello or its proof once more, or what follows on those.
    /// The last clients that have sent one of the two are remembered.
    pub fn of_joiner(&mut self, client: &str, kind: HandshakeKind, packet: &Bytes) -> Option<PeerKey> {
        let find =
            |is_it: &dyn Fn(&Entry) -> bool| self.entries.iter().find(|(_, entry)| is_it(entry)).map(|(key, _)| *key);
        let found = match kind {
            HandshakeKind::Hello => find(&|entry| entry.hello.as_ref() == Some(packet)),
            HandshakeKind::Proof(id) => self.of_connection(&id),
            HandshakeKind::Resume(_) => None,
            HandshakeKind::Other => return find(&|entry| entry.elsewhere.iter().any(|other| other == client)),
        };
        if found.is_some() {
            // A client is one joiner at a time.
            self.entries.values_mut().for_each(|entry| entry.elsewhere.retain(|other| other != client));
        }
        if let Some(entry) = found.and_then(|key| self.entries.get_mut(&key)) {
            if entry.elsewhere.len() == ELSEWHERE {
                entry.elsewhere.remove(0);
            }
            entry.elsewhere.push(client.to_owned());
        }
        found
    }

    /// Sets the connection of a peer.
    pub fn identify(&mut self, key: PeerKey, id: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.connection = Some(id);
            self.by_connection.insert(id, key);
        }
    }

    /// Sets the client id of a peer, and returns the former one if it differs.
    pub fn rebind(&mut self, key: PeerKey, client: String) -> Option<String> {
        let entry = self.entries.get_mut(&key)?;
        entry.elsewhere.clear();
        self.by_client.remove(&entry.client);
        self.by_client.insert(client.clone(), key);
        let former = std::mem::replace(&mut entry.client, client);
        (former != entry.client).then_some(former)
    }

    pub async fn send(&self, key: PeerKey, input: PeerInput) {
        if let Some(entry) = self.entries.get(&key) {
            // A task that has just ended reports that itself.
            let _ = entry.inputs.send(input).await;
        }
    }

    pub async fn send_to_all(&self, input: impl Fn() -> PeerInput) {
        for entry in self.entries.values() {
            let _ = entry.inputs.send(input()).await;
        }
    }

    /// Asks the peer that is interrupted for longest to give way to a joiner.
    pub fn replace_longest_interrupted(&mut self) {
        let interrupted = self.entries.values_mut().filter(|entry| entry.interrupted.is_some());
        if let Some(entry) = interrupted.min_by_key(|entry| entry.interrupted) {
            // A peer is asked once, whatever becomes of it.
            entry.interrupted = None;
            let _ = entry.inputs.try_send(PeerInput::GiveWay);
        }
    }

    /// Makes room for one more handshake: of too many, the oldest one of the origin that has most of them is dropped.
    pub fn limit_pending(&mut self) {
        let pending = || self.entries.iter().filter(|(_, entry)| !entry.has_slot);
        if pending().count() < MAX_PENDING {
            return;
        }
        let mut by_origin: HashMap<&str, (usize, PeerKey)> = HashMap::new();
        for (key, entry) in pending() {
            by_origin.entry(&entry.origin).or_insert((0, *key)).0 += 1;
        }
        if let Some((_, oldest)) = by_origin.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest))) {
            self.remove(oldest);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The origins of all peers, oldest first. Also checks that the index by client is complete.
    pub fn origins(peers: &PeerTable) -> Vec<&str> {
        assert_eq!(peers.by_client.len(), peers.entries.len());
        peers.entries.values().map(|entry| &*entry.origin).collect()
    }

    fn sender(client: &str) -> Sender {
        Sender { client: client.to_owned(), origin: client.into(), listens: Some(true) }
    }

    /// Each time that a joiner loses its stream, it is another client of the relay. So is everybody who repeats its hello.
    #[test]
    fn a_joiner_is_found_under_the_last_of_its_client_ids() {
        let mut peers = PeerTable::default();
        let (hello, another) = (Bytes::from_static(b"hello"), Bytes::from_static(b"another hello"));
        let (key, _inputs) = peers.add(sender("first"), Some(hello.clone()));
        let (other, _its_inputs) = peers.add(sender("other"), Some(another.clone()));
        let late = Bytes::from_static(b"sealed");
        assert_eq!(peers.of_joiner("second", HandshakeKind::Other, &late), None, "it has not said who it is");
        assert_eq!(peers.of_joiner("second", HandshakeKind::Hello, &Bytes::from_static(b"a third hello")), None);

        let clients: Vec<_> = (0..=ELSEWHERE).map(|number| format!("client {number}")).collect();
        for client in clients.iter().chain(&clients[..1]).chain(&clients[..1]) {
            assert_eq!(peers.of_joiner(client, HandshakeKind::Hello, &hello), Some(key));
        }
        let found = |peers: &mut PeerTable, client: &str| peers.of_joiner(client, HandshakeKind::Other, &late);
        // The first one came last, and a client that comes twice takes one place.
        assert_eq!(found(&mut peers, &clients[1]), None, "as many as there may be came later");
        for client in [&clients[..1], &clients[2..]].concat() {
            assert_eq!(found(&mut peers, &client), Some(key));
        }

        // The hello of another one moves a client to that one, which is found by its proof, too.
        assert_eq!(peers.of_joiner(&clients[2], HandshakeKind::Hello, &another), Some(other));
        assert_eq!(found(&mut peers, &clients[2]), Some(other));
        peers.identify(other, ConnectionId([7; 16]));
        let proof = HandshakeKind::Proof(ConnectionId([7; 16]));
        assert_eq!(peers.of_joiner("third", proof, &late), Some(other));
        assert_eq!(found(&mut peers, "third"), Some(other));

        // Once it has moved, the others are strangers.
        assert_eq!(peers.rebind(key, clients[3].clone()), Some("first".to_owned()));
        assert_eq!(peers.of_client(&clients[3]), Some(key));
        assert_eq!(found(&mut peers, &clients[4]), None);
        assert_eq!((peers.of_client("first"), peers.of_client("other")), (None, Some(other)));
    }
}
