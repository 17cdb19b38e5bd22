//! Hosting a session.

use super::{
    BroadcastReport, UhstClient, UhstSession,
    network::{LocalHost, Network},
    session::{self, Phase, SessionState},
    settings::{Settings, session_settings, setting},
    typed::Types,
};
use crate::{
    UhstChannel,
    connection::Password,
    net::{Admission, SendError, contract::HostOptions},
    protocol::{EndReason, JoinLink, Payload, Tag},
};
use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};

/// Hosts a session: spawn it to start, despawn or remove it to leave.
///
/// Observers receive [`UhstReady`](super::UhstReady) with the id that other players type in,
/// [`UhstConnected`](super::UhstConnected) and [`UhstDisconnected`](super::UhstDisconnected) for each of them, and
/// [`UhstEnded`](super::UhstEnded) exactly once.
///
/// Settings take effect when the component is inserted; assigning to it only ends the session. Inserting it again, or a [`UhstClient`], on an entity that runs a
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

/// The default of [`UhstHost::max_peers`].
pub(super) const DEFAULT_MAX_PEERS: usize = 64;

impl Default for UhstHost {
    /// Returns [`UhstHost::any_id`].
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
    /// Hosts under this id. With an empty id the relay picks one, as with [`any_id`](Self::any_id). If another host listens
    /// under this id on the same relay, the session ends with [`EndReason::HostIdInUse`].
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        UhstHost { wanted_id: (!id.is_empty()).then_some(id), ..Self::default() }
    }

    /// Hosts under an id that the relay picks: nine digits that are easy to say.
    pub fn any_id() -> Self {
        Self::default()
    }

    setting! {
        /// Sets the relay to listen on. Default: that of the [plugin](super::UhstPlugin::relay).
        relay
    }

    /// Sets how many peers may be connected over the network at once. Default: 64. Further joiners end with
    /// [`EndReason::Full`].
    #[must_use]
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers;
        self
    }

    setting! {
        /// Sets the password that joiners must know. It never crosses the wire, not even as a hash.
        password
    }

    /// Sets whether everyone may join, or each joiner is a [`UhstJoinRequest`](super::UhstJoinRequest) that the game answers.
    /// Default: [`Admission::Open`].
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Sets whether a joiner of a full session replaces the peer that has been [interrupted](super::UhstInterrupted) for
    /// longest, which ends with [`EndReason::Replaced`]. Default: `true`, so that a friend whose game has crashed can join
    /// again at once. With `false`, the place is kept for as long as its player may come back, and the joiner ends with
    /// [`EndReason::Full`].
    #[must_use]
    pub fn replace_interrupted(mut self, replace: bool) -> Self {
        self.replace_interrupted = replace;
        self
    }

    setting! {
        /// Sets what every admitted peer receives as the [`UhstPeer::metadata`](super::UhstPeer::metadata) of this host. At most
        /// 4096 bytes: with more, the session ends with [`EndReason::NotStarted`].
        metadata
    }

    session_settings!();

    /// Changes [`max_peers`](Self::max_peers) while the session runs. If more peers are connected already, they stay, and
    /// joiners are refused until there are fewer.
    pub fn set_max_peers(&mut self, peers: usize) {
        self.max_peers = peers;
        if let Some(handle) = &self.state.handle {
            handle.set_max_peers(peers);
        }
    }

    /// Changes the [`password`](Self::password) for future joiners; with `None` they need none.
    pub fn set_password(&mut self, password: Option<&str>) {
        self.settings.password = password.map(Password::from);
        if let Some(handle) = &self.state.handle {
            handle.set_password(self.settings.password.clone());
        }
    }

    /// Locks or unlocks the session. While it is locked, new players end with [`EndReason::Refused`]. Interrupted peers still
    /// come back, also after their game was restarted if it keeps its [`UhstIdentity`](super::UhstIdentity).
    pub fn set_locked(&mut self, locked: bool) {
        self.locked = locked;
        if let Some(handle) = &self.state.handle {
            handle.set_locked(locked);
        }
    }

    /// Returns whether the session is [locked](Self::set_locked) for joiners.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Leaves the session. Peers receive what was sent before, then the goodbye.
    ///
    /// Despawning the entity also leaves. With `leave`, observers of the ends still find all the entities, which are
    /// despawned at the end of that frame.
    pub fn leave(&self) {
        if let Some(handle) = &self.state.handle {
            handle.leave();
        }
    }

    /// Returns the id that the relay assigned, once the session is [ready](super::UhstReady).
    pub fn id(&self) -> Option<&str> {
        self.state.id.as_deref()
    }

    /// Returns links that join this session, once it is [ready](super::UhstReady), ordered by how likely they work from
    /// another machine: the address of the default route, other local networks, public addresses, IPv6, container
    /// networks, and this machine itself.
    ///
    /// With the embedded relay they are updated within two seconds after an address of the machine changes. A UI that shows
    /// a link reads it again on `Changed<UhstHost>`.
    pub fn links(&self) -> &[JoinLink] {
        &self.state.links
    }

    /// Returns whether the host listens.
    pub fn is_ready(&self) -> bool {
        self.state.phase == Phase::Ready
    }

    /// Returns whether the host listens or is about to.
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }

    /// Returns how many peers are connected.
    pub fn peer_count(&self) -> usize {
        self.state.peers.len()
    }

    /// Returns how many peers may be connected over the network at once: see [`max_peers`](Self::max_peers).
    pub fn get_max_peers(&self) -> usize {
        self.max_peers
    }

    /// Returns whether joiners need a password.
    pub fn has_password(&self) -> bool {
        self.settings.password.is_some()
    }

    /// Sends to every peer on [`UhstChannel::Reliable`].
    ///
    /// Peers that miss it do not keep the others from getting it: see [`BroadcastReport`].
    pub fn broadcast(&self, payload: impl Into<Payload>) -> BroadcastReport {
        self.fan_out(None, UhstChannel::Reliable, payload.into())
    }

    /// Sends to every peer on a channel of your choice.
    pub fn broadcast_on(&self, channel: UhstChannel, payload: impl Into<Payload>) -> BroadcastReport {
        self.fan_out(None, channel, payload.into())
    }

    /// Sends to every peer but one on [`UhstChannel::Reliable`], for instance to forward that peer's message.
    pub fn broadcast_except(&self, peer: Entity, payload: impl Into<Payload>) -> BroadcastReport {
        self.fan_out(Some(peer), UhstChannel::Reliable, payload.into())
    }

    /// Sends to every peer but one on a channel of your choice.
    pub fn broadcast_except_on(
        &self,
        peer: Entity,
        channel: UhstChannel,
        payload: impl Into<Payload>,
    ) -> BroadcastReport {
        self.fan_out(Some(peer), channel, payload.into())
    }

    /// Sends to these peers on [`UhstChannel::Reliable`]. The bytes are shared, as in a broadcast. Entities that are not,
    /// or no longer, peers of this session are skipped.
    pub fn send_to(&self, peers: impl IntoIterator<Item = Entity>, payload: impl Into<Payload>) -> BroadcastReport {
        self.send_to_on(peers, UhstChannel::Reliable, payload)
    }

    /// Sends to these peers on a channel of your choice.
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

    /// Removes a peer. It receives what was sent before, then ends with [`EndReason::Kicked`] and this reason.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Disconnected`] if the entity is not, or no longer, a peer of this session.
    pub fn kick(&self, peer: Entity, reason: impl Into<String>) -> Result<(), SendError> {
        self.state.peers.handle(peer).ok_or(SendError::Disconnected)?.disconnect(EndReason::Kicked(reason.into()));
        Ok(())
    }

    /// Returns how many of the peers are clients of this app.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub(super) fn local_peer_count(&self) -> usize {
        self.state.peers.iter().filter(|peer| peer.handle.is_local()).count()
    }

    /// Returns the key of the current or last session. Later sessions have larger keys.
    #[cfg(feature = "replicon")]
    pub(crate) fn session_key(&self) -> Option<crate::net::contract::SessionKey> {
        self.state.key
    }

    /// Returns what a local client must know of this host, or none unless the host runs.
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
    // An entity has one session: the new one replaces the old one.
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
        session: host.settings.options(&network.defaults, game, world.get_resource()),
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
