//! Hosting a session.

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};
use bytes::Bytes;

use super::{
    BroadcastReport, UhstClient, UhstSession,
    network::{LocalHost, Network},
    session::{self, Phase, SessionState},
    settings::Settings,
    typed::Types,
};
use crate::{
    UhstChannel,
    connection::ConnectionConfig,
    net::{
        Admission, IceServer, NetworkConditions, PathPolicy, Relay, SendError,
        contract::{HostOptions, Password},
    },
    protocol::{EndReason, JoinLink, Payload, Tag},
};

/// Hosts a session: spawn it to start, despawn or remove it to leave.
///
/// Observers learn the rest: [`UhstReady`](super::UhstReady) with the id that other players type in,
/// [`UhstConnected`](super::UhstConnected) and [`UhstDisconnected`](super::UhstDisconnected) for each of them, and
/// [`UhstEnded`](super::UhstEnded) exactly once.
///
/// Settings count when the component is inserted; assigning to it only ends the session. Inserting it again, or a [`UhstClient`], on an entity that runs a
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
#[component(on_insert = on_insert, on_despawn = leave, on_discard = leave, clone_behavior = Ignore)]
#[reflect(Component, Debug, Default)]
pub struct UhstHost {
    wanted_id: Option<String>,
    max_peers: usize,
    locked: bool,
    #[reflect(ignore)]
    admission: Admission,
    replace_interrupted: bool,
    #[reflect(ignore)]
    pub(super) settings: Settings,
    #[reflect(ignore)]
    pub(super) state: SessionState,
}

/// How many peers a host admits if it sets no limit.
pub(super) const DEFAULT_MAX_PEERS: usize = 64;

impl Default for UhstHost {
    /// As [`UhstHost::any_id`].
    fn default() -> Self {
        UhstHost {
            wanted_id: None,
            max_peers: DEFAULT_MAX_PEERS,
            locked: false,
            admission: Admission::default(),
            replace_interrupted: true,
            settings: Settings::default(),
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

    /// Under an id that the relay picks: nine digits that are easy to say.
    pub fn any_id() -> Self {
        Self::default()
    }

    /// Where to listen; otherwise, where the [plugin](super::UhstPlugin::relay) says.
    pub fn relay(mut self, relay: Relay) -> Self {
        self.settings.relay = Some(relay);
        self
    }

    /// How many peers may be connected over the network at once, 64 if not said. Others are turned away with [`EndReason::Full`].
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers;
        self
    }

    /// Joiners must know it. It never crosses the wire, not even as a hash.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.settings.password = Some(Password(password.into()));
        self
    }

    /// Whether everyone may join, or each joiner is a [`UhstJoinRequest`](super::UhstJoinRequest) to be answered.
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Whether a joiner of a full session takes the place of the peer that has been
    /// [interrupted](super::UhstInterrupted) for longest, which ends with [`EndReason::Replaced`]; it does if not said. So a
    /// friend whose game has crashed can join again at once. With `false`, a place is kept for as long as its player may
    /// come back, and the joiner is turned away with [`EndReason::Full`].
    pub fn replace_interrupted(mut self, replace: bool) -> Self {
        self.replace_interrupted = replace;
        self
    }

