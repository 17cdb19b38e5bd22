//! Hosting a session.

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};
use bytes::Bytes;

use super::{
    BroadcastError, UhstClient,
    network::Network,
    session::{Phase, SessionState, on_discard},
};
use crate::{
    connection::ConnectionConfig,
    net::{Admission, Relay, SendError, contract::HostOptions},
    protocol::{Channel, EndReason, JoinLink, Payload},
};

/// Hosts a session: spawn it to start, despawn or remove it to leave.
///
/// Observers learn the rest: [`UhstReady`](super::UhstReady) with the id that other players type in,
/// [`UhstConnected`](super::UhstConnected) and [`UhstDisconnected`](super::UhstDisconnected) for each of them, and
/// [`UhstEnded`](super::UhstEnded) exactly once.
///
/// Settings count when the component is inserted. Inserting it again, or a [`UhstClient`], on an entity that runs a
/// session ends that one first, then starts the other.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// fn host(mut commands: Commands) {
///     commands.spawn(UhstHost::new("my-game").max_peers(8).password("swordfish")).observe(|ready: On<UhstReady>| {
///         info!("join with {}", ready.id);
///     });
/// }
/// ```
#[derive(Component, Reflect, Debug)]
#[component(on_insert = on_insert, on_discard = discard, clone_behavior = Ignore)]
#[reflect(Component, Debug, Default)]
pub struct UhstHost {
    wanted_id: Option<String>,
    max_peers: usize,
    #[reflect(ignore)]
    relay: Option<Relay>,
    #[reflect(ignore)]
    password: Option<Secret>,
    #[reflect(ignore)]
    admission: Admission,
    #[reflect(ignore)]
    metadata: Bytes,
    #[reflect(ignore)]
    connection: Option<ConnectionConfig>,
    #[reflect(ignore)]
    pub(super) state: SessionState,
}

/// How many peers a host admits if it sets no limit.
pub(super) const DEFAULT_MAX_PEERS: usize = 64;

/// A password, kept out of logs.
#[derive(Clone)]
pub(super) struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for UhstHost {
    /// As [`UhstHost::any_id`].
    fn default() -> Self {
        UhstHost {
            wanted_id: None,
            max_peers: DEFAULT_MAX_PEERS,
            relay: None,
            password: None,
            admission: Admission::default(),
            metadata: Bytes::new(),
            connection: None,
            state: SessionState::default(),
        }
    }
}

