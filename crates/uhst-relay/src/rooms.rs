//! Who is listening under which host id.
//!
//! A room begins with its host's stream and ends with the last stream of its id. The lock over all rooms is held to
//! look up and to change seats, never to write: messages go into the listeners' queues.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    RelayLimits,
    frame::Frame,
    listener::Listener,
    metrics::{Metrics, Refusal},
    tokens::seat,
};

/// Why somebody cannot listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotListening {
    /// Somebody else does, or nobody hosts: 400.
    Refused,
    /// This limit is reached: 503.
    Full(Refusal),
    /// The relay ends: 503.
    Closing,
}

/// Every client of a host, in the order in which they came.
pub(super) struct Audience {
    pub(super) listeners: Box<[Arc<Listener>]>,
    /// What a broadcast is answered with when it has reached all of them.
    pub(super) reply: Bytes,
}

impl Audience {
    fn of(clients: &HashMap<Arc<str>, (u64, Arc<Listener>)>) -> Arc<Self> {
        let mut seats: Vec<_> = clients.values().collect();
        seats.sort_unstable_by_key(|(seat, _)| *seat);
        let listeners: Box<[_]> = seats.into_iter().map(|(_, listener)| listener.clone()).collect();
        let reply = reply(listeners.iter());
        Arc::new(Audience { listeners, reply })
    }
}

/// The answer to a broadcast that has reached these.
pub(super) fn reply<'a>(reached: impl Iterator<Item = &'a Arc<Listener>>) -> Bytes {
    let mut reply = String::from("{");
    for client in reached.filter_map(|listener| listener.client.as_ref()) {
        if reply.len() > 1 {
            reply.push(',');
        }
        // A string: there is nothing here that JSON cannot hold.
        reply.push_str(&serde_json::to_string(&**client).unwrap_or_default());
        reply.push_str(":true");
    }
    reply.push('}');
    reply.into()
}

/// All sessions of a relay.
pub(super) struct Rooms {
    table: RwLock<Table>,
    limits: RelayLimits,
    hold: Duration,
    closing: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    rooms: HashMap<Arc<str>, Room>,
    listeners: usize,
    /// Counts up: clients are listed in the order in which they came.
    seats: u64,
    by_network: HashMap<IpAddr, Streams>,
    /// When the host of an id has left that was not held for it.
    left: HashMap<Arc<str>, Instant>,
}

/// The open streams of one address.
#[derive(Default)]
struct Streams {
    all: usize,
    of_hosts: usize,
}

impl Table {
    /// The seat of a listener is free again.
    fn vacated(&mut self, listener: &Listener) {
        self.listeners -= 1;
        if let Some(streams) = self.by_network.get_mut(&listener.network) {
            streams.all -= 1;
            streams.of_hosts -= usize::from(listener.client.is_none());
            if streams.all == 0 {
                self.by_network.remove(&listener.network);
            }
        }
    }

    /// Remembers for a while that this id was one.
    fn remember(&mut self, host: &Arc<str>) {
        let now = Instant::now();
        if self.left.len() >= MOST_LEFT {
            self.left.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        }
        if self.left.len() < MOST_LEFT {
            self.left.insert(host.clone(), now);
        }
    }
}

/// For how long, and of how many ids, the relay knows that they were one: who joins under them has not guessed.
const REMEMBERED: Duration = Duration::from_secs(120);
const MOST_LEFT: usize = 10_000;

#[derive(Default)]
struct Room {
    host: Option<Host>,
    clients: HashMap<Arc<str>, (u64, Arc<Listener>)>,
    /// The clients as broadcasts want them, made by the first one since they changed.
    audience: OnceLock<Arc<Audience>>,
    former: Option<Former>,
}

struct Host {
    listener: Arc<Listener>,
    /// Of the token it listens with.
    signature: Arc<str>,
    /// The version of the native dialect it declared.
    native: Option<u32>,
    /// Whether it has answered a client by a text.
    texts: AtomicBool,
    released: bool,
}

/// How a host speaks, as far as the relay knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The version of the native dialect it declared, if any.
    pub(super) native: Option<u32>,
    /// It is an original on the relay transport.
    pub(super) texts: bool,
}

/// The host whose stream dropped while clients stayed.
struct Former {
    signature: Arc<str>,
    /// Until then the id is held: nobody else may listen under it. Afterwards, and until another host listens, it still
    /// speaks for the host, as with the original.
    held_until: Instant,
}

impl Dialect {
    /// Whether the next answer of the host may tell more.
    pub(super) fn is_open(self) -> bool {
        self.native.is_none() && !self.texts
    }
}

impl Room {
    /// Whether another host than the bearer of this signature can not listen now.
    fn is_taken(&self, signature: Option<&str>) -> bool {
        let held = |former: &Former| Instant::now() < former.held_until && signature != Some(&*former.signature);
        self.host.is_some() || self.former.as_ref().is_some_and(held)
    }