    /// Handed to every peer that is admitted: its [`UhstPeer::metadata`](super::UhstPeer::metadata) of this host. With
    /// more than 4096 bytes the session ends with [`EndReason::NotStarted`].
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.settings.metadata = metadata.into();
        self
    }

    /// Timeouts and limits; otherwise, those of the [plugin](super::UhstPlugin::connection).
    pub fn connection(mut self, config: ConnectionConfig) -> Self {
        self.settings.connection = Some(config);
        self
    }

    /// Which ways connections may take; otherwise, those of the [plugin](super::UhstPlugin::paths). A direct path
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

    /// Makes the network of every peer, now and later worse on purpose, or better again; before it is spawned, use
    /// [`conditions`](Self::conditions).
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        if let Some(handle) = &self.state.handle {
            handle.set_conditions(conditions);
        }
    }

    /// Changes [`max_peers`](Self::max_peers) while it runs. Nobody has to go when there are more already: the next
    /// joiners are turned away until there are fewer.
    pub fn set_max_peers(&mut self, peers: usize) {
        self.max_peers = peers;
        if let Some(handle) = &self.state.handle {
            handle.set_max_peers(peers);
        }
    }

    /// Changes the [`password`](Self::password) while it runs, for who joins from now on; `None`: they need none.
    pub fn set_password(&mut self, password: Option<&str>) {
        self.settings.password = password.map(|password| Password(password.to_owned()));
        if let Some(handle) = &self.state.handle {
            handle.set_password(self.settings.password.clone());
        }
    }

    /// Lets nobody new in, or again: joiners end with [`EndReason::Refused`]. Peers that are interrupted still come back,
    /// but not those whose game was started again.
    pub fn set_locked(&mut self, locked: bool) {
        self.locked = locked;
        if let Some(handle) = &self.state.handle {
            handle.set_locked(locked);
        }
    }

    /// Whether nobody new may join.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Leaves: everyone is told goodbye, after what was sent before.
    ///
    /// Despawning the entity does the same at once. This way, the ends of the peers and of the session are observed
    /// while all their entities still exist; they are despawned at the end of that frame.
    pub fn leave(&self) {
        if let Some(handle) = &self.state.handle {
            handle.leave();
        }
    }

    /// The id the relay really gave, once [ready](super::UhstReady).
    pub fn id(&self) -> Option<&str> {
        self.state.id.as_deref()
    }

    /// Links that join this session, once [ready](super::UhstReady); the one most likely to work from another machine
    /// first: the address of the default route, other local networks, public addresses, IPv6, those of containers, this
    /// machine itself.
    ///
    /// With the embedded relay they follow when the addresses of the machine change, within two seconds: a UI that shows
    /// one reads them again on `Changed<UhstHost>`.
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

    /// How many peers may be connected over the network at once: [`max_peers`](Self::max_peers).
    pub fn get_max_peers(&self) -> usize {
        self.max_peers
    }

    /// Whether joiners need a password.
    pub fn has_password(&self) -> bool {
        self.settings.password.is_some()
    }

    /// Sends to every peer on [`UhstChannel::Reliable`].
    ///
    /// A peer that misses it keeps nobody else from getting it: see [`BroadcastReport`].
    pub fn broadcast(&self, payload: impl Into<Payload>) -> BroadcastReport {
        self.fan_out(None, UhstChannel::Reliable, payload.into())
    }

    /// Sends to every peer.
    pub fn broadcast_on(&self, channel: UhstChannel, payload: impl Into<Payload>) -> BroadcastReport {
        self.fan_out(None, channel, payload.into())
    }

    /// Sends to every peer but one, on [`UhstChannel::Reliable`]: to pass on what that one said.
    pub fn broadcast_except(&self, peer: Entity, payload: impl Into<Payload>) -> BroadcastReport {
        self.fan_out(Some(peer), UhstChannel::Reliable, payload.into())
    }

    /// Sends to every peer but one.
    pub fn broadcast_except_on(
        &self,
        peer: Entity,
        channel: UhstChannel,
        payload: impl Into<Payload>,
    ) -> BroadcastReport {
        self.fan_out(Some(peer), channel, payload.into())
    }

    /// Sends to these peers on [`UhstChannel::Reliable`]. The bytes are shared, as in a broadcast. An entity
    /// that is no peer of this session, or not any more, misses nothing.
    pub fn send_to(&self, peers: impl IntoIterator<Item = Entity>, payload: impl Into<Payload>) -> BroadcastReport {
        self.send_to_on(peers, UhstChannel::Reliable, payload)
    }

    /// Sends to these peers.
    pub fn send_to_on(
        &self,
        peers: impl IntoIterator<Item = Entity>,
        channel: UhstChannel,
        payload: impl Into<Payload>,
    ) -> BroadcastReport {
        let (payload, mut report) = (payload.into(), BroadcastReport::default());
        for handle in peers.into_iter().filter_map(|peer| self.state.peers.handle(peer)) {
            report.count(handle.broadcast(channel, Tag::Untyped, payload.clone()));
        }
        report
    }

    /// Removes a peer, which ends with [`EndReason::Kicked`] and these words, after what was sent to it before.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] if it is no peer of this session, or not any more.
    pub fn kick(&self, peer: Entity, reason: impl Into<String>) -> Result<(), SendError> {
        self.state.peers.handle(peer).ok_or(SendError::Disconnected)?.disconnect(EndReason::Kicked(reason.into()));
        Ok(())
    }

    /// How many of the peers are clients of this app.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub(super) fn local_peer_count(&self) -> usize {
        self.state.peers.iter().filter(|peer| peer.handle.is_local()).count()
    }

    /// The number of the session it runs or has run. One that began later has a larger one.
    #[cfg(feature = "replicon")]
    pub(crate) fn session_key(&self) -> Option<crate::net::contract::SessionKey> {
        self.state.key
    }

    /// What a client in this app must know of it; none unless it runs.
    pub(super) fn as_local(&self, network: &Network) -> Option<LocalHost> {
        let key = self.state.key.filter(|_| self.is_running())?;
        let ready = self.state.id.clone().filter(|_| self.is_ready()).map(|id| (id, self.state.links.clone()));
        let connection = self.settings.connection(&network.defaults);
        Some(LocalHost { key, metadata: self.settings.metadata.clone(), connection, ready })
    }

    fn fan_out(&self, except: Option<Entity>, channel: UhstChannel, payload: Payload) -> BroadcastReport {
        let mut report = BroadcastReport::default();
        self.fan_out_tagged(except, channel, Tag::Untyped, &payload, &mut report);
        report
    }

    pub(super) fn fan_out_tagged(
        &self,
        except: Option<Entity>,
        channel: UhstChannel,
        tag: Tag,
        payload: &Payload,
        report: &mut BroadcastReport,
    ) {
        for peer in self.state.peers.iter().filter(|peer| Some(peer.entity) != except) {
            report.count(peer.handle.broadcast(channel, tag, payload.clone()));
        }
    }
}

