//! One remote peer.

use std::{ops::Deref, time::Duration};

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};
use bytes::Bytes;

use super::{
    NotHost, Rates, UhstDisconnected, UhstSession,
    network::{Kind, Network},
    rates::difference,
    report::Unreadable,
    session::{close_peer, end_session, state_mut},
};
use crate::{
    UhstChannel,
    connection::Path,
    net::{
        NetworkConditions, SendError, Traffic,
        contract::{PeerHandle, PeerKey, SessionKey},
    },
    protocol::{EndReason, Payload, Tag},
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

    /// Sends on [`UhstChannel::Reliable`]. Never waits: the message is on its way in this frame.
    ///
    /// # Errors
    ///
    /// [`SendError`] says why it was not sent; nothing of it was. [`SendError::QueueFull`] is the one to expect in a
    /// healthy game: the peer or the way to it is slow. In a system that returns it with `?` it becomes a warning.
    pub fn send(&self, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_on(UhstChannel::Reliable, payload)
    }

    /// Sends under a promise of your choice.
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

    /// As its network does once the peer has confirmed this message.
    #[cfg(test)]
    pub(super) fn taken(&self, payload: &Payload) {
        self.handle.shared().sent(crate::net::contract::queue_cost(payload));
    }

    /// Ends the connection, after what was sent before. [`UhstDisconnected`] follows; until then messages may still
    /// arrive.
    pub fn disconnect(&self) {
        self.handle.disconnect(EndReason::EndedLocally);
    }

    /// As [`disconnect`](Self::disconnect), with words for the peer's player, which ends with
    /// [`EndReason::Kicked`].
    ///
    /// # Errors
    ///
    /// [`NotHost`] on a client, whose one peer is the host: nothing happens.
    pub fn kick(&self, reason: impl Into<String>) -> Result<(), NotHost> {
        match self.of {
            Kind::Host => self.handle.disconnect(EndReason::Kicked(reason.into())),
            Kind::Client => return Err(NotHost),
        }
        Ok(())
    }

    /// Makes the network of this peer worse on purpose, or better again. Nothing changes with a peer of the original
    /// protocol.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        self.handle.set_conditions(conditions);
    }

    /// The smoothed round-trip time of the path in use, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.handle.shared().rtt()
    }

    /// The way messages take now: over the relay, or directly from machine to machine.
    pub fn path(&self) -> Path {
        self.handle.shared().path()
    }

    /// Whether the peer is there, as far as this side knows: a path leads to it, and it is not silent. `false` while it
    /// is [interrupted](super::UhstInterrupted): reliable messages then wait until it is back or the connection
    /// [ends](crate::connection::ConnectionConfig::resume_timeout), and unreliable ones are dropped.
    pub fn is_reachable(&self) -> bool {
        self.handle.shared().is_reachable()
    }

    /// For how long it has been [interrupted](super::UhstInterrupted), if it is: for a “Reconnecting… 12 s”.
    pub fn interrupted(&self) -> Option<Duration> {
        self.handle.shared().interrupted().map(|(since, _)| since)
    }

    /// How long it may stay interrupted until the connection ends with [`EndReason::TimedOut`], if it is.
    pub fn interrupted_time_left(&self) -> Option<Duration> {
        self.handle.shared().interrupted().map(|(_, left)| left)
    }

    /// Counts since the connection began.
    pub fn traffic(&self) -> Traffic {
        self.handle.shared().traffic()
    }

    /// Bytes, messages and losses per second, renewed once a second.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Bytes that wait to be sent or acknowledged. When it keeps growing, send less.
    pub fn queued(&self) -> usize {
        self.handle.shared().queued()
    }

    /// How many bytes may wait: beyond, sending is an error.
    pub fn max_queued(&self) -> usize {
        self.handle.shared().limits().send_buffer
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.handle.shared().is_open()
    }

    /// Whether it runs this library; otherwise, it speaks the original UHST protocol.
    pub fn is_native(&self) -> bool {
        self.handle.shared().limits().native
    }

    /// Whether it is another session of this app, as with [`LocalClientOf`](super::LocalClientOf): messages then
    /// take no way at all, [`path`](Self::path) is [`Path::Direct`], and there is no round trip to measure, nor
    /// [traffic](Self::traffic) to count.
    pub fn is_local(&self) -> bool {
        self.handle.is_local()
    }

    /// The largest message that can be sent, in bytes: what both sides have set, or what an original takes, which is 64 KiB
    /// over the relay and what its session description says over WebRTC.
    pub fn max_message(&self) -> usize {
        self.handle.shared().limits().max_message
    }

    /// What it said of itself when it joined; on a client, what the host says to everyone. Empty if nothing. Anyone
    /// can say anything: believe nothing.
    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The same peer, by another handle.
    pub(super) fn replace_handle(&mut self, handle: PeerHandle, metadata: Bytes) {
        (self.handle, self.metadata, self.counted) = (handle, metadata, Traffic::default());
    }

    /// How to reach it, for what is no message of the game's own.
    #[cfg(feature = "replicon")]
    pub(crate) fn handle(&self) -> &PeerHandle {
        &self.handle
    }

    /// Its number in the session of this number.
    pub(crate) fn key(&self) -> (SessionKey, PeerKey) {
        self.key
    }

    /// What was counted since the last call, unless the peer has ended. It becomes the peer's rates.
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

    /// Notes that a message of this kind could not be read; false if that was noted before.
    pub(super) fn is_first_report(&mut self, kind: Unreadable) -> bool {
        let first = !self.reported.contains(&kind);
        if first {
            self.reported.push(kind);
        }
        first
    }

    /// Ends it: nothing can be sent to it any more. None if it has ended before.
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
// Not a linked spawn: the hooks of a session despawn its peers, once their ends were told.
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
