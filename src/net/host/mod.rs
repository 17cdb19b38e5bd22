//! The task of a host: keeps the id and the event stream, and hands each message to the task of its sender.

mod newcomers;
mod settings;
mod shares;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use n0_future::{
    boxed::BoxFuture,
    time::{Instant, timeout},
};
use tokio::sync::mpsc;
use url::Url;

use self::shares::Shares;
use super::{
    client::left,
    contract::{Event, EventKind, HostOptions, PeerKey, SessionCommand, SessionKey},
    embedded::Embedded,
    events::{EventStream, StreamItem},
    listening::{Listening, Relistened, relisten, start},
    peer_link::{PeerContext, PeerInput, PeerOutput, Route},
    places::Places,
    relay_client::{Access, RelayClient},
    relay_error::RelayError,
    report::{Nonsense, Reports},
    webrtc::AddressWatch,
};
use crate::{
    connection::{ConnectionId, Tombstone},
    protocol::{Body, EndReason, JoinLink, PathPolicy, SenderClaims, StreamEvent, frame::HandshakeKind, peek_sender},
};

/// Original clients that were sent away and may not come back under the same client id.
const SHUNNED: usize = 256;
/// Connections that have ended, whose peers can still be told so.
const TOMBSTONES: usize = 256;
/// How long the tasks of peers have for their last word, once the time to drain is over.
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
                None => vec![JoinLink { relay: listening.relay.url(), id: listening.id.clone() }],
            };
            let kind = EventKind::Ready { id: listening.id.clone(), links };
            let _ = events.send(Event { session, kind });
            Host::new(session, options, events.clone(), commands, listening).run(embedded.as_ref()).await
        }
        Some(Err(reason)) => reason,
        None => EndReason::EndedLocally,
    };
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    let _ = events.send(Event { session, kind: EventKind::Ended { reason } });
}

/// What joiners of a locked session are told.
const LOCKED: &str = "nobody new may join this session now";

/// One peer, from its first word to the end of its task.
struct Entry {
    inputs: mpsc::Sender<PeerInput>,
    client: String,
    /// Where it comes from, see [`Sender::origin`].
    origin: Box<str>,
    /// What a native one began with.
    hello: Option<Bytes>,
    connection: Option<ConnectionId>,
    /// It has one of the places. Before, it has yet to prove that it knows the password.
    placed: bool,
    native: bool,
    interrupted: Option<Instant>,
    /// The relay said that its stream closed.
    closed: bool,
}

/// Who sent a message, as the relay says.
struct Sender {
    client: String,
    /// What stands for its address: the relay's name for that, or the client's id where the relay gives none.
    origin: Box<str>,
    /// Whether it has an event stream, if the relay tells.
    listens: Option<bool>,
}

