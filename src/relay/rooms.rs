//! Who is listening under which host id.
//!
//! A room begins with its host's stream and ends with the last stream of its id. The lock over all rooms is held to
//! look up and to change seats, never to write: messages go into the listeners' queues.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{RelayLimits, frame::Frame, listener::Listener, metrics::Metrics};

/// Why somebody cannot listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotListening {
    /// Somebody else does, or nobody hosts: 400.
    Refused,
    /// One of the limits is reached: 503.
    Full,
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
}

#[derive(Default)]
struct Room {
    host: Option<Host>,
    clients: HashMap<Arc<str>, (u64, Arc<Listener>)>,
    /// The clients as broadcasts want them, made by the first one since they changed.
    audience: OnceLock<Arc<Audience>>,
    hold: Option<Hold>,
}

struct Host {
    listener: Arc<Listener>,
    /// Of the token it listens with.
    signature: Box<str>,
    /// The version of the native dialect it declared.
    native: Option<u32>,
    released: bool,
}

/// An id that is kept for a host whose stream dropped while clients stayed.
struct Hold {
    signature: Box<str>,
    until: Instant,
}

impl Room {
    /// Whether another host than the bearer of this signature can not listen now.
    fn is_taken(&self, signature: Option<&str>) -> bool {
        let held = |hold: &Hold| Instant::now() < hold.until && signature != Some(&*hold.signature);
        self.host.is_some() || self.hold.as_ref().is_some_and(held)
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

    /// `None`: no host is listening. Otherwise the version of the native dialect it declared, if any.
    pub(super) fn host_dialect(&self, host: &str) -> Option<Option<u32>> {
        self.read().rooms.get(host)?.host.as_ref().map(|host| host.native)
    }

    /// The host's stream.
    pub(super) fn host(&self, host: &str) -> Option<Arc<Listener>> {
        self.read().rooms.get(host)?.host.as_ref().map(|host| host.listener.clone())
    }

    /// A client's stream.
    pub(super) fn client(&self, host: &str, client: &str) -> Option<Arc<Listener>> {
        self.read().rooms.get(host)?.clients.get(client).map(|(_, listener)| listener.clone())
    }

    /// Every client that listens under this id. `None`: nobody at all does.
    pub(super) fn audience(&self, host: &str) -> Option<Arc<Audience>> {
        let table = self.read();
        let room = table.rooms.get(host)?;
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
            table.listeners -= 1;
        }
        match table.rooms.get(&listener.host) {
            Some(room) if room.is_taken(Some(signature)) => return Err(NotListening::Refused),
            None if table.rooms.len() >= self.limits.hosts => return Err(NotListening::Full),
            _ => {}
        }
        self.seat(table)?;
        let room = table.rooms.entry(listener.host.clone()).or_default();
        let (listener, signature) = (listener.clone(), signature.into());
        room.host = Some(Host { listener, signature, native, released: false });
        room.hold = None;
        self.count(table);
        Ok(())
    }

    /// Seats a client.
    pub(super) fn listen_as_client(&self, listener: &Arc<Listener>, client: &Arc<str>) -> Result<(), NotListening> {
        let table = &mut *self.write();
        match table.rooms.get(&listener.host) {
            None => return Err(NotListening::Refused),
            Some(room) if room.clients.contains_key(client) => return Err(NotListening::Refused),
            Some(room) if room.clients.len() >= self.limits.clients_per_host => return Err(NotListening::Full),
            Some(_) => {}
        }
        let seat = self.seat(table)?;
        if let Some(room) = table.rooms.get_mut(&listener.host) {
            room.clients.insert(client.clone(), (seat, listener.clone()));
            room.audience = OnceLock::new();
        }
        self.count(table);
        Ok(())
    }

    fn seat(&self, table: &mut Table) -> Result<u64, NotListening> {
        if table.listeners >= self.limits.listeners || self.closing.load(Ordering::Relaxed) {
            return Err(NotListening::Full);
        }
        table.listeners += 1;
        table.seats += 1;
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
        match (&mut room.host, &room.hold) {
            (Some(host), _) if *host.signature == *signature => host.released = true,
            (None, Some(hold)) if *hold.signature == *signature => room.hold = None,
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
        let mut tell = |other: &Arc<Listener>, event: &Frame| {
            if !self.closing.load(Ordering::Relaxed) && other.push(event).is_err() {
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
                    tell(&host.listener, &relay_event("client_closed", client));
                }
            }
            None => {
                let is_host = |host: &mut Host| Arc::ptr_eq(&host.listener, listener);
                let Some(host) = room.host.take_if(is_host) else { return };
                if !host.released && !self.hold.is_zero() {
                    room.hold = Some(Hold { signature: host.signature, until: Instant::now() + self.hold });
                }
                let event = relay_event("host_closed", &listener.host);
                room.clients.values().for_each(|(_, client)| tell(client, &event));
            }
        }
        table.listeners -= 1;
        if room.host.is_none() && room.clients.is_empty() {
            table.rooms.remove(&listener.host);
        }
    }

    /// Ends every stream. Nobody is told that a host is gone: it may well be back after a restart of the relay.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.write().rooms.values().flat_map(Room::listeners).for_each(|listener| listener.finish());
    }
}

fn relay_event(kind: &str, id: &str) -> Frame {
    // A string: there is nothing here that JSON cannot hold.
    let id = serde_json::to_string(id).unwrap_or_default();
    Frame::text(&format!("event: relay_event\ndata: {{\"eventType\":\"{kind}\",\"body\":{id}}}\n\n"))
}
