//! One remote peer.

use std::{ops::Deref, time::Duration};

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};
use bytes::Bytes;

use super::{
    JoinId, NotHost, Rates, UhstDisconnected, UhstSession,
    network::{Kind, Network},
    rates::difference,
    report::Unreadable,
    session::{close_peer, end_session, state_mut},
};
use crate::{
    UhstChannel, UhstSecurity,
    connection::Path,
    net::{
        NetworkConditions, SendError, Traffic,
        contract::{PeerHandle, PeerKey, SessionKey},
    },
    protocol::{EndReason, Payload, PublicKey, Tag},
};

/// A connected peer: spawned by the plugin, on an entity of its own. On a client, it is the host.
///
/// Put your own components on the entity: a name, a score. Despawning it, or removing this component, disconnects the
/// peer. [`UhstDisconnected`] is triggered in any case: while the entity and what is on it still exist, or, if you
/// despawned it yourself, right after. To see the entity in that case too, [`disconnect`](Self::disconnect) instead.
#[derive(Component, Reflect, Debug)]
#[component(on_despawn = disconnect, on_discard = disconnect, clone_behavior = Ignore)]
#[reflect(Component, Debug, from_reflect = false)]
pub struct UhstPeer {
    #[reflect(ignore)]
    handle: PeerHandle,
    #[reflect(ignore)]
    key: (SessionKey, PeerKey),
    #[reflect(ignore)]
    of: Kind,
    #[reflect(ignore)]
    metadata: Bytes,
    rates: Rates,
    /// The counts that rates and diagnostics have shown so far.
    #[reflect(ignore)]
    counted: Traffic,
    /// The kinds of messages that this app could not read, and that were reported.
    #[reflect(ignore)]
    reported: Vec<Unreadable>,
    /// Whether the event of its end was triggered.
    over: bool,
}

/// What is left to do when a peer has ended.
pub(super) struct Closed {
    /// Traffic that diagnostics have not counted yet.
    pub uncounted: Traffic,
    /// Bytes that its goodbye did not wait for.
    pub unconfirmed: usize,
}

impl UhstPeer {
    pub(super) fn new(of: Kind, key: (SessionKey, PeerKey), handle: PeerHandle, metadata: Bytes) -> Self {
        UhstPeer {
            handle,
            key,
            of,
            metadata,
            rates: Rates::default(),
            counted: Traffic::default(),
            reported: Vec::new(),
            over: false,
        }
    }

    /// Sends on [`UhstChannel::Reliable`]. Never blocks: the message is sent in this frame.
    ///
    /// # Errors
    ///
    /// [`SendError`] says why nothing was sent. [`SendError::QueueFull`] is the one to expect in a healthy game: the peer or
    /// the path to it is slow. In a system that returns it with `?` it becomes a warning.
    pub fn send(&self, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_on(UhstChannel::Reliable, payload)
    }

