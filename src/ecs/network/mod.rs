//! The sessions of an app as the network knows them: which run, and which component owns each.

#[cfg(test)]
pub(super) mod fake;

use std::{collections::VecDeque, time::Duration};

use bevy::{
    platform::{collections::HashMap, time::Instant},
    prelude::*,
};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::mpsc;

use super::settings::Settings;
#[cfg(all(test, feature = "discovery"))]
use crate::net::discovery::{AnnounceTask, BrowseEvent};
use crate::{
    connection::ConnectionConfig,
    net::{
        Runtime, Traffic,
        contract::{
            ClientOptions, Event, EventKind, HostOptions, PeerLimits, SessionCommand, SessionHandle, SessionKey,
        },
        local::LocalLink,
    },
    protocol::{EndReason, JoinLink, PublicKey},
};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use crate::{
    net::discovery::{AnnounceHandle, Announcements, BrowseHandle, Discovery, RelayPlace},
    protocol::Announcement,
};

/// The sessions of this app, and the queue of their events.
#[derive(Resource)]
pub(super) struct Network {
    /// The settings of sessions that leave them unset.
    pub defaults: Settings,
    /// The network on which sessions are announced and found.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub discovery: Discovery,
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    announcements: Announcements,
    /// How long an app that exits may take to deliver what was sent before.
    pub exit_timeout: Duration,
    app_runtime: Option<tokio::runtime::Handle>,
    runtime: Option<Runtime>,
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    last_key: u64,
    sessions: HashMap<SessionKey, Session>,
    /// Ends that wait until the game has had the messages before them.
    pub deferred_ends: VecDeque<DeferredEnd>,
    /// Whether it was reported that systems do not read the messages.
    pub reported_unread: bool,
    /// Entities to despawn at the end of this frame.
    pub pending_despawn: PendingDespawn,
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
    /// None once this side has ended it and only the network's last event is awaited.
    owner: Option<Owner>,
    /// For a host: its local clients.
    locals: Vec<LocalLink>,
    /// Commands to the network's task; none for a local client.
    commands: Option<mpsc::UnboundedSender<SessionCommand>>,
    /// Who plays as this client.
    player: Option<PublicKey>,
}

/// The host of a local client.
pub(super) struct LocalHost {
    pub key: SessionKey,
    pub metadata: Bytes,
    pub connection: ConnectionConfig,
    /// Its id and links, once it is ready.
    pub ready: Option<(String, Vec<JoinLink>)>,
}

/// A running session of this app, and the component that owns it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub key: SessionKey,
    pub kind: Kind,
    pub entity: Entity,
}

/// Which component owns a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Client,
}

/// The end of a peer or of a session, which waits until systems have read the messages before it.
pub(super) struct DeferredEnd {
    pub event: Event,
    /// When it came.
    pub since: Instant,
}

/// The entities of what has ended in this frame.
#[derive(Default)]
pub(super) struct PendingDespawn {
    pub peers: Vec<Entity>,
    pub sessions: Vec<Owner>,
}

