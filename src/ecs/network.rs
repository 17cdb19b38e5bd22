//! What the app knows of the background: which sessions run, and whose events are whose.

use std::{collections::VecDeque, time::Duration};

use bevy::{
    platform::{
        collections::{HashMap, hash_map::Entry},
        time::Instant,
    },
    prelude::*,
};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::mpsc;

use super::rates::{add, difference};
#[cfg(all(test, feature = "discovery"))]
use crate::net::discovery::{AnnounceTask, BrowseEvent};
use crate::{
    connection::ConnectionConfig,
    net::{
        DirectConfig, NetworkConditions, PathPolicy, Relay, Runtime, Traffic,
        contract::{
            ClientOptions, Event, EventKind, HostOptions, PeerHandle, PeerKey, PeerLimits, SessionCommand,
            SessionHandle, SessionKey,
        },
        local::LocalLink,
    },
    protocol::{EndReason, JoinLink},
};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use crate::{
    net::discovery::{AnnounceHandle, Announcements, BrowseHandle, Discovery, RelayPlace},
    protocol::Announcement,
};

/// The sessions of this app, and the queue their events come up.
#[derive(Resource)]
pub(super) struct Network {
    /// Where sessions listen that name no relay.
    pub relay: Relay,
    /// Limits of sessions that name none.
    pub connection: ConnectionConfig,
    /// Ways of sessions that choose none.
    pub paths: PathPolicy,
    /// How direct paths are found.
    pub direct: DirectConfig,
    /// Who is told of sessions.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub discovery: Discovery,
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    announcements: Announcements,
    /// The network of sessions that choose none.
    pub conditions: NetworkConditions,
    /// How long an app that exits delivers what was sent before.
    pub exit_timeout: Duration,
    app_runtime: Option<tokio::runtime::Handle>,
    runtime: Option<Runtime>,
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    last_key: u64,
    sessions: HashMap<SessionKey, Session>,
    /// Ends that wait until the game has had the messages before them.
    pub ending: VecDeque<Ending>,
    /// Whether it was reported that nobody reads.
    pub reported_unread: bool,
    /// Entities to despawn at the end of this frame.
    pub leftovers: Leftovers,
    /// Traffic of peers that left, not yet published.
    pub departed: Traffic,
    #[cfg(test)]
    pub fake: Option<std::sync::Arc<std::sync::Mutex<Vec<fake::Started>>>>,
    #[cfg(all(test, feature = "discovery"))]
    pub announced: Vec<AnnounceTask>,
    #[cfg(all(test, feature = "discovery"))]
    pub browsed: Vec<Sender<BrowseEvent>>,
}

/// A session the network runs, or is about to have left.
struct Session {
    /// Of what kind, and whose; none once this side has ended it and only the network's last word is awaited.
    owner: Option<(Kind, Entity)>,
    peers: HashMap<PeerKey, Remote>,
    /// Of a host: the clients in this app.
    locals: Vec<LocalLink>,
    /// How the network is told to leave; none of a session within this app.
    commands: Option<mpsc::UnboundedSender<SessionCommand>>,
}

/// The host of a local client.
pub(super) struct LocalHost {
    pub key: SessionKey,
    pub metadata: Bytes,
    pub connection: ConnectionConfig,
    /// Its id and links, once it is ready.
    pub ready: Option<(String, Vec<JoinLink>)>,
}

/// A connected peer.
pub(super) struct Remote {
    pub entity: Entity,
    pub handle: PeerHandle,
    /// The counts that rates and diagnostics have shown so far.
    pub published: Traffic,
    /// What was told of messages that this app could not take: each kind once.
    pub reported: Vec<Unread>,
}

/// A kind of message that this app could not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is for nobody here.
    Stray,
    /// It is none of the registered type of this index.
    Undecoded(u16),
}

/// Which component owns a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Client,
}

/// The end of a peer or of a session, which is not told yet.
pub(super) struct Ending {
    pub event: Event,
    /// Since when it waits.
    pub since: Instant,
}

/// What has ended in this frame.
#[derive(Default)]
pub(super) struct Leftovers {
    pub peers: Vec<Entity>,
    pub sessions: Vec<(SessionKey, Kind, Entity)>,
}

/// What is left to tell of a session that has ended.
pub(super) struct Ended {
    pub kind: Kind,
    pub entity: Entity,
    pub peers: Vec<Entity>,
}