    /// Sends on a channel of your choice.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_on(&self, channel: UhstChannel, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.handle.send(channel, payload.into())
    }

    pub(super) fn send_tagged(&self, channel: UhstChannel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        self.handle.send_tagged(channel, tag, payload)
    }

    pub(super) fn broadcast_tagged(&self, channel: UhstChannel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        self.handle.broadcast(channel, tag, payload)
    }

    /// Frees the room of a message, as the network does once the peer has confirmed it.
    #[cfg(test)]
    pub(super) fn taken(&self, payload: &Payload) {
        self.handle.shared().sent(crate::net::contract::queue_cost(payload));
    }

    /// Ends the connection, after what was sent before. [`UhstDisconnected`] follows; until then messages may still
    /// arrive.
    pub fn disconnect(&self) {
        self.handle.disconnect(EndReason::EndedLocally);
    }

    /// Ends the connection as [`disconnect`](Self::disconnect) does. The peer ends with [`EndReason::Kicked`] and this
    /// reason, which its player may read.
    ///
    /// # Errors
    ///
    /// Returns [`NotHost`] on a client, whose one peer is the host. Nothing happens then.
    pub fn kick(&self, reason: impl Into<String>) -> Result<(), NotHost> {
        match self.of {
            Kind::Host => self.handle.disconnect(EndReason::Kicked(reason.into())),
            Kind::Client => return Err(NotHost),
        }
        Ok(())
    }

    /// Degrades or restores the network of this peer, to test the game. Has no effect on a peer of the original protocol.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        self.handle.set_conditions(conditions);
    }

    /// Returns the smoothed round-trip time of the path in use, once it is measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.handle.shared().rtt()
    }

    /// Returns the path in use: over the relay, or directly from machine to machine.
    pub fn path(&self) -> Path {
        self.handle.shared().path()
    }

    /// Returns whether a path leads to the peer and it answers, as far as this side knows. `false` while it
    /// is [interrupted](super::UhstInterrupted): reliable messages then wait until it is back or the connection
    /// [ends](crate::ConnectionConfig::resume_timeout), and unreliable ones are dropped.
    pub fn is_reachable(&self) -> bool {
        self.has_path() && self.handle.shared().interrupted().is_none()
    }

    /// Returns whether a path leads to the peer, which may not have answered on it yet.
    pub(super) fn has_path(&self) -> bool {
        self.handle.shared().has_path()
    }

    /// Returns for how long the peer has been [interrupted](super::UhstInterrupted), if it is, for instance to show
    /// “Reconnecting… 12 s”.
    pub fn interrupted(&self) -> Option<Duration> {
        self.handle.shared().interrupted().map(|(since, _)| since)
    }

    /// Returns the time until an interrupted connection ends, usually with [`EndReason::TimedOut`], if it is interrupted.
    pub fn interrupted_time_left(&self) -> Option<Duration> {
        self.handle.shared().interrupted().map(|(_, left)| left)
    }

    /// Returns the traffic since the connection began.
    pub fn traffic(&self) -> Traffic {
        self.handle.shared().traffic()
    }

    /// Returns bytes, messages and losses per second, updated once a second.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Returns the bytes that wait to be sent or acknowledged. When they keep growing, send less.
    pub fn queued(&self) -> usize {
        self.handle.shared().queued()
    }

    /// Returns how many bytes may wait. Sending more is [`SendError::QueueFull`].
    pub fn max_queued(&self) -> usize {
        self.handle.shared().limits().send_buffer
    }

    /// Returns whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.handle.shared().is_open()
    }

    /// Returns whether the peer runs this library. Otherwise it speaks the original UHST protocol.
    pub fn is_native(&self) -> bool {
        self.handle.shared().limits().native
    }

    /// Returns what protects the connection from others, above all from the relay. To a peer of this very app there is nobody
    /// in between.
    pub fn security(&self) -> UhstSecurity {
        if self.is_local() { UhstSecurity::Authenticated } else { self.handle.shared().security() }
    }

    /// Returns who the peer is: the public half of its [`UhstIdentity`](super::UhstIdentity). It has proved that it owns the
    /// private half. The same player has the same identity as long as its game keeps it, so scores and bans can go by it.
    /// `None` for an original.
    pub fn identity(&self) -> Option<PublicKey> {
        self.handle.shared().key()
    }

    /// Returns whether the peer is another session of this app, as with [`LocalClientOf`](super::LocalClientOf). Messages then
    /// use no path, [`path`](Self::path) is [`Path::Direct`], and there is no round trip to measure, nor
    /// [traffic](Self::traffic) to count.
    pub fn is_local(&self) -> bool {
        self.handle.is_local()
    }

    /// Returns the size of the largest message that can be sent, in bytes: the smaller of what both sides have set. A peer of
    /// the original protocol takes 64 KiB over the relay, and what its session description says over WebRTC.
    pub fn max_message(&self) -> usize {
        self.handle.shared().limits().max_message
    }

    /// Returns the metadata that the peer sent when it joined; on a client, that of the host. Empty if there is none. It may
    /// be anything: do not trust it.
    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// Returns the attempt to join by which this peer came: that of its [`UhstJoinRequest`](super::UhstJoinRequest), if the
    /// game was asked.
    pub fn join_id(&self) -> JoinId {
        JoinId(self.key)
    }

    /// Sets the metadata of a peer that turned out to be native. Its traffic is counted from zero again.
    pub(super) fn turn_native(&mut self, metadata: Bytes) {
        (self.metadata, self.counted) = (metadata, Traffic::default());
    }

    /// Returns the handle, to send what is not a message of the game.
    #[cfg(feature = "replicon")]
    pub(crate) fn handle(&self) -> &PeerHandle {
        &self.handle
    }

    /// Returns the key of its session and its own key in that session.
    pub(crate) fn key(&self) -> (SessionKey, PeerKey) {
        self.key
    }

    /// Takes the traffic since the last call, and updates the rates by it. None if the peer has ended.
    pub(super) fn count(&mut self, elapsed: Duration) -> Option<Traffic> {
        if self.over {
            return None;
        }
        let counted = self.uncounted();
        self.rates = Rates::over(counted, elapsed);
        Some(counted)
    }

    fn uncounted(&mut self) -> Traffic {
        let now = self.traffic();
        difference(now, std::mem::replace(&mut self.counted, now))
    }

    /// Returns whether a message of this kind could not be read for the first time.
    pub(super) fn is_first_report(&mut self, kind: Unreadable) -> bool {
        let first = !self.reported.contains(&kind);
        if first {
            self.reported.push(kind);
        }
        first
    }

    /// Marks the peer as ended: nothing can be sent to it any more. None if it has ended before.
    pub(super) fn close(&mut self) -> Option<Closed> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        self.handle.close();
        Some(Closed { uncounted: self.uncounted(), unconfirmed: self.handle.shared().cut() })
    }
}

/// On a peer: the session it belongs to.
#[derive(Component, Reflect, Clone, Copy, Debug, PartialEq, Eq)]
#[relationship(relationship_target = Peers)]
#[reflect(Component, Debug, PartialEq)]
pub struct PeerOf(pub Entity);

/// On a session: its connected peers, which are despawned with it. On a client, just the host. Absent while there are
/// none.
// Not a linked spawn: the hooks of a session despawn its peers, after the events of their ends.
#[derive(Component, Reflect, Debug)]
#[relationship_target(relationship = PeerOf)]
#[reflect(Component, Debug, from_reflect = false)]
pub struct Peers(Vec<Entity>);

impl Deref for Peers {
    type Target = [Entity];

    fn deref(&self) -> &[Entity] {
        &self.0
    }
}

/// The user ends a connection by removing the peer.
fn disconnect(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    if close_peer(&mut world, entity).is_none() {
        return;
    }
    let Some(peer) = world.get::<UhstPeer>(entity) else { return };
    peer.disconnect();
    let (session, key) = peer.key;
    let Some(owner) = world.get_resource::<Network>().and_then(|network| network.owner(session)) else { return };
    if let Some(mut state) = state_mut(&mut world, owner) {
        state.peers.remove(key);
    }
    let reason = EndReason::EndedLocally;
    world.trigger(UhstDisconnected { entity, session: owner.entity, reason: reason.clone(), unconfirmed: 0 });
    // Without its host, a client's session is over.
    if owner.kind == Kind::Client && end_session(&mut world, session, &reason).is_some() {
        world.commands().entity(owner.entity).try_insert(UhstSession::Ended);
        world.resource_mut::<Network>().pending_despawn.sessions.push(owner);
    }
}