impl Sender {
    fn of(token: &str) -> Option<Self> {
        let SenderClaims { client_id: client, from, listens } = peek_sender(token).ok()?;
        let origin = from.unwrap_or_else(|| client.clone()).into();
        Some(Sender { client, origin, listens })
    }
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
    places: Arc<Places>,
    peers: BTreeMap<PeerKey, Entry>,
    by_client: HashMap<String, PeerKey>,
    by_connection: HashMap<ConnectionId, PeerKey>,
    next_key: u64,
    tombstones: VecDeque<Tombstone>,
    shunned: VecDeque<String>,
    /// The clients of native peers that have ended, or came back under another id: something of theirs may still come.
    left: VecDeque<String>,
    shares: Shares,
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
            places: Places::new(options.max_peers, options.replace_interrupted),
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
            left: VecDeque::new(),
            shares: Shares::new(Instant::now()),
            outputs,
            heard,
        }
    }

    async fn run(mut self, embedded: Option<&Embedded>) -> EndReason {
        let mut reconnect: Option<BoxFuture<Relistened>> = None;
        let mut addresses = AddressWatch::new();
        let mut place = self.relay.url();
        loop {
            tokio::select! {
                Some(item) = OptionFuture::from(self.stream.as_mut().map(EventStream::next)) => match item {
                    Ok(item) => self.item(item).await,
                    Err(error) => reconnect = Some(self.relay_lost(&error).await),
                },
                change = addresses.changed() => {
                    if change.gone && self.relay.forget_connections() && self.stream.is_some() {
                        let gone = RelayError::Unreachable("an address of this machine is gone".to_owned());
                        reconnect = Some(self.relay_lost(&gone).await);
                    }
                    if let Some(embedded) = embedded {
                        let kind = EventKind::Links(embedded.links(&self.id));
                        let _ = self.events.send(Event { session: self.session, kind });
                    }
                    self.tell_all(|| PeerInput::AddressesChanged(change)).await;
                }
                Some(back) = OptionFuture::from(reconnect.as_mut()) => {
                    reconnect = None;
                    match back {
                        Ok((access, stream)) => {
                            self.access = access;
                            self.stream = Some(stream);
                            self.reports.say("the relay is back".to_owned());
                            self.follow(&mut place);
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
                        self.options.session.conditions = conditions;
                        self.tell_all(|| PeerInput::Conditions(conditions)).await;
                    }
                    Some(SessionCommand::Leave) | None => return self.end(EndReason::EndedLocally).await,
                    Some(setting) => self.set(setting).await,
                },
            }
        }
    }

    /// Shows players the way to a relay that has moved.
    fn follow(&self, place: &mut Option<Url>) {
        let now = self.relay.url();
        if *place != now {
            let link = JoinLink { relay: now.clone(), id: self.id.clone() };
            let kind = EventKind::Links(vec![link]);
            let _ = self.events.send(Event { session: self.session, kind });
            *place = now;
        }
    }

    async fn relay_lost(&mut self, error: &RelayError) -> BoxFuture<Relistened> {
        self.stream = None;
        self.reports.say(format!("the relay is lost: {error}"));
        self.tell_all(|| PeerInput::RelayDown).await;
        self.relisten()
    }

    fn relisten(&self) -> BoxFuture<Relistened> {
        let window = self.options.session.connection.resume_timeout;
        Box::pin(relisten(self.relay.clone(), self.id.clone(), self.access.clone(), window))
    }

    /// Sends everyone off, waits for their tasks, and lets the id go.
    async fn end(mut self, reason: EndReason) -> EndReason {
        self.tell_all(|| PeerInput::Disconnect(reason.clone())).await;
        let patience = self.options.session.connection.drain_timeout + GOODBYE;
        let _ = timeout(patience, self.goodbyes()).await;
        // Tasks that are still there end with their inputs, and report nothing: this does.
        self.relay.release(&self.access).await;
        reason
    }

    /// Peers still have to be heard: they acknowledge what they are sent, and those whose paths are cut come back for it.
    async fn goodbyes(&mut self) {
        let mut reconnect: Option<BoxFuture<Relistened>> = self.stream.is_none().then(|| self.relisten());
        while !self.peers.is_empty() {
            tokio::select! {
                Some(item) = OptionFuture::from(self.stream.as_mut().map(EventStream::next)) => match item {
                    Ok(StreamItem::Event(event)) => self.event(event, false).await,
                    Ok(_) => {}
                    Err(error) => reconnect = Some(self.relay_lost(&error).await),
                },
                Some(back) = OptionFuture::from(reconnect.as_mut()) => match back {
                    Ok((access, stream)) => {
                        reconnect = None;
                        (self.access, self.stream) = (access, Some(stream));
                        self.tell_all(|| PeerInput::RelayUp(None)).await;
                    }
                    Err(_) => reconnect = Some(self.relisten()),
                },
                Some((key, output)) = self.heard.recv() => match output {
                    PeerOutput::RelayGone(error) if self.stream.is_some() => {
                        reconnect = Some(self.relay_lost(&error).await);
                    }
                    output => self.output(key, output),
                },
            }
        }
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
        let Some(from) = Sender::of(&token) else {
            return self.reports.once(Nonsense::Token, || "the relay sent a token that names no client".to_owned());
        };
        let body = match Body::parse(body.get()) {
            Ok(body) => body,
            Err(error) => {
                return self.reports.once(Nonsense::Body, || format!("a message cannot be read: {error}"));
            }
        };
        let route = Route { send_to: self.access.send_to.clone(), token: token.into() };
        match (self.by_client.get(&from.client), body) {
            // Whose connection it is counts, not where it comes from.
            (_, Body::Native { packet, .. }) if matches!(HandshakeKind::peek(&packet), HandshakeKind::Resume(_)) => {
                self.resumption(from, packet, route).await;
            }
            (Some(&key), body) => self.tell(key, PeerInput::Body(body, Some(route))).await,
            (None, Body::Native { packet, .. }) => self.native_stranger(from, packet, route, open).await,
            (None, Body::Signal(_)) if self.options.session.paths == PathPolicy::RelayOnly => {
                self.reports.once(Nonsense::Signal, || {
                    "a peer of the original protocol was ignored: it wants WebRTC, and this session stays on the relay"
                        .to_owned()
                });
            }
            (None, body)
                if self.options.session.paths == PathPolicy::DirectOnly && !matches!(body, Body::Signal(_)) =>
            {
                self.reports.once(Nonsense::Signal, || {
                    "a peer of the original protocol was ignored: it wants the relay, and this session allows direct \
                     paths only"
                        .to_owned()
                });
            }
            (None, body) if open && !self.shunned.contains(&from.client) => {
                self.plain_stranger(from, body, route).await
            }
            (None, _) => {}
        }
    }

    fn forget(&mut self, key: PeerKey) -> Option<Entry> {
        let entry = self.peers.remove(&key)?;
        self.by_client.remove(&entry.client);
        entry.connection.map(|id| self.by_connection.remove(&id));
        Some(entry)
    }

    fn context(&self, key: PeerKey) -> PeerContext {
        let (events, outputs, relay) = (self.events.clone(), self.outputs.clone(), self.relay.clone());
        PeerContext::new((self.session, key), events, outputs, relay, &self.options.session)
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
            PeerOutput::WrongPassword => {
                if let Some(entry) = self.peers.get(&key)
                    && let Some(wrong) = self.shares.wrong_password(&entry.origin, Instant::now())
                {
                    self.reports.say(format!("joiners gave a wrong password {wrong} times so far"));
                }
            }
            PeerOutput::Interrupted(interrupted) => {
                if let Some(entry) = self.peers.get_mut(&key) {
                    entry.interrupted = interrupted.then(Instant::now);
                }
            }
            PeerOutput::WantsPlace => self.replace_interrupted(),
            PeerOutput::Rebound(client) => {
                if let Some(entry) = self.peers.get_mut(&key) {
                    self.by_client.remove(&entry.client);
                    self.by_client.insert(client.clone(), key);
                    let former = std::mem::replace(&mut entry.client, client);
                    if former != entry.client {
                        self.remember_left(former);
                    }
                }
            }
            // The route is stale; its peer brings a new one when it resumes.
            PeerOutput::BadToken | PeerOutput::RelaySilent | PeerOutput::RelayGone(_) => {}
            PeerOutput::Ended { reason, tombstone } => {
                tracing::debug!(peer = key.0, "a peer's task ended: {reason}");
                let entry = self.forget(key);
                match entry {
                    Some(entry) if entry.native => self.remember_left(entry.client),
                    // To originals, a message of somebody who was sent away would be a new beginning.
                    Some(entry) if !entry.closed => {
                        self.shunned.truncate(SHUNNED - 1);
                        self.shunned.push_front(entry.client);
                    }
                    _ => {}
                }
                if let Some(stone) = tombstone {
                    self.tombstones.truncate(TOMBSTONES - 1);
                    self.tombstones.push_front(stone);
                }
            }
        }
    }

    fn remember_left(&mut self, client: String) {
        self.left.truncate(TOMBSTONES - 1);
        self.left.push_front(client);
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