impl Network {
    pub fn new(defaults: Settings, app_runtime: Option<tokio::runtime::Handle>) -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        Network {
            defaults,
            #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
            discovery: Discovery::default(),
            #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
            announcements: Announcements::default(),
            exit_timeout: Duration::from_secs(10),
            app_runtime,
            runtime: None,
            sender,
            receiver,
            last_key: 0,
            sessions: HashMap::default(),
            deferred_ends: VecDeque::new(),
            reported_unread: false,
            pending_despawn: PendingDespawn::default(),
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

    /// Joins a host. With an error, the session ends with that reason.
    pub fn join(
        &mut self,
        entity: Entity,
        player: Option<PublicKey>,
        options: Result<ClientOptions, EndReason>,
    ) -> (SessionKey, Option<SessionHandle>) {
        let started = self.start(Kind::Client, entity, |runtime, key, events| Ok(runtime.join(key, options?, events)));
        self.plays(started.0, player);
        started
    }

    /// Joins a host of this app. With an error, the session ends with that reason.
    pub fn join_local(
        &mut self,
        entity: Entity,
        (metadata, identity): (Bytes, Option<PublicKey>),
        host: Result<LocalHost, EndReason>,
    ) -> (SessionKey, Option<SessionHandle>) {
        let key = self.begin(Kind::Client, entity);
        self.plays(key, identity);
        let host = match host {
            Ok(host) => host,
            Err(reason) => return self.not_started(key, reason),
        };
        let ConnectionConfig { max_message, send_buffer, catch_up_timeout, .. } = host.connection.corrected();
        let limits = PeerLimits { max_message, send_buffer, text_only: false, native: true, catch_up_timeout };
        let (number, events) = (self.last_key, self.sender.clone());
        let mut link = LocalLink::new((key, metadata), (host.key, host.metadata), number, (limits, identity), events);
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
        // Not the entity: a second session on it must not get the last events of the first.
        self.last_key += 1;
        let key = SessionKey(self.last_key);
        let owner = Some(Owner { key, kind, entity });
        self.sessions.insert(key, Session { owner, locals: Vec::new(), commands: None, player: None });
        key
    }

    fn plays(&mut self, key: SessionKey, player: Option<PublicKey>) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.player = player;
        }
    }

    /// Returns the owners of the clients that this side has not ended, and that play as this player.
    pub fn clients_as(&self, player: PublicKey) -> impl Iterator<Item = Owner> {
        self.sessions.values().filter(move |session| session.player == Some(player)).filter_map(|session| session.owner)
    }

    fn not_started(&self, key: SessionKey, reason: EndReason) -> (SessionKey, Option<SessionHandle>) {
        tracing::error!("{reason}");
        // As an event, so that observers which are added after the spawn see it.
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

    /// Withdraws all announcements. Each receiver that it returns is disconnected once its withdrawal was sent or cannot be.
    pub fn withdraw_announcements(&mut self) -> Vec<Receiver<()>> {
        #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
        let pending = self.announcements.withdraw();
        #[cfg(not(all(feature = "discovery", not(target_family = "wasm"))))]
        let pending = Vec::new();
        pending
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

    /// Returns the runtime, and starts it for the first session: an app that stays offline has no thread for it.
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

    /// Returns the owner of a session; none if this side has ended the session.
    pub fn owner(&self, key: SessionKey) -> Option<Owner> {
        self.sessions.get(&key)?.owner
    }

    /// Returns the owners of all sessions that this side has not ended.
    pub fn owners(&self) -> impl Iterator<Item = Owner> {
        self.sessions.values().filter_map(|session| session.owner)
    }

    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Ends a session on this side. The network's [`EventKind::Ended`] is still to come; nothing else of it counts. None if
    /// this side has ended it before.
    pub fn end(&mut self, key: SessionKey, reason: &EndReason) -> Option<Owner> {
        let session = self.sessions.get_mut(&key)?;
        let owner = session.owner.take()?;
        session.locals.drain(..).for_each(|link| link.host.disconnect(reason.clone()));
        Some(owner)
    }

    /// Forgets a session whose last event the network has sent.
    pub fn forget(&mut self, key: SessionKey) {
        self.sessions.remove(&key);
    }

    /// Makes every session over the network leave, and forgets those whose tasks are gone.
    pub fn leave_all(&mut self) {
        // Nobody plays a session that its test has not taken.
        #[cfg(test)]
        self.fake.iter().for_each(|fake| fake.lock().unwrap().clear());
        self.sessions.retain(|_, session| {
            session.commands.as_ref().is_some_and(|commands| commands.send(SessionCommand::Leave).is_ok())
        });
    }

    /// Makes every session that leaves give up what is not confirmed.
    pub fn give_up_all(&self) {
        for session in self.sessions.values() {
            // Those whose tasks are gone need no command.
            let _ = session.commands.as_ref().map(|commands| commands.send(SessionCommand::GiveUp));
        }
    }

    /// Forgets all sessions, so that nothing waits for them.
    pub fn forget_all(&mut self) {
        self.sessions.clear();
    }

    /// Forgets the sessions whose tasks are gone, and returns whether none is left.
    pub fn all_are_gone(&mut self) -> bool {
        self.sessions.retain(|_, session| session.commands.as_ref().is_some_and(|commands| !commands.is_closed()));
        self.sessions.is_empty()
    }

    /// Returns whether the background tasks run on this very thread, so that they cannot run while it waits.
    pub fn runs_on_this_thread(&self) -> bool {
        self.runtime.as_ref().is_some_and(Runtime::runs_on_this_thread)
    }
}

impl PendingDespawn {
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.sessions.is_empty()
    }
}