fn on_insert(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    // A session on the same entity gives way.
    if world.get::<UhstClient>(entity).is_some_and(UhstClient::is_running) {
        world.commands().entity(entity).try_remove::<UhstClient>();
    }
    let game = Types::fix(&mut world);
    let Some(network) = world.get_resource::<Network>() else {
        tracing::error!("UhstHost does nothing: add UhstPlugin to the app");
        return;
    };
    let Some(host) = world.get::<UhstHost>(entity) else { return };
    let options = HostOptions {
        id: host.wanted_id.clone(),
        max_peers: host.max_peers,
        locked: host.locked,
        admission: host.admission,
        replace_interrupted: host.replace_interrupted,
        session: host.settings.options(&network.defaults, game),
    };
    let name = host.wanted_id.as_ref().map(|id| Name::new(format!("host {id}")));
    let state = SessionState::started(world.resource_mut::<Network>().host(entity, options));
    if let Some(mut host) = world.get_mut::<UhstHost>(entity) {
        host.bypass_change_detection().state = state;
    }
    let mut commands = world.commands();
    let mut commands = commands.entity(entity);
    commands.try_insert(UhstSession::Starting);
    if let Some(name) = name {
        commands.try_insert_if_new(name);
    }
}

fn leave(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let key = world.get::<UhstHost>(entity).and_then(|host| host.state.key);
    session::leave(&mut world, entity, key);
}

#[cfg(test)]
mod tests;