    /// The signature of the token that speaks for the host: of the one that listens, or else of the one that did last.
    fn speaker(&self) -> Option<&Arc<str>> {
        let host = self.host.as_ref().map(|host| &host.signature);
        host.or_else(|| self.former.as_ref().map(|former| &former.signature))
    }

    fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        let host = self.host.iter().map(|host| &host.listener);
        host.chain(self.clients.values().map(|(_, listener)| listener))
    }
}

impl Rooms {
    pub(super) fn new(limits: RelayLimits, hold: Duration, metrics: Arc<Metrics>) -> Self {
        Rooms { table: RwLock::default(), limits, hold, closing: AtomicBool::new(false), metrics }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a host listens under this id, or the id is held for one.
    pub(super) fn is_taken(&self, host: &str) -> bool {
        self.read().rooms.get(host).is_some_and(|room| room.is_taken(None))
    }

    /// `None`: no host is listening.
    pub(super) fn host_dialect(&self, host: &str) -> Option<Dialect> {
        let dialect = |host: &Host| Dialect { native: host.native, texts: host.texts.load(Ordering::Relaxed) };
        self.read().rooms.get(host)?.host.as_ref().map(dialect)
    }

    /// The host has answered a client by a text.
    pub(super) fn host_texts(&self, host: &str) {
        if let Some(host) = self.read().rooms.get(host).and_then(|room| room.host.as_ref()) {
            host.texts.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody hosts under this id, or did so a moment ago.
    pub(super) fn is_known(&self, host: &str) -> bool {
        let table = self.read();
        table.rooms.contains_key(host) || table.left.get(host).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    /// How many streams are open.
    pub(super) fn listeners(&self) -> usize {
        self.read().listeners
    }

    /// The host's stream, and the signature of its token.
    pub(super) fn host(&self, host: &str) -> Option<(Arc<Listener>, Arc<str>)> {
        self.read().rooms.get(host)?.host.as_ref().map(|host| (host.listener.clone(), host.signature.clone()))
    }

    /// A client's stream, for a response token that names this seat. `None`: it does not listen, or the token was given
    /// to a host that is none any more.
    pub(super) fn client(&self, host: &str, client: &str, wanted: Option<&str>) -> Option<Arc<Listener>> {
        let table = self.read();
        let room = table.rooms.get(host)?;
        if wanted.is_some_and(|wanted| room.speaker().is_none_or(|speaker| seat(speaker) != wanted)) {
            return None;
        }
        room.clients.get(client).map(|(_, listener)| listener.clone())
    }

    /// Every client that listens under this id. `None`: nobody at all does, or this signature is not of the token that
    /// speaks for the host.
    pub(super) fn audience(&self, host: &str, signature: &str) -> Option<Arc<Audience>> {
        let table = self.read();
        let room = table.rooms.get(host)?;
        if room.speaker().is_none_or(|speaker| **speaker != *signature) {
            return None;
        }
        Some(room.audience.get_or_init(|| Audience::of(&room.clients)).clone())
    }

    /// Seats a host, and makes it the host of the clients that stayed. A native host may do so while its former stream
    /// has yet to break: it has moved to another network, and we would be the last to know.
    pub(super) fn listen_as_host(
        &self,
        listener: &Arc<Listener>,
        signature: &str,
        native: Option<u32>,
    ) -> Result<(), NotListening> {
        let table = &mut *self.write();
        let moved = |host: &mut Host| native.is_some() && *host.signature == *signature;
        if let Some(room) = table.rooms.get_mut(&listener.host)
            && let Some(former) = room.host.take_if(moved)
        {
            former.listener.kill();
            table.vacated(&former.listener);
        }
        match table.rooms.get(&listener.host) {
            Some(room) if room.is_taken(Some(signature)) => return Err(NotListening::Refused),
            None if table.rooms.len() >= self.limits.hosts => return Err(NotListening::Full(Refusal::Hosts)),
            _ => {}
        }
        self.seat(table, listener)?;
        let room = table.rooms.entry(listener.host.clone()).or_default();
        let (listener, signature) = (listener.clone(), signature.into());
        room.host = Some(Host { listener, signature, native, texts: AtomicBool::new(false), released: false });
        room.former = None;
        self.count(table);
        Ok(())
    }

    /// Seats a client.
    pub(super) fn listen_as_client(&self, listener: &Arc<Listener>, client: &Arc<str>) -> Result<(), NotListening> {
        let table = &mut *self.write();
        match table.rooms.get(&listener.host) {
            None => return Err(NotListening::Refused),
            Some(room) if room.clients.contains_key(client) => return Err(NotListening::Refused),
            Some(room) if room.clients.len() >= self.limits.clients_per_host => {
                return Err(NotListening::Full(Refusal::Clients));
            }
            Some(_) => {}
        }
        let seat = self.seat(table, listener)?;
        if let Some(room) = table.rooms.get_mut(&listener.host) {
            room.clients.insert(client.clone(), (seat, listener.clone()));
            room.audience = OnceLock::new();
        }
        self.count(table);
        Ok(())
    }

    fn seat(&self, table: &mut Table, listener: &Listener) -> Result<u64, NotListening> {
        let (limits, is_host) = (&self.limits, listener.client.is_none());
        let (all, of_hosts) =
            table.by_network.get(&listener.network).map_or((0, 0), |streams| (streams.all, streams.of_hosts));
        if self.closing.load(Ordering::Relaxed) {
            return Err(NotListening::Closing);
        }
        let full = match () {
            () if table.listeners >= limits.listeners => Some(Refusal::Streams),
            () if all >= limits.listeners_per_address => Some(Refusal::AddressStreams),
            () if is_host && of_hosts >= limits.hosts_per_address => Some(Refusal::AddressHosts),
            () => None,
        };
        if let Some(refusal) = full {
            return Err(NotListening::Full(refusal));
        }
        table.listeners += 1;
        table.seats += 1;
        let streams = table.by_network.entry(listener.network).or_default();
        streams.all += 1;
        streams.of_hosts += usize::from(is_host);
        Ok(table.seats)
    }

    fn count(&self, table: &Table) {
        self.metrics.sessions.set(table.rooms.len() as f64);
        self.metrics.listeners.set(table.listeners as f64);
    }

    /// Gives a host id free, now or when the host's stream ends. Whether the bearer of this signature may do so.
    pub(super) fn release(&self, host: &str, signature: &str) -> bool {
        let table = &mut *self.write();
        let Some(room) = table.rooms.get_mut(host) else { return true };
        match (&mut room.host, &room.former) {
            (Some(host), _) if *host.signature == *signature => host.released = true,
            (None, Some(former)) if *former.signature == *signature => room.former = None,
            (None, None) => {}
            _ => return false,
        }
        true
    }

    /// A stream ended: its seat is free and the others of the room are told. Does nothing when called again.
    pub(super) fn leave(&self, listener: &Arc<Listener>) {
        let table = &mut *self.write();
        // Telling the others finds those that do not read.
        let mut leaving = vec![listener.clone()];
        while let Some(listener) = leaving.pop() {
            self.vacate(table, &listener, |listener| leaving.push(listener.clone()));
        }
        self.count(table);
    }

    fn vacate(&self, table: &mut Table, listener: &Arc<Listener>, mut dropped: impl FnMut(&Arc<Listener>)) {
        let Some(room) = table.rooms.get_mut(&listener.host) else { return };
        let mut tell = |other: &Arc<Listener>, about: &Option<Arc<str>>, event: &Frame| {
            if !self.closing.load(Ordering::Relaxed) && other.tell(about, event).is_err() {
                self.metrics.dropped.increment(1);
                other.kill();
                dropped(other);
            }
        };
        match &listener.client {
            Some(client) => {
                if !room.clients.get(client).is_some_and(|(_, seated)| Arc::ptr_eq(seated, listener)) {
                    return;
                }
                room.clients.remove(client);
                room.audience = OnceLock::new();
                if let Some(host) = &room.host {
                    tell(&host.listener, &listener.client, &relay_event("client_closed", client));
                }
            }
            None => {
                let is_host = |host: &mut Host| Arc::ptr_eq(&host.listener, listener);
                let Some(host) = room.host.take_if(is_host) else { return };
                // Nobody waits for a host that nobody listened to.
                if !host.released && !room.clients.is_empty() {
                    room.former = Some(Former { signature: host.signature, held_until: Instant::now() + self.hold });
                }
                let event = relay_event("host_closed", &listener.host);
                room.clients.values().for_each(|(_, client)| tell(client, &None, &event));
            }
        }
        if room.host.is_none() && room.clients.is_empty() {
            table.rooms.remove(&listener.host);
            table.remember(&listener.host);
        }
        table.vacated(listener);
    }

    /// The open streams, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<Listener>> {
        self.read().rooms.values().flat_map(Room::listeners).cloned().collect()
    }

    /// Nobody is told from now on who leaves.
    pub(super) fn drain(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Ends every stream. Nobody is told that a host is gone: it may well be back after a restart of the relay.
    pub(super) fn close(&self) {
        self.drain();
        self.write().rooms.values().flat_map(Room::listeners).for_each(|listener| listener.finish());
    }
}

fn relay_event(kind: &str, id: &str) -> Frame {
    // A string: there is nothing here that JSON cannot hold.
    let id = serde_json::to_string(id).unwrap_or_default();
    Frame::text(&format!("event: relay_event\ndata: {{\"eventType\":\"{kind}\",\"body\":{id}}}\n\n"))
}
