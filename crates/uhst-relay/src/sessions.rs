//! The sessions of a relay: which host and clients listen under each host id.
//!
//! A session begins with its host's stream and ends with its last stream. The lock over all sessions is held only to
//! look up and to change subscriptions, never to write: messages go into the listeners' queues.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    RelayLimits,
    event::EncodedEvent,
    listener::Listener,
    metrics::{Metrics, Refusal},
    subscribers::Subscribers,
    tokens::host_tag,
};

/// The reason why a peer cannot listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscribeError {
    /// Another peer already listens in this role, or no host listens (400).
    Refused,
    /// A limit is reached (503).
    Full(Refusal),
    /// The relay is shutting down.
    Closing,
}

/// All sessions of a relay.
pub(super) struct Sessions {
    table: RwLock<Table>,
    limits: RelayLimits,
    hold: Duration,
    closing: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<Arc<str>, Session>,
    listeners: usize,
    /// The number of subscriptions so far. It orders the clients of a host.
    subscriptions: u64,
    by_network: HashMap<IpAddr, Streams>,
    /// The time when the last stream of an id ended.
    recent: HashMap<Arc<str>, Instant>,
}

/// The number of open streams of one address.
#[derive(Default)]
struct Streams {
    all: usize,
    of_hosts: usize,
}

impl Table {
    /// Removes a listener from the counts.
    fn release_slot(&mut self, listener: &Listener) {
        self.listeners -= 1;
        if let Some(streams) = self.by_network.get_mut(&listener.network) {
            streams.all -= 1;
            streams.of_hosts -= usize::from(listener.client.is_none());
            if streams.all == 0 {
                self.by_network.remove(&listener.network);
            }
        }
    }

    /// Remembers for a while that this id was in use.
    fn remember(&mut self, host: &Arc<str>) {
        let now = Instant::now();
        if self.recent.len() >= MAX_RECENT {
            self.recent.retain(|_, at| now.duration_since(*at) < RECENT);
        }
        if self.recent.len() < MAX_RECENT {
            self.recent.insert(host.clone(), now);
        }
    }
}

/// How long the relay remembers that an id was in use, and for how many ids. A join with such an id is not counted as a
/// guess.
const RECENT: Duration = Duration::from_secs(120);
const MAX_RECENT: usize = 10_000;

#[derive(Default)]
struct Session {
    host: Option<Host>,
    clients: HashMap<Arc<str>, (u64, Arc<Listener>)>,
    /// The clients in the form that broadcasts need. The first broadcast after a change builds it.
    subscribers: OnceLock<Arc<Subscribers>>,
    former: Option<FormerHost>,
}

struct Host {
    listener: Arc<Listener>,
    /// The signature of the host token.
    signature: Arc<str>,
    /// The version of the native dialect that the host declared.
    native: Option<u32>,
    /// Whether the host has answered a client with a text.
    texts: AtomicBool,
    released: bool,
}

/// The dialect of a host, as far as the relay knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The version of the native dialect that the host declared, if any.
    pub(super) native: Option<u32>,
    /// Whether it is an original host on the relay transport.
    pub(super) texts: bool,
}

/// A host whose stream was lost while clients stayed.
struct FormerHost {
    signature: Arc<str>,
    /// The time until which the id is reserved. Afterwards this token still speaks for the host until another host
    /// listens, as with the original.
    held_until: Instant,
}

impl Dialect {
    /// Returns whether the host's next answer can reveal more about its dialect.
    pub(super) fn is_open(self) -> bool {
        self.native.is_none() && !self.texts
    }
}

impl Session {
    /// Returns whether the id is unavailable to a host with this signature.
    fn is_taken(&self, signature: Option<&str>) -> bool {
        let held = |former: &FormerHost| Instant::now() < former.held_until && signature != Some(&*former.signature);
        self.host.is_some() || self.former.as_ref().is_some_and(held)
    }

    /// The signature of the token that speaks for the host: that of the current host, or of the last one.
    fn host_signature(&self) -> Option<&Arc<str>> {
        let host = self.host.as_ref().map(|host| &host.signature);
        host.or_else(|| self.former.as_ref().map(|former| &former.signature))
    }

    fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        let host = self.host.iter().map(|host| &host.listener);
        host.chain(self.clients.values().map(|(_, listener)| listener))
    }
}

