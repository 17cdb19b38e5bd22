//! Joining a session.

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};
use bytes::Bytes;

use super::{
    LocalClientOf, UhstHost, UhstSession,
    network::Network,
    session::{self, SessionState},
    settings::Settings,
    typed::Types,
};
use crate::{
    UhstChannel,
    connection::ConnectionConfig,
    net::{
        IceServer, NetworkConditions, PathPolicy, Relay, SendError,
        contract::{ClientOptions, Password},
    },
    protocol::{EndReason, JoinLink, Payload, Tag},
};

/// Joins a session: spawn it to join, despawn or remove it to leave.
///
/// Observers learn the rest: [`UhstConnected`](super::UhstConnected) when the host has let us in, with an entity for
/// the host, and [`UhstEnded`](super::UhstEnded) exactly once, whether it came to that or not.
///
/// Settings count when the component is inserted; assigning to it only ends the session. Inserting it again, or a [`UhstHost`], on an entity that runs a
/// session ends that one first, then starts the other: also from an observer of [`UhstEnded`](super::UhstEnded), to
/// try again.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// fn join(mut commands: Commands) {
///     commands.spawn(UhstClient::join("483920")).observe(|ended: On<UhstEnded>| {
///         info!("back to the menu: {}", ended.reason);
///     });
/// }
/// ```
#[derive(Component, Reflect, Debug)]
#[component(on_insert = on_insert, on_despawn = leave, on_discard = leave, clone_behavior = Ignore)]
#[reflect(Component, Debug, Default)]
pub struct UhstClient {
    /// None of a local client.
    target: Option<String>,
    /// Whether the session it runs, or has run, is with a host of this app.
    local: bool,
    #[reflect(ignore)]
    settings: Settings,
    #[reflect(ignore)]
    pub(super) state: SessionState,
}

impl Default for UhstClient {
    /// As [`UhstClient::local`].
    fn default() -> Self {
        UhstClient::local()
    }
}

impl From<JoinLink> for UhstClient {
    fn from(link: JoinLink) -> Self {
        UhstClient::join(link.to_string())
    }
}

impl UhstClient {
    /// By the code or the link that the host shows, as a player types or pastes it.
    ///
    /// What names no session ends with [`EndReason::NotStarted`] in the next frame. To tell while the player types,
    /// parse it as a [`JoinLink`].
    pub fn join(code_or_link: impl Into<String>) -> Self {
        UhstClient { target: Some(code_or_link.into()), ..Self::local() }
    }

    /// Joins the host of its [`LocalClientOf`], an entity of this very app. Without that component, the session ends with
    /// [`EndReason::NotStarted`].
    ///
    /// ```
    /// # use bevy::prelude::*;
    /// # use bevy_uhst::prelude::*;
    /// fn host_and_play(mut commands: Commands) {
    ///     let host = commands.spawn(UhstHost::new("my-game")).id();
    ///     commands.spawn((UhstClient::local().metadata("Ada"), LocalClientOf(host)));
    /// }
    /// ```
    pub fn local() -> Self {
        UhstClient { target: None, local: false, settings: Settings::default(), state: SessionState::default() }
    }

    /// Where to look for a bare code; otherwise, where the [plugin](super::UhstPlugin::relay) says. A link names its
    /// own.
    pub fn relay(mut self, relay: Relay) -> Self {
        self.settings.relay = Some(relay);
        self
    }