impl Network {
    pub fn new(relay: Relay, connection: ConnectionConfig, app_runtime: Option<tokio::runtime::Handle>) -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        Network {
            relay,
            connection,
            paths: PathPolicy::default(),
            direct: DirectConfig::default(),
            #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
            discovery: Discovery::default(),
            #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
            announcements: Announcements::default(),
            conditions: NetworkConditions::default(),
            exit_timeout: Duration::from_secs(10),
            app_runtime,
            runtime: None,
            sender,
            receiver,
            last_key: 0,
            sessions: HashMap::default(),
            ending: VecDeque::new(),
            reported_unread: false,
            leftovers: Leftovers::default(),
            departed: Traffic::default(),
            #[cfg(test)]
            fake: None,
            #[cfg(all(test, feature = "discovery"))]
            announced: Vec::new(),
            #[cfg(all(test, feature = "discovery"))]
            browsed: Vec::new(),
        }
    }

    pub fn host(&mut self, entity: Entity, options: HostOptions) -> (SessionKey, Option<SessionHandle>) {
        self.start(Kind::Host, entity, |runtime, key, events| Ok(runtime.host(key, options, events)))
    }

    /// Joins, or has the session end with the reason why there is nothing to join.
    pub fn join(
        &mut self,
        entity: Entity,
        options: Result<ClientOptions, EndReason>,
    ) -> (SessionKey, Option<SessionHandle>) {
        self.start(Kind::Client, entity, |runtime, key, events| Ok(runtime.join(key, options?, events)))
    }

    /// Joins a host of this app, or has the session end with the reason why that is none.
    pub fn join_local(
        &mut self,
        entity: Entity,
        metadata: Bytes,
        host: Result<LocalHost, EndReason>,
    ) -> (SessionKey, Option<SessionHandle>) {
        let key = self.begin(Kind::Client, entity);
        let host = match host {
            Ok(host) => host,
            Err(reason) => return self.not_started(key, reason),
        };
        let ConnectionConfig { max_message, send_buffer, catch_up_timeout, .. } = host.connection.corrected();
        let limits = PeerLimits { max_message, send_buffer, text_only: false, native: true, catch_up_timeout };
        let (number, events) = (self.last_key, self.sender.clone());
        let mut link = LocalLink::new((key, metadata), (host.key, host.metadata), number, limits, events);
        let handle = SessionHandle::local(link.client.clone());
        if let Some((id, links)) = host.ready {
            link.connect(id, links);
        }
        if let Some(host) = self.sessions.get_mut(&host.key) {
            host.locals.retain(|link| !link.is_over());
            host.locals.push(link);
        }
        (key, Some(handle))
    }

    /// Connects the local clients that waited for their host.
    pub fn host_is_ready(&mut self, key: SessionKey, id: &str, links: &[JoinLink]) {
        for link in self.sessions.get_mut(&key).into_iter().flat_map(|session| &mut session.locals) {
            link.connect(id.to_owned(), links.to_vec());
        }
    }

    fn begin(&mut self, kind: Kind, entity: Entity) -> SessionKey {
        // Not the entity: a second session on it must not hear the last words of the first.
        self.last_key += 1;
        let key = SessionKey(self.last_key);
        let session =
            Session { owner: Some((kind, entity)), peers: HashMap::default(), locals: Vec::new(), commands: None };
        self.sessions.insert(key, session);
        key
    }

    fn not_started(&self, key: SessionKey, reason: EndReason) -> (SessionKey, Option<SessionHandle>) {
        tracing::error!("{reason}");
        // The way every end goes, so that observers which are added after the spawn see it.
        let _ = self.sender.send(Event { session: key, kind: EventKind::Ended { reason } });
        (key, None)
    }

    fn start(
        &mut self,
        kind: Kind,
        entity: Entity,
        run: impl FnOnce(&Runtime, SessionKey, Sender<Event>) -> Result<SessionHandle, EndReason>,
    ) -> (SessionKey, Option<SessionHandle>) {
        let key = self.begin(kind, entity);
        #[cfg(test)]
        if let Some(fake) = &self.fake {
            let (handle, commands) = SessionHandle::new();
            fake.lock().unwrap().push(fake::Started { key, commands });
            return (key, Some(self.started(key, handle)));
        }
        let events = self.sender.clone();
        match self.runtime().and_then(|runtime| run(runtime, key, events)) {
            Ok(handle) => (key, Some(self.started(key, handle))),
            Err(reason) => self.not_started(key, reason),
        }
    }

    fn started(&mut self, key: SessionKey, handle: SessionHandle) -> SessionHandle {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.commands = handle.commands();
        }
        handle
    }

    /// Announces a session until the handle is dropped.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn announce(&mut self, place: RelayPlace, announcement: Announcement) -> Result<AnnounceHandle, EndReason> {
        let (handle, task) = self.announcements.begin(announcement);
        #[cfg(test)]
        if self.fake.is_some() {
            self.announced.push(task);
            return Ok(handle);
        }
        let scope = self.discovery;
        self.runtime()?.announce(scope, place, task);
        Ok(handle)
    }

    /// Takes back what is announced. What it returns is disconnected when that is said, or when nobody is there to say it.
    #[cfg(not(target_family = "wasm"))]
    pub fn withdraw_announcements(&mut self) -> Vec<Receiver<()>> {
        #[cfg(feature = "discovery")]
        let unsaid = self.announcements.withdraw();
        #[cfg(not(feature = "discovery"))]
        let unsaid = Vec::new();
        unsaid
    }

    /// Lists the sessions of a game until the handle is dropped.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub fn browse(&mut self, game: &str) -> Result<BrowseHandle, EndReason> {
        #[cfg(test)]
        if self.fake.is_some() {
            let (handle, events, _) = BrowseHandle::new();
            self.browsed.push(events);
            return Ok(handle);
        }
        let scope = self.discovery;
        Ok(self.runtime()?.browse(scope, Announcement::game(game)))
    }

    /// Started by the first session: an app that stays offline has no threads for it.
    fn runtime(&mut self) -> Result<&Runtime, EndReason> {
        if self.runtime.is_none() {
            let runtime = Runtime::new(self.app_runtime.take())
                .map_err(|error| EndReason::NotStarted(format!("no background runtime: {error}")))?;
            self.runtime = Some(runtime);
        }
        self.runtime.as_ref().ok_or_else(|| EndReason::NotStarted("no background runtime".to_owned()))
    }

    pub fn events(&self) -> &Receiver<Event> {
        &self.receiver
    }

    #[cfg(test)]
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Whose session it is; none if this side has ended it.
    pub fn owner(&self, key: SessionKey) -> Option<(Kind, Entity)> {
        self.sessions.get(&key)?.owner
    }

    pub fn owners(&self) -> impl Iterator<Item = SessionKey> {
        self.sessions.iter().filter(|(_, session)| session.owner.is_some()).map(|(key, _)| *key)
    }

    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
    }

    /// This side ends a session. The network's [`EventKind::Ended`] is still to come; nothing else of it counts.
    pub fn end(&mut self, key: SessionKey, reason: &EndReason) -> Option<Ended> {
        let session = self.sessions.get_mut(&key)?;
        let (kind, entity) = session.owner.take()?;
        session.locals.drain(..).for_each(|link| link.host.disconnect(reason.clone()));
        let peers = std::mem::take(&mut session.peers);
        let peers = peers.into_values().map(|remote| self.depart(remote)).collect();
        Some(Ended { kind, entity, peers })
    }

    /// The network has said its last word.
    pub fn forget(&mut self, key: SessionKey) {
        self.sessions.remove(&key);
    }

    /// Has every session over the network leave that has not, and forgets those whose tasks are gone.
    #[cfg(not(target_family = "wasm"))]
    pub fn leave_all(&mut self) {
        self.sessions.retain(|_, session| {
            session.commands.as_ref().is_some_and(|commands| commands.send(SessionCommand::Leave).is_ok())
        });
    }

    /// Waits for no session any longer.
    #[cfg(not(target_family = "wasm"))]
    pub fn forget_all(&mut self) {
        self.sessions.clear();
    }

    /// Forgets the sessions whose tasks are gone, and says whether that are all.
    #[cfg(not(target_family = "wasm"))]
    pub fn all_are_gone(&mut self) -> bool {
        self.sessions.retain(|_, session| session.commands.as_ref().is_some_and(|commands| !commands.is_closed()));
        self.sessions.is_empty()
    }

    /// Whether the background tasks run on this very thread, and so not while it waits.
    #[cfg(not(target_family = "wasm"))]
    pub fn runs_on_this_thread(&self) -> bool {
        self.runtime.as_ref().is_some_and(Runtime::runs_on_this_thread)
    }

    pub fn insert_peer(&mut self, session: SessionKey, peer: PeerKey, entity: Entity, handle: PeerHandle) {
        if let Some(session) = self.sessions.get_mut(&session)
            && let Entry::Vacant(entry) = session.peers.entry(peer)
        {
            entry.insert(Remote { entity, handle, published: Traffic::default(), reported: Vec::new() });
        }
    }

    /// The entity of a peer that is known already, by another handle than from now on.
    pub fn replace_handle(&mut self, session: SessionKey, peer: PeerKey, handle: &PeerHandle) -> Option<Entity> {
        let remote = self.sessions.get_mut(&session)?.peers.get_mut(&peer)?;
        remote.handle = handle.clone();
        remote.published = Traffic::default();
        Some(remote.entity)
    }

    pub fn peer(&self, session: SessionKey, peer: PeerKey) -> Option<&Remote> {
        self.sessions.get(&session)?.peers.get(&peer)
    }

    /// Notes that a message of this peer could not be taken, and says whether that is news.
    pub fn is_news(&mut self, session: SessionKey, peer: PeerKey, unread: Unread) -> bool {
        let remote = self.sessions.get_mut(&session).and_then(|session| session.peers.get_mut(&peer));
        remote.is_some_and(|remote| {
            let news = !remote.reported.contains(&unread);
            if news {
                remote.reported.push(unread);
            }
            news
        })
    }

    pub fn remove_peer(&mut self, session: SessionKey, peer: PeerKey) -> Option<Entity> {
        let remote = self.sessions.get_mut(&session)?.peers.remove(&peer)?;
        Some(self.depart(remote))
    }

    pub fn peers_of(&self, session: SessionKey) -> impl Iterator<Item = &Remote> {
        self.sessions.get(&session).into_iter().flat_map(|session| session.peers.values())
    }

    pub fn peers_mut(&mut self) -> impl Iterator<Item = &mut Remote> {
        self.sessions.values_mut().flat_map(|session| session.peers.values_mut())
    }

    fn depart(&mut self, remote: Remote) -> Entity {
        remote.handle.close();
        add(&mut self.departed, difference(remote.handle.shared().traffic(), remote.published));
        remote.entity
    }
}

