//! The task of a host: keeps the id and the event stream, hands each message to the task of its sender, and lets new
//! peers in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use n0_future::{
    boxed::BoxFuture,
    task,
    time::{Instant, timeout},
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    client::{INPUTS, left, seed},
    contract::{Admission, Event, EventKind, HostOptions, PeerKey, SessionCommand, SessionKey},
    events::{EventStream, StreamItem},
    listening::{Listening, Relistened, relisten, start},
    peer::{NativePeer, Role},
    peer_link::{Outcome, PeerContext, PeerInput, PeerOutput, Route},
    plain::{self, DirectPeer, RelayPeer},
    relay_client::{Access, RelayClient},
    relay_error::RelayError,
    report::{Nonsense, Reports},
    webrtc::AddressWatch,
};
use crate::{
    connection::{Connection, ConnectionId, Credentials, Time, Tombstone},
    protocol::{
        Body, EndReason, JoinLink, NATIVE_VERSION, PathPolicy, StreamEvent,
        frame::{self, Contact},
        peek_token,
    },
};

/// Joiners that may be on their way in. Of more, the oldest gives way: it has had its time, unlike a new one.
const PENDING: usize = 64;
/// Handshakes begun at once, and each second: one costs a host some hundred microseconds of elliptic curves. A joiner
/// that is too many asks again a moment later.
const HELLOS: f64 = 64.0;
/// Original clients that were sent away and may not come back under the same client id.
const SHUNNED: usize = 256;
/// Connections that have ended, whose peers can still be told so.
const TOMBSTONES: usize = 256;
/// How long peers have to take a goodbye.
const GOODBYE: Duration = Duration::from_millis(2500);

/// Runs a host to its end, and reports it.
pub(super) async fn run(
    session: SessionKey,
    options: HostOptions,
    events: crossbeam_channel::Sender<Event>,
    mut commands: mpsc::UnboundedReceiver<SessionCommand>,
) {
    let mut embedded = None;
    let started = tokio::select! {
        started = start(&options, &mut embedded) => Some(started),
        () = left(&mut commands) => None,
    };
    let reason = match started {
        Some(Ok(listening)) => {
            let links = match &embedded {
                Some(embedded) => embedded.links(&listening.id),
                None => vec![JoinLink { relay: listening.relay.url().cloned(), id: listening.id.clone() }],
            };
            let kind = EventKind::Ready { id: listening.id.clone(), links };
            let _ = events.send(Event { session, kind });
            Host::new(session, options, events.clone(), commands, listening).run().await
        }
        Some(Err(reason)) => reason,
        None => EndReason::Left,
    };
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    let _ = events.send(Event { session, kind: EventKind::Ended { reason } });
}

/// One peer, from its first word to the end of its task.
struct Entry {
    inputs: mpsc::Sender<PeerInput>,
    client: String,
    /// What a native one began with.
    hello: Option<Bytes>,
    connection: Option<ConnectionId>,
    /// It has one of the places. Before, it has yet to prove that it knows the password.
    placed: bool,
    native: bool,
    /// The relay said that its stream closed.
    closed: bool,
}

struct Host {
    session: SessionKey,
    options: HostOptions,
    events: crossbeam_channel::Sender<Event>,
    commands: mpsc::UnboundedReceiver<SessionCommand>,
    relay: RelayClient,
    id: String,
    access: Access,
    stream: Option<EventStream>,
    places: Arc<Semaphore>,
    peers: BTreeMap<PeerKey, Entry>,
    by_client: HashMap<String, PeerKey>,
    by_connection: HashMap<ConnectionId, PeerKey>,
    next_key: u64,
    tombstones: VecDeque<Tombstone>,
    shunned: VecDeque<String>,
    /// How many handshakes may begin, and as of when.
    hellos: (f64, Instant),
    outputs: mpsc::UnboundedSender<(PeerKey, PeerOutput)>,
    heard: mpsc::UnboundedReceiver<(PeerKey, PeerOutput)>,
    reports: Reports,
}

impl Host {
    fn new(
        session: SessionKey,
        options: HostOptions,
        events: crossbeam_channel::Sender<Event>,
        commands: mpsc::UnboundedReceiver<SessionCommand>,
        Listening { relay, id, access, stream }: Listening,
    ) -> Self {
        let (outputs, heard) = mpsc::unbounded_channel();
        Host {
            session,
            places: Arc::new(Semaphore::new(options.max_peers.min(Semaphore::MAX_PERMITS))),
            options,
            reports: Reports::new(session, events.clone()),
            events,
            commands,
            relay,
            id,
            access,
            stream: Some(stream),
            peers: BTreeMap::new(),
            by_client: HashMap::new(),
            by_connection: HashMap::new(),
            next_key: 0,
            tombstones: VecDeque::new(),
            shunned: VecDeque::new(),
            hellos: (HELLOS, Instant::now()),
            outputs,
            heard,
        }
    }