    /// The password of the session. It never crosses the wire, not even as a hash.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.settings.password = Some(Password(password.into()));
        self
    }

    /// Shown to the host with the [request to join](super::UhstJoinRequest) and as its
    /// [`UhstPeer::metadata`](super::UhstPeer::metadata) of us: a player's name, the version of the game. With more than
    /// 4096 bytes the session ends with [`EndReason::NotStarted`].
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.settings.metadata = metadata.into();
        self
    }

    /// Timeouts and limits; otherwise, those of the [plugin](super::UhstPlugin::connection).
    pub fn connection(mut self, config: ConnectionConfig) -> Self {
        self.settings.connection = Some(config);
        self
    }

    /// Which ways the connection may take; otherwise, those of the [plugin](super::UhstPlugin::paths). A direct path
    /// needs both sides to allow it.
    pub fn paths(mut self, paths: PathPolicy) -> Self {
        self.settings.paths = Some(paths);
        self
    }

    /// The STUN and TURN servers that help to find direct paths; otherwise, those of the
    /// [plugin](super::UhstPlugin::ice_servers). With none, only addresses of the machine itself are offered.
    pub fn ice_servers(mut self, servers: impl IntoIterator<Item = IceServer>) -> Self {
        self.settings.ice_servers = Some(servers.into_iter().collect());
        self
    }

    /// Makes its network worse on purpose; otherwise, as bad as the [plugin](super::UhstPlugin::conditions) says. See
    /// [`set_conditions`](Self::set_conditions) for later changes.
    pub fn conditions(mut self, conditions: NetworkConditions) -> Self {
        self.settings.conditions = Some(conditions);
        self
    }

    /// Makes the network of the connection worse on purpose, or better again; before it is spawned, use
    /// [`conditions`](Self::conditions).
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        if let Some(handle) = &self.state.handle {
            handle.set_conditions(conditions);
        }
    }

    /// Leaves: the host is told goodbye, after what was sent before.
    ///
    /// Despawning the entity does the same at once. This way, the ends of the host and of the session are observed
    /// while their entities still exist; they are despawned at the end of that frame.
    pub fn leave(&self) {
        if let Some(handle) = &self.state.handle {
            handle.leave();
        }
    }

    /// The host's id, once [ready](super::UhstReady).
    pub fn id(&self) -> Option<&str> {
        self.state.id.as_deref()
    }

    /// Links that join this session, once [ready](super::UhstReady).
    pub fn links(&self) -> &[JoinLink] {
        &self.state.links
    }

    /// Whether it is on its way to the host.
    pub fn is_joining(&self) -> bool {
        self.is_running() && !self.is_connected()
    }

    /// Whether it is connected to the host.
    pub fn is_connected(&self) -> bool {
        !self.state.peers.is_empty()
    }

    /// Whether it is connected or on its way.
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }

    /// The number of the session it runs or has run. One that began later has a larger one. A local client has none: its
    /// app hosts.
    #[cfg(feature = "replicon")]
    pub(crate) fn session_key(&self) -> Option<crate::net::contract::SessionKey> {
        self.state.key.filter(|_| !self.local)
    }

    /// The entity of the host, while connected.
    pub fn host(&self) -> Option<Entity> {
        self.state.peers.first().map(|host| host.entity)
    }

    /// Sends to the host on [`UhstChannel::Reliable`].
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] before [`UhstConnected`](super::UhstConnected) and after the end; others as
    /// [`UhstPeer::send`](super::UhstPeer::send).
    pub fn send(&self, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_on(UhstChannel::Reliable, payload)
    }

    /// Sends to the host.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_on(&self, channel: UhstChannel, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_tagged(channel, Tag::Untyped, payload.into())
    }

    pub(super) fn send_tagged(&self, channel: UhstChannel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        let host = self.state.peers.first().ok_or(SendError::NotConnected)?;
        host.handle.send_tagged(channel, tag, payload)
    }
}

fn on_insert(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    // A session on the same entity gives way.
    if world.get::<UhstHost>(entity).is_some_and(UhstHost::is_running) {
        world.commands().entity(entity).try_remove::<UhstHost>();
    }
    let game = Types::fix(&mut world);
    let Some(network) = world.get_resource::<Network>() else {
        tracing::error!("UhstClient does nothing: add UhstPlugin to the app");
        return;
    };
    let Some(client) = world.get::<UhstClient>(entity) else { return };
    let local = world.get::<LocalClientOf>(entity);
    if local.is_some() || client.target.is_none() {
        return join_local(world, entity);
    }
    let target = client.target.as_deref().unwrap_or_default().parse::<JoinLink>();
    let name = match &target {
        Ok(target) => Name::new(format!("client of {}", target.id)),
        Err(_) => Name::new("client"),
    };
    let options = target
        .map_err(|error| EndReason::NotStarted(error.to_string()))
        .map(|target| ClientOptions { target, session: client.settings.options(&network.defaults, game) });
    let state = SessionState::started(world.resource_mut::<Network>().join(entity, options));
    begin(&mut world, entity, state, false, name);
}

/// Notes the session that was started.
fn begin(world: &mut DeferredWorld, entity: Entity, state: SessionState, local: bool, name: Name) {
    if let Some(mut client) = world.get_mut::<UhstClient>(entity) {
        let client = client.bypass_change_detection();
        (client.state, client.local) = (state, local);
    }
    world.commands().entity(entity).try_insert(UhstSession::Joining).try_insert_if_new(name);
}

fn join_local(mut world: DeferredWorld, entity: Entity) {
    let Some(network) = world.get_resource::<Network>() else { return };
    let metadata = world.get::<UhstClient>(entity).map(|client| client.settings.metadata.clone()).unwrap_or_default();
    let host = match world.get::<LocalClientOf>(entity) {
        None => Err("a local client has no host: spawn it with `LocalClientOf`"),
        Some(of) => world
            .get::<UhstHost>(of.0)
            .and_then(|host| host.as_local(network))
            .ok_or("the entity in `LocalClientOf` hosts no session: spawn its `UhstHost` first"),
    };
    let host = host.map_err(|why| EndReason::NotStarted(why.to_owned()));
    let state = SessionState::started(world.resource_mut::<Network>().join_local(entity, metadata, host));
    begin(&mut world, entity, state, true, Name::new("local client"));
}

fn leave(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let key = world.get::<UhstClient>(entity).and_then(|client| client.state.key);
    session::leave(&mut world, entity, key);
}
