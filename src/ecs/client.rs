//! Joining a session.

use super::{
    LocalClientOf, UhstHost, UhstIdentity, UhstSession,
    network::Network,
    session::{self, SessionState},
    settings::{Settings, session_settings, setting},
    typed::Types,
};
use crate::{
    UhstChannel,
    net::{SendError, contract::ClientOptions},
    protocol::{EndReason, JoinLink, Payload, Tag},
};
use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};

/// Joins a session: spawn it to join, despawn or remove it to leave.
///
/// Observers receive [`UhstConnected`](super::UhstConnected) when the host has let us in, with an entity for
/// the host, and [`UhstEnded`](super::UhstEnded) exactly once, whether it came to that or not.
///
/// Settings take effect when the component is inserted; assigning to it only ends the session. Inserting it again, or a
/// [`UhstHost`], on an entity that runs a session ends that one first, then starts the other: also from an observer of
/// [`UhstEnded`](super::UhstEnded), to try again.
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
    /// None for a local client.
    target: Option<String>,
    /// Whether the current or last session is with a host of this app.
    local: bool,
    #[reflect(ignore)]
    settings: Settings,
    /// None: that of the app, or a new one.
    #[reflect(ignore)]
    identity: Option<UhstIdentity>,
    #[reflect(ignore)]
    pub(super) state: SessionState,
}

impl Default for UhstClient {
    /// Returns [`UhstClient::local`].
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
    /// Joins by the code or the link that the host shows, as a player types or pastes it.
    ///
    /// A text that names no session ends with [`EndReason::NotStarted`] in the next frame. To check it while the player
    /// types, parse it as a [`JoinLink`].
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
        let (settings, state) = (Settings::default(), SessionState::default());
        UhstClient { target: None, local: false, settings, identity: None, state }
    }

    setting! {
        /// Sets the relay that a bare code is looked up on. Default: that of the [plugin](super::UhstPlugin::relay). A link names
        /// its own relay.
        relay
    }

    setting! {
        /// Sets the password of the session. It never crosses the wire, not even as a hash.
        password
    }

    setting! {
        /// Sets what the host receives with the [request to join](super::UhstJoinRequest) and as the
        /// [`UhstPeer::metadata`](super::UhstPeer::metadata) of this client, for instance a player's name. At most 4096 bytes:
        /// with more, the session ends with [`EndReason::NotStarted`].
        metadata
    }

    /// Sets who the player of this client is. Default: the app's [`UhstIdentity`], or a new identity while another client of
    /// the app has that one. So the players of one screen, and bots, are different players to their host.
    #[must_use]
    pub fn identity(mut self, identity: UhstIdentity) -> Self {
        self.identity = Some(identity);
        self
    }

    session_settings!();

    /// Leaves the session. The host receives what was sent before, then the goodbye.
    ///
    /// Despawning the entity also leaves. With `leave`, observers of the ends still find both entities, which are despawned
    /// at the end of that frame.
    pub fn leave(&self) {
        if let Some(handle) = &self.state.handle {
            handle.leave();
        }
    }

    /// Returns the host's id, once the session is [ready](super::UhstReady).
    pub fn id(&self) -> Option<&str> {
        self.state.id.as_deref()
    }

    /// Returns links that join this session, once it is [ready](super::UhstReady).
    pub fn links(&self) -> &[JoinLink] {
        &self.state.links
    }

    /// Returns whether the client is on its way to its host.
    pub fn is_joining(&self) -> bool {
        self.is_running() && !self.is_connected()
    }

    /// Returns whether the client is connected to its host.
    pub fn is_connected(&self) -> bool {
        !self.state.peers.is_empty()
    }

    /// Returns whether the client is connected or on its way.
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }

    /// Returns the key of the current or last session. Later sessions have larger keys. A local client has none: its app
    /// hosts.
    #[cfg(feature = "replicon")]
    pub(crate) fn session_key(&self) -> Option<crate::net::contract::SessionKey> {
        self.state.key.filter(|_| !self.local)
    }

    /// Returns the entity of the host, while connected.
    pub fn host(&self) -> Option<Entity> {
        self.state.peers.first().map(|host| host.entity)
    }

    /// Sends to the host on [`UhstChannel::Reliable`].
    ///
    /// # Errors
    ///
    /// Returns [`SendError::NotConnected`] before [`UhstConnected`](super::UhstConnected) and after the end; others as
    /// [`UhstPeer::send`](super::UhstPeer::send).
    pub fn send(&self, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_on(UhstChannel::Reliable, payload)
    }

    /// Sends to the host on a channel of your choice.
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
    // An entity has one session: the new one replaces the old one.
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
    let identity = player(&world, client, network);
    let options = target.map_err(|error| EndReason::NotStarted(error.to_string())).map(|target| ClientOptions {
        target,
        session: client.settings.options(&network.defaults, game, identity.as_ref()),
    });
    let player = identity.as_ref().map(UhstIdentity::public);
    let state = SessionState::started(world.resource_mut::<Network>().join(entity, player, options));
    begin(&mut world, entity, state, false, name);
}

/// The identity of a client that begins.
fn player(world: &DeferredWorld, client: &UhstClient, network: &Network) -> Option<UhstIdentity> {
    let of_app = || {
        let identity = world.get_resource::<UhstIdentity>()?;
        // One that has only its goodbye to say is no other player.
        let is_taken = network.clients_as(identity.public()).any(|owner| !session::has_left(world, owner));
        if is_taken { UhstIdentity::generate().ok() } else { Some(identity.clone()) }
    };
    client.identity.clone().or_else(of_app)
}

/// Stores the session that was started in its component.
fn begin(world: &mut DeferredWorld, entity: Entity, state: SessionState, local: bool, name: Name) {
    if let Some(mut client) = world.get_mut::<UhstClient>(entity) {
        let client = client.bypass_change_detection();
        (client.state, client.local) = (state, local);
    }
    world.commands().entity(entity).try_insert(UhstSession::Joining).try_insert_if_new(name);
}

fn join_local(mut world: DeferredWorld, entity: Entity) {
    let Some(network) = world.get_resource::<Network>() else { return };
    let Some(client) = world.get::<UhstClient>(entity) else { return };
    let metadata = client.settings.metadata.clone();
    let identity = player(&world, client, network).as_ref().map(UhstIdentity::public);
    let host = match world.get::<LocalClientOf>(entity) {
        None => Err("a local client has no host: spawn it with `LocalClientOf`"),
        Some(of) => world
            .get::<UhstHost>(of.0)
            .and_then(|host| host.as_local(network))
            .ok_or("the entity in `LocalClientOf` hosts no session: spawn its `UhstHost` first"),
    };
    let host = host.map_err(|why| EndReason::NotStarted(why.to_owned()));
    let state = SessionState::started(world.resource_mut::<Network>().join_local(entity, (metadata, identity), host));
    begin(&mut world, entity, state, true, Name::new("local client"));
}

fn leave(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let key = world.get::<UhstClient>(entity).and_then(|client| client.state.key);
    session::leave(&mut world, entity, key);
}