    async fn run(mut self) -> EndReason {
        let mut reconnect: Option<BoxFuture<Relistened>> = None;
        let mut addresses = AddressWatch::new();
        loop {
            let item = async {
                match &mut self.stream {
                    Some(stream) => stream.next().await,
                    None => std::future::pending().await,
                }
            };
            let back = async {
                match &mut reconnect {
                    Some(reconnect) => reconnect.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                item = item => match item {
                    Ok(item) => self.item(item).await,
                    Err(error) => reconnect = Some(self.relay_lost(&error).await),
                },
                change = addresses.changed() => {
                    if change.gone && self.relay.forget_connections() && self.stream.is_some() {
                        let gone = RelayError::Unreachable("an address of this machine is gone".to_owned());
                        reconnect = Some(self.relay_lost(&gone).await);
                    }
                    self.tell_all(|| PeerInput::AddressesChanged(change)).await;
                }
                back = back => {
                    reconnect = None;
                    match back {
                        Ok((access, stream)) => {
                            self.access = access;
                            self.stream = Some(stream);
                            self.reports.say("the relay is back".to_owned());
                            self.tell_all(|| PeerInput::RelayUp(None)).await;
                        }
                        // Direct paths do not need it.
                        Err(_) if !self.peers.is_empty() => reconnect = Some(self.relisten()),
                        Err(reason) => return self.end(reason).await,
                    }
                }
                Some((key, output)) = self.heard.recv() => match output {
                    // Its stream would stay silent for long before it broke.
                    PeerOutput::RelayGone(error) if self.stream.is_some() => {
                        reconnect = Some(self.relay_lost(&error).await);
                    }
                    output => self.output(key, output),
                },
                command = self.commands.recv() => match command {
                    Some(SessionCommand::Decide { peer, decision }) => self.tell(peer, PeerInput::Decide(decision)).await,
                    Some(SessionCommand::Conditions(conditions)) => {
                        self.options.conditions = conditions;
                        self.tell_all(|| PeerInput::Conditions(conditions)).await;
                    }
                    Some(SessionCommand::Leave) | None => return self.end(EndReason::Left).await,
                },
            }
        }
    }

    async fn relay_lost(&mut self, error: &RelayError) -> BoxFuture<Relistened> {
        self.stream = None;
        self.reports.say(format!("the relay is lost: {error}"));
        self.tell_all(|| PeerInput::RelayDown).await;
        self.relisten()
    }

    fn relisten(&self) -> BoxFuture<Relistened> {
        let window = self.options.connection.resume_timeout;
        Box::pin(relisten(self.relay.clone(), self.id.clone(), self.access.clone(), window))
    }

    /// Sends everyone off, waits for their tasks, and lets the id go.
    async fn end(mut self, reason: EndReason) -> EndReason {
        self.tell_all(|| PeerInput::Disconnect(reason.clone())).await;
        let goodbyes = async {
            while !self.peers.is_empty() {
                let item = async {
                    match &mut self.stream {
                        Some(stream) => stream.next().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    // Peers still have to be heard: they acknowledge what they are sent.
                    item = item => match item {
                        Ok(StreamItem::Event(event)) => self.event(event, false).await,
                        Ok(_) => {}
                        Err(_) => self.stream = None,
                    },
                    Some((key, output)) = self.heard.recv() => self.output(key, output),
                }
            }
        };
        let _ = timeout(GOODBYE, goodbyes).await;
        // Tasks that are still there end with their inputs, and report nothing: this does.
        self.relay.release(&self.access).await;
        reason
    }

    async fn item(&mut self, item: StreamItem) {
        match item {
            StreamItem::Event(event) => self.event(event, true).await,
            StreamItem::Bad(error) => self.reports.once(Nonsense::Event, || error.to_string()),
            StreamItem::Open | StreamItem::Alive => {}
        }
    }

    /// `open`: whether newcomers are let in.
    async fn event(&mut self, event: StreamEvent, open: bool) {
        let (token, body) = match event {
            StreamEvent::Message { response_token: Some(token), body } => (token, body),
            StreamEvent::Message { response_token: None, .. } => {
                return self.reports.once(Nonsense::Token, || "the relay did not say who sent a message".to_owned());
            }
            StreamEvent::ClientClosed(client) => {
                self.shunned.retain(|shunned| *shunned != client);
                if let Some(&key) = self.by_client.get(&client) {
                    if let Some(entry) = self.peers.get_mut(&key) {
                        entry.closed = true;
                    }
                    self.tell(key, PeerInput::PeerClosed).await;
                }
                return;
            }
            StreamEvent::HostClosed(_) => return,
        };
        let Some(client) = peek_token(&token).ok().and_then(|claims| claims.client_id) else {
            return self.reports.once(Nonsense::Token, || "the relay sent a token that names no client".to_owned());
        };
        let body = match Body::parse(body.get()) {
            Ok(body) => body,
            Err(error) => {
                return self.reports.once(Nonsense::Body, || format!("a message cannot be read: {error}"));
            }
        };
        let route = Route { send_to: self.access.send_to.clone(), token };
        match (self.by_client.get(&client), body) {
            (Some(&key), body) => self.tell(key, PeerInput::Body(body, Some(route))).await,
            (None, Body::Native { packet, .. }) => self.native_stranger(client, packet, route, open).await,
            (None, Body::Signal(_)) if self.options.paths == PathPolicy::RelayOnly => {
                self.reports.once(Nonsense::Signal, || {
                    "a peer of the original protocol was ignored: it wants WebRTC, and this session stays on the relay"
                        .to_owned()
                });
            }
            (None, body) if self.options.paths == PathPolicy::DirectOnly && !matches!(body, Body::Signal(_)) => {
                self.reports.once(Nonsense::Signal, || {
                    "a peer of the original protocol was ignored: it wants the relay, and this session allows direct \
                     paths only"
                        .to_owned()
                });
            }
            (None, body) if open && !self.shunned.contains(&client) => self.plain_stranger(client, body, route).await,
            (None, _) => {}
        }
    }

    async fn native_stranger(&mut self, client: String, packet: Bytes, route: Route, open: bool) {
        let began_with = |entry: &Entry| entry.hello.as_ref() == Some(&packet);
        if let Some((&key, _)) = self.peers.iter().find(|(_, entry)| began_with(entry)) {
            return self.tell(key, PeerInput::HelloAgain { hello: packet, route, client }).await;
        }
        match Contact::peek(&packet) {
            Contact::Hello if !open || !self.may_begin() => {}
            Contact::Hello if self.places.available_permits() == 0 && self.options.password.is_none() => {
                self.context(PeerKey(u64::MAX)).post(route, frame::refusal(&EndReason::Full));
            }
            Contact::Hello => {
                self.make_room();
                let HostOptions { password, game, .. } = &self.options;
                let credentials =
                    Credentials { host_id: self.id.clone(), password: password.clone(), game: game.clone() };
                let role = Role::Host { admission: self.options.admission, places: self.places.clone() };
                let (config, metadata) = (self.options.connection.clone(), self.options.metadata.clone());
                let Ok(seed) = seed() else { return };
                // Its metadata was checked at the start.
                let Ok(connection) = Connection::accept(config, &credentials, metadata, seed, Time::ZERO) else {
                    return;
                };
                let (cx, inputs, mut receiver) = self.admit(client, Some(packet.clone()));
                let connection = connection.with_paths(cx.paths);
                let peer = NativePeer::new(cx.clone(), role, Some(route.clone()), connection);
                let hello = PeerInput::Body(Body::Native { version: NATIVE_VERSION, packet }, Some(route));
                let _ = inputs.send(hello).await;
                task::spawn(async move {
                    if let Outcome::Ended(reason, tombstone) = peer.run(&mut receiver).await {
                        cx.tell(PeerOutput::Ended { reason, tombstone });
                    }
                });
            }
            Contact::Resume(id) => match self.by_connection.get(&id) {
                Some(&key) => self.tell(key, PeerInput::Resume { packet, route, client }).await,
                None => {
                    if let Some(answer) = self.tombstones.iter().find_map(|stone| stone.answer(&packet)) {
                        self.context(PeerKey(u64::MAX)).post(route, answer);
                    }
                }
            },
            Contact::Other => self.reports.once(Nonsense::Packet, || "a packet came from nobody we know".to_owned()),
        }
    }

    /// An original whose first word this is: a text means the relay transport, a signal WebRTC.
    async fn plain_stranger(&mut self, client: String, first: Body, route: Route) {
        if self.options.password.is_some() {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: it cannot prove a password".to_owned()
            });
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: the session is full".to_owned()
            });
        };
        let ask = self.options.admission == Admission::Ask;
        let direct = matches!(first, Body::Signal(_));
        let (cx, inputs, mut receiver) = self.admit(client, None);
        let _ = inputs.send(PeerInput::Body(first, Some(route.clone()))).await;
        task::spawn(async move {
            let asked = if ask { plain::ask(&cx, &mut receiver).await } else { Ok(Vec::new()) };
            let outcome = match asked {
                Ok(first) if direct => DirectPeer::answer(cx.clone(), place).run(first, &mut receiver).await,
                Ok(first) => RelayPeer::client(cx.clone(), route, place).run(first, &mut receiver).await,
                Err(reason) => Outcome::Ended(reason, None),
            };
            if let Outcome::Ended(reason, tombstone) = outcome {
                cx.tell(PeerOutput::Ended { reason, tombstone });
            }
        });
    }

    /// Whether one more handshake may begin now.
    fn may_begin(&mut self) -> bool {
        let (left, since) = self.hellos;
        let now = Instant::now();
        let left = HELLOS.min(left + (now - since).as_secs_f64() * HELLOS);
        let may = left >= 1.0;
        self.hellos = (if may { left - 1.0 } else { left }, now);
        may
    }

    /// Without its inputs, the task of the oldest joiner ends.
    fn make_room(&mut self) {
        let mut pending = self.peers.iter().filter(|(_, entry)| !entry.placed).map(|(key, _)| *key);
        if let Some(oldest) = pending.next()
            && pending.count() + 1 >= PENDING
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, key: PeerKey) -> Option<Entry> {
        let entry = self.peers.remove(&key)?;
        self.by_client.remove(&entry.client);
        entry.connection.map(|id| self.by_connection.remove(&id));
        Some(entry)
    }

    fn admit(
        &mut self,
        client: String,
        hello: Option<Bytes>,
    ) -> (PeerContext, mpsc::Sender<PeerInput>, mpsc::Receiver<PeerInput>) {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let (inputs, receiver) = mpsc::channel(INPUTS);
        self.by_client.insert(client.clone(), key);
        let native = hello.is_some();
        let entry =
            Entry { inputs: inputs.clone(), client, hello, connection: None, placed: !native, native, closed: false };
        self.peers.insert(key, entry);
        (self.context(key), inputs, receiver)
    }

    fn context(&self, key: PeerKey) -> PeerContext {
        PeerContext {
            session: self.session,
            key,
            events: self.events.clone(),
            outputs: self.outputs.clone(),
            relay: self.relay.clone(),
            config: self.options.connection.clone(),
            paths: self.options.paths,
            direct: self.options.direct.clone(),
            conditions: self.options.conditions,
        }
    }

    fn output(&mut self, key: PeerKey, output: PeerOutput) {
        match output {
            PeerOutput::Identified(id) => {
                if let Some(entry) = self.peers.get_mut(&key) {
                    entry.connection = Some(id);
                    self.by_connection.insert(id, key);
                }
            }
            PeerOutput::Placed => {
                if let Some(entry) = self.peers.get_mut(&key) {
                    entry.placed = true;
                }
            }
            PeerOutput::Rebound(client) => {
                if let Some(entry) = self.peers.get_mut(&key) {
                    self.by_client.remove(&entry.client);
                    self.by_client.insert(client.clone(), key);
                    entry.client = client;
                }
            }
            // The route is stale; its peer brings a new one when it resumes.
            PeerOutput::BadToken | PeerOutput::RelaySilent | PeerOutput::RelayGone(_) => {}
            PeerOutput::Ended { reason, tombstone } => {
                tracing::debug!(peer = key.0, "a peer's task ended: {reason}");
                // To originals, a message of somebody who was sent away would be a new beginning.
                if let Some(entry) = self.forget(key).filter(|entry| !entry.native && !entry.closed) {
                    self.shunned.truncate(SHUNNED - 1);
                    self.shunned.push_front(entry.client);
                }
                if let Some(stone) = tombstone {
                    self.tombstones.truncate(TOMBSTONES - 1);
                    self.tombstones.push_front(stone);
                }
            }
        }
    }

    async fn tell(&mut self, key: PeerKey, input: PeerInput) {
        if let Some(entry) = self.peers.get(&key) {
            // A task that has just ended will say so.
            let _ = entry.inputs.send(input).await;
        }
    }

    async fn tell_all(&mut self, input: impl Fn() -> PeerInput) {
        for entry in self.peers.values() {
            let _ = entry.inputs.send(input()).await;
        }
    }
}