impl Sessions {
    pub(super) fn new(limits: RelayLimits, hold: Duration, metrics: Arc<Metrics>) -> Self {
        Sessions { table: RwLock::default(), limits, hold, closing: AtomicBool::new(false), metrics }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a host listens under this id, or the id is reserved for one.
    pub(super) fn is_taken(&self, host: &str) -> bool {
        self.read().sessions.get(host).is_some_and(|session| session.is_taken(None))
    }

    /// Returns the dialect of the host, or `None` if no host listens.
    pub(super) fn host_dialect(&self, host: &str) -> Option<Dialect> {
        let dialect = |host: &Host| Dialect { native: host.native, texts: host.texts.load(Ordering::Relaxed) };
        self.read().sessions.get(host)?.host.as_ref().map(dialect)
    }

    /// Records that the host has answered a client with a text.
    pub(super) fn host_texts(&self, host: &str) {
        if let Some(host) = self.read().sessions.get(host).and_then(|session| session.host.as_ref()) {
            host.texts.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether this id is in use or was in use recently.
    pub(super) fn is_known(&self, host: &str) -> bool {
        let table = self.read();
        table.sessions.contains_key(host) || table.recent.get(host).is_some_and(|at| at.elapsed() < RECENT)
    }

    /// The number of open streams.
    pub(super) fn listeners(&self) -> usize {
        self.read().listeners
    }

    /// Returns the host's listener and the signature of its token.
    pub(super) fn host(&self, host: &str) -> Option<(Arc<Listener>, Arc<str>)> {
        self.read().sessions.get(host)?.host.as_ref().map(|host| (host.listener.clone(), host.signature.clone()))
    }

    /// Returns a client's listener. `wanted` is the host tag of a response token. The result is `None` if the client
    /// does not listen, or if the token was issued to a former host.
    pub(super) fn client(&self, host: &str, client: &str, wanted: Option<&str>) -> Option<Arc<Listener>> {
        let table = self.read();
        let session = table.sessions.get(host)?;
        if wanted.is_some_and(|wanted| {
            session.host_signature().is_none_or(|host_signature| host_tag(host_signature) != wanted)
        }) {
            return None;
        }
        session.clients.get(client).map(|(_, listener)| listener.clone())
    }

    /// Returns all clients of a host. The result is `None` if the session does not exist, or if the signature does not
    /// belong to the token that speaks for the host.
    pub(super) fn subscribers(&self, host: &str, signature: &str) -> Option<Arc<Subscribers>> {
        let table = self.read();
        let session = table.sessions.get(host)?;
        if session.host_signature().is_none_or(|host_signature| **host_signature != *signature) {
            return None;
        }
        Some(session.subscribers.get_or_init(|| Subscribers::new(&session.clients)).clone())
    }

    /// Subscribes a host, which takes over the clients that stayed. A native host may subscribe while its former stream
    /// is still open: after a change of network, the relay notices the loss of the old stream late.
    pub(super) fn subscribe_host(
        &self,
        listener: &Arc<Listener>,
        signature: &str,
        native: Option<u32>,
    ) -> Result<(), SubscribeError> {
        let table = &mut *self.write();
        let moved = |host: &mut Host| native.is_some() && *host.signature == *signature;
        if let Some(session) = table.sessions.get_mut(&listener.host)
            && let Some(former) = session.host.take_if(moved)
        {
            former.listener.kill();
            table.release_slot(&former.listener);
        }
        match table.sessions.get(&listener.host) {
            Some(session) if session.is_taken(Some(signature)) => return Err(SubscribeError::Refused),
            None if table.sessions.len() >= self.limits.hosts => return Err(SubscribeError::Full(Refusal::Hosts)),
            _ => {}
        }
        self.reserve(table, listener)?;
        let session = table.sessions.entry(listener.host.clone()).or_default();
        let (listener, signature) = (listener.clone(), signature.into());
        session.host = Some(Host { listener, signature, native, texts: AtomicBool::new(false), released: false });
        session.former = None;
        self.count(table);
        Ok(())
    }

    /// Subscribes a client.
    pub(super) fn subscribe_client(&self, listener: &Arc<Listener>, client: &Arc<str>) -> Result<(), SubscribeError> {
        let table = &mut *self.write();
        match table.sessions.get(&listener.host) {
            None => return Err(SubscribeError::Refused),
            Some(session) if session.clients.contains_key(client) => return Err(SubscribeError::Refused),
            Some(session) if session.clients.len() >= self.limits.clients_per_host => {
                return Err(SubscribeError::Full(Refusal::Clients));
            }
            Some(_) => {}
        }
        let order = self.reserve(table, listener)?;
        if let Some(session) = table.sessions.get_mut(&listener.host) {
            session.clients.insert(client.clone(), (order, listener.clone()));
            session.subscribers = OnceLock::new();
        }
        self.count(table);
        Ok(())
    }

    fn reserve(&self, table: &mut Table, listener: &Listener) -> Result<u64, SubscribeError> {
        let (limits, is_host) = (&self.limits, listener.client.is_none());
        let (all, of_hosts) =
            table.by_network.get(&listener.network).map_or((0, 0), |streams| (streams.all, streams.of_hosts));
        if self.closing.load(Ordering::Relaxed) {
            return Err(SubscribeError::Closing);
        }
        let full = match () {
            () if table.listeners >= limits.listeners => Some(Refusal::Streams),
            () if all >= limits.listeners_per_address => Some(Refusal::AddressStreams),
            () if is_host && of_hosts >= limits.hosts_per_address => Some(Refusal::AddressHosts),
            () => None,
        };
        if let Some(refusal) = full {
            return Err(SubscribeError::Full(refusal));
        }
        table.listeners += 1;
        table.subscriptions += 1;
        let streams = table.by_network.entry(listener.network).or_default();
        streams.all += 1;
        streams.of_hosts += usize::from(is_host);
        Ok(table.subscriptions)
    }

    fn count(&self, table: &Table) {
        self.metrics.sessions.set(table.sessions.len() as f64);
        self.metrics.listeners.set(table.listeners as f64);
    }

    /// Releases a host id, now or when the host's stream ends. Returns `false` if the signature does not belong to the
    /// host.
    pub(super) fn release(&self, host: &str, signature: &str) -> bool {
        let table = &mut *self.write();
        let Some(session) = table.sessions.get_mut(host) else { return true };
        match (&mut session.host, &session.former) {
            (Some(host), _) if *host.signature == *signature => host.released = true,
            (None, Some(former)) if *former.signature == *signature => session.former = None,
            (None, None) => {}
            _ => return false,
        }
        true
    }

    /// Ends the subscription of a listener and notifies the rest of the session. Further calls have no effect.
    pub(super) fn unsubscribe(&self, listener: &Arc<Listener>) {
        let table = &mut *self.write();
        // Notifying others can reveal listeners that do not read; they are removed as well.
        let mut ended = vec![listener.clone()];
        while let Some(listener) = ended.pop() {
            self.remove(table, &listener, |listener| ended.push(listener.clone()));
        }
        self.count(table);
    }

    fn remove(&self, table: &mut Table, listener: &Arc<Listener>, mut dropped: impl FnMut(&Arc<Listener>)) {
        let Some(session) = table.sessions.get_mut(&listener.host) else { return };
        let mut report = |other: &Arc<Listener>, about: &Option<Arc<str>>, event: &EncodedEvent| {
            if !self.closing.load(Ordering::Relaxed) && other.report(about, event).is_err() {
                self.metrics.dropped.increment(1);
                other.kill();
                dropped(other);
            }
        };
        match &listener.client {
            Some(client) => {
                if !session.clients.get(client).is_some_and(|(_, subscribed)| Arc::ptr_eq(subscribed, listener)) {
                    return;
                }
                session.clients.remove(client);
                session.subscribers = OnceLock::new();
                if let Some(host) = &session.host {
                    report(&host.listener, &listener.client, &relay_event("client_closed", client));
                }
            }
            None => {
                let is_host = |host: &mut Host| Arc::ptr_eq(&host.listener, listener);
                let Some(host) = session.host.take_if(is_host) else { return };
                // An id is reserved only if clients still listen.
                if !host.released && !session.clients.is_empty() {
                    session.former =
                        Some(FormerHost { signature: host.signature, held_until: Instant::now() + self.hold });
                }
                let event = relay_event("host_closed", &listener.host);
                session.clients.values().for_each(|(_, client)| report(client, &None, &event));
            }
        }
        if session.host.is_none() && session.clients.is_empty() {
            table.sessions.remove(&listener.host);
            table.remember(&listener.host);
        }
        table.release_slot(listener);
    }

    /// Returns all open streams, each host's before those of its clients.
    pub(super) fn all(&self) -> Vec<Arc<Listener>> {
        self.read().sessions.values().flat_map(Session::listeners).cloned().collect()
    }

    /// Stops notifying peers about others that leave.
    pub(super) fn drain(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Ends every stream without notifying clients about their host, which may return after a restart of the relay.
    pub(super) fn close(&self) {
        self.drain();
        self.write().sessions.values().flat_map(Session::listeners).for_each(|listener| listener.finish());
    }
}

fn relay_event(kind: &str, id: &str) -> EncodedEvent {
    // A string always has a JSON form.
    let id = serde_json::to_string(id).unwrap_or_default();
    EncodedEvent::text(&format!("event: relay_event\ndata: {{\"eventType\":\"{kind}\",\"body\":{id}}}\n\n"))
}