impl UhstHost {
    /// Under this id. An empty one is as good as none. While another host listens under it on the same relay, the
    /// session ends with [`EndReason::HostIdInUse`].
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        UhstHost { wanted_id: (!id.is_empty()).then_some(id), ..Self::default() }
    }

    /// Under an id that the relay picks: six digits that are easy to say.
    pub fn any_id() -> Self {
        Self::default()
    }

    /// Where to listen; otherwise, where the [plugin](super::UhstPlugin::relay) says.
    pub fn relay(mut self, relay: Relay) -> Self {
        self.relay = Some(relay);
        self
    }

    /// How many peers may be connected at once, 64 if not said. Others are turned away with [`EndReason::Full`].
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers;
        self
    }

    /// Joiners must know it. It never crosses the wire, not even as a hash.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret(password.into()));
        self
    }

    /// Whether everyone may join, or each joiner is a [`UhstJoinRequest`](super::UhstJoinRequest) to be answered.
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Handed to every peer that is admitted: its [`UhstPeer::metadata`](super::UhstPeer::metadata) of this host.
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Timeouts and limits; otherwise, those of the [plugin](super::UhstPlugin::connection).
    pub fn connection(mut self, config: ConnectionConfig) -> Self {
        self.connection = Some(config);
        self
    }

    /// The id the relay really gave, once [ready](super::UhstReady).
    pub fn id(&self) -> Option<&str> {
        self.state.id.as_deref()
    }

    /// Links that join this session, once [ready](super::UhstReady); the one most likely to work from another machine
    /// first.
    pub fn links(&self) -> &[JoinLink] {
        &self.state.links
    }

    /// Whether it listens.
    pub fn is_ready(&self) -> bool {
        self.state.phase == Phase::Ready
    }

    /// Whether it listens or is about to.
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }

    /// How many peers are connected.
    pub fn peer_count(&self) -> usize {
        self.state.peers.len()
    }

    /// How many peers may be connected at once.
    pub fn peer_limit(&self) -> usize {
        self.max_peers
    }

    /// Sends to every peer on [`Channel::Reliable`].
    ///
    /// # Errors
    ///
    /// [`BroadcastError`] if some peers missed it; the others got it. Having no peers is fine.
    pub fn broadcast(&self, payload: impl Into<Payload>) -> Result<(), BroadcastError> {
        self.fan_out(None, Channel::Reliable, payload.into())
    }

    /// Sends to every peer.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_on(&self, channel: Channel, payload: impl Into<Payload>) -> Result<(), BroadcastError> {
        self.fan_out(None, channel, payload.into())
    }

    /// Sends to every peer but one, on [`Channel::Reliable`]: to pass on what that one said.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_except(&self, peer: Entity, payload: impl Into<Payload>) -> Result<(), BroadcastError> {
        self.fan_out(Some(peer), Channel::Reliable, payload.into())
    }

    /// Sends to every peer but one.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_except_on(
        &self,
        peer: Entity,
        channel: Channel,
        payload: impl Into<Payload>,
    ) -> Result<(), BroadcastError> {
        self.fan_out(Some(peer), channel, payload.into())
    }

    /// Removes a peer, which ends with [`EndReason::Kicked`] and these words, after what was sent to it before.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] if it is no peer of this session, or not any more.
    pub fn kick(&self, peer: Entity, reason: impl Into<String>) -> Result<(), SendError> {
        let (_, handle) = self.state.peers.iter().find(|(entity, _)| *entity == peer).ok_or(SendError::Disconnected)?;
        handle.disconnect(EndReason::Kicked(reason.into()));
        Ok(())
    }

    fn fan_out(&self, except: Option<Entity>, channel: Channel, payload: Payload) -> Result<(), BroadcastError> {
        let (mut peers, mut missed, mut first) = (0, 0, None);
        for (entity, handle) in &self.state.peers {
            if Some(*entity) == except {
                continue;
            }
            peers += 1;
            match handle.send(channel, payload.clone()) {
                // One that is about to be gone misses nothing that it was meant to get.
                Ok(()) | Err(SendError::Disconnected) => {}
                Err(cause) => {
                    missed += 1;
                    first.get_or_insert(cause);
                }
            }
        }
        match first {
            None => Ok(()),
            Some(cause) => Err(BroadcastError { missed, peers, cause }),
        }
    }
}

fn on_insert(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    // A session on the same entity gives way.
    if world.get::<UhstClient>(entity).is_some_and(UhstClient::is_running) {
        world.commands().entity(entity).try_remove::<UhstClient>();
    }
    let Some(network) = world.get_resource::<Network>() else {
        tracing::error!("UhstHost does nothing: add UhstPlugin to the app");
        return;
    };
    let Some(host) = world.get::<UhstHost>(entity) else { return };
    let options = HostOptions {
        id: host.wanted_id.clone(),
        relay: host.relay.as_ref().unwrap_or(&network.relay).clone(),
        max_peers: host.max_peers,
        password: host.password.clone().map(|password| password.0),
        admission: host.admission,
        metadata: host.metadata.clone(),
        connection: host.connection.as_ref().unwrap_or(&network.connection).clone(),
    };
    let name = host.wanted_id.as_ref().map(|id| Name::new(format!("host {id}")));
    let state = SessionState::started(world.resource_mut::<Network>().host(entity, options));
    if let Some(mut host) = world.get_mut::<UhstHost>(entity) {
        host.state = state;
    }
    if let Some(name) = name {
        world.commands().entity(entity).try_insert_if_new(name);
    }
}

fn discard(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let key = world.get::<UhstHost>(entity).and_then(|host| host.state.key);
    on_discard(&mut world, key);
}