impl Leftovers {
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.sessions.is_empty()
    }
}

/// A network that a unit test plays.
#[cfg(test)]
pub(super) mod fake {
    use std::sync::{Arc, Mutex};

    use bevy::prelude::{App, Entity, MinimalPlugins};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        UhstChannel,
        net::contract::{PeerCommand, PeerLimits, Received, SessionCommand},
        protocol::Tag,
    };

    pub struct Started {
        pub key: SessionKey,
        pub commands: mpsc::UnboundedReceiver<SessionCommand>,
    }

    /// What a peer of these tests can take.
    pub const LIMITS: PeerLimits = PeerLimits {
        max_message: 1000,
        send_buffer: 2000,
        text_only: false,
        native: true,
        catch_up_timeout: Duration::from_millis(50),
    };

    /// An app whose sessions are only noted, and that keeps a log.
    pub fn app() -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, crate::UhstPlugin::default()));
        crate::test_app::record(&mut app);
        app.world_mut().resource_mut::<Network>().fake = Some(Arc::new(Mutex::new(Vec::new())));
        app.finish();
        app.cleanup();
        app
    }

    /// The session that was started last.
    pub fn started(app: &App) -> Started {
        app.world().resource::<Network>().fake.as_ref().unwrap().lock().unwrap().pop().expect("a session was started")
    }

    pub fn push(app: &App, session: SessionKey, kind: EventKind) {
        app.world().resource::<Network>().sender.send(Event { session, kind }).unwrap();
    }

    pub fn push_ready(app: &App, session: SessionKey) {
        push(app, session, EventKind::Ready { id: "483920".to_owned(), links: Vec::new() });
    }

    /// Connects a peer, and updates the app.
    pub fn connect(app: &mut App, session: SessionKey, peer: u64) -> (Entity, mpsc::UnboundedReceiver<PeerCommand>) {
        let (handle, commands) = PeerHandle::new(LIMITS);
        push(app, session, EventKind::Connected { peer: PeerKey(peer), handle, metadata: Bytes::new() });
        app.update();
        let remote = app.world().resource::<Network>().peer(session, PeerKey(peer)).expect("connected");
        (remote.entity, commands)
    }

    pub fn push_texts(app: &App, session: SessionKey, peer: u64, texts: &[&str]) {
        let untyped =
            |text: &&str| Received { channel: UhstChannel::Reliable, tag: Tag::Untyped, payload: (*text).into() };
        let messages = texts.iter().map(untyped).collect();
        push(app, session, EventKind::Messages { peer: PeerKey(peer), messages });
    }

    /// The log in short words, emptied: names of events, texts of messages.
    pub fn log(app: &mut App) -> Vec<String> {
        let mut log = app.world_mut().resource_mut::<crate::test_app::TestLog>();
        log.0.drain(..).map(|event| in_short(&event)).collect()
    }

    fn in_short(event: &crate::test_app::TestEvent) -> String {
        use crate::test_app::TestEvent as E;
        match event {
            E::Ready(ready) => format!("ready {}", ready.id),
            E::JoinRequest(_) => "join request".to_owned(),
            E::Connected(_) => "connected".to_owned(),
            E::Message(message) => message.payload.as_text().unwrap_or("binary").to_owned(),
            E::PathChanged(_) => "path changed".to_owned(),
            E::Interrupted(interrupted) => format!("interrupted: {:?}", interrupted.reason),
            E::Resumed(_) => "resumed".to_owned(),
            E::Diagnostic(diagnostic) => diagnostic.text.clone(),
            E::Disconnected(end) => format!("disconnected: {}", end.reason),
            E::Ended(end) => format!("ended: {}", end.reason),
        }
    }
}
