//! Passes the events of a peer's connection to the game.

use bytes::Bytes;

use super::{NativePeer, Role};
use crate::{
    connection::{ConnectionEvent, Lane, Path, Security},
    net::{
        contract::{Admission, EventKind, PeerCommand, Traffic, inbox_cost},
        peer_link::{LOCKED, PeerOutput},
        slots::Slot,
    },
    protocol::{Channel, EndReason, Payload, Tag},
};

impl NativePeer {
    /// Passes the events of the connection to the game.
    pub(super) fn deliver_events(&mut self) {
        let now = self.now();
        for lane in Lane::ALL {
            while let Some(packet) = self.inbound.pop(lane, now) {
                self.connection.receive(lane, packet, now);
            }
        }
        let shared = self.handle.shared();
        let consumed = self.delivered - shared.inbox();
        if consumed > self.consumed {
            self.connection.consumed(consumed - self.consumed);
            self.consumed = consumed;
        }
        // The game may look at it while it handles the events.
        shared.set_has_path(self.connection.stats().path.is_some());
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::Message(message) => self.batch.push(message),
                other => {
                    self.flush();
                    self.event(other);
                }
            }
        }
        self.flush();
        if !self.identified
            && let Some(id) = self.connection.id()
        {
            self.identified = true;
            self.cx.notify(PeerOutput::Identified(id));
        }
        // The host must know of this guess before the next one begins.
        if self.connection.has_wrong_password() && !std::mem::replace(&mut self.refused, true) {
            self.cx.notify(PeerOutput::WrongPassword);
        }
        if self.connection.wants_direct() {
            self.direct.want(self.now());
        }
        self.publish();
    }

    fn event(&mut self, event: ConnectionEvent) {
        let now = self.now();
        match event {
            ConnectionEvent::JoinRequest { metadata } => self.on_join_request(metadata),
            ConnectionEvent::Connected { metadata } => self.on_connected(metadata),
            ConnectionEvent::PathChanged(path) => {
                self.handle.shared().set_path(path);
                if self.connected {
                    self.cx.emit(EventKind::PathChanged { peer: self.cx.key, path });
                }
            }
            ConnectionEvent::Interrupted(reason) => {
                self.handle.shared().set_interrupted(Some(self.connection.time_left(now)));
                self.count_interrupted(true);
                self.cx.emit(EventKind::Interrupted { peer: self.cx.key, reason });
            }
            ConnectionEvent::Resumed => {
                self.handle.shared().set_interrupted(None);
                self.count_interrupted(false);
                self.cx.emit(EventKind::Resumed { peer: self.cx.key });
            }
            ConnectionEvent::PathSilent(Path::Relay) => self.cx.notify(PeerOutput::RelaySilent),
            ConnectionEvent::PathSilent(Path::Direct) => self.direct.suspected(now),
            ConnectionEvent::Signal(signal) => {
                if let Err(error) = self.direct.signal(&signal, now) {
                    self.connection.abort(EndReason::ProtocolError(error.to_string()));
                }
            }
            ConnectionEvent::Cut { bytes } => {
                self.handle.shared().set_cut(bytes);
                let text = format!(
                    "{bytes} bytes that were sent before the end did not arrive in time: raise `drain_timeout`, or send \
                     less before leaving"
                );
                tracing::warn!(peer = self.cx.key.0, "{text}");
                self.cx.diagnostic(text);
            }
            ConnectionEvent::Closed(EndReason::TimedOut) if self.missing_until().is_some() => {
                self.ended = Some(EndReason::NoSuchHost);
            }
            ConnectionEvent::Closed(reason) => self.ended = Some(reason),
            ConnectionEvent::Message(_) => {}
        }
    }

    fn on_join_request(&mut self, metadata: Bytes) {
        let Role::Host { admission, slots, .. } = &self.role else { return };
        let (admission, slots) = (*admission, slots.clone());
        if slots.is_locked() && !self.is_back() {
            return self.refuse(EndReason::Refused(LOCKED.to_owned()));
        }
        self.slot = self.own_slot().or_else(|| slots.take());
        if self.slot.is_none() && slots.are_full() {
            return self.refuse(EndReason::Full);
        }
        self.metadata = metadata.clone();
        self.cx.notify(PeerOutput::HasSlot);
        self.takes_slot();
        match admission {
            Admission::Open => self.admit(),
            Admission::Ask => {
                self.asked = true;
                let (peer, identity) = (self.cx.key, self.connection.peer_key());
                self.cx.emit(EventKind::JoinRequest { peer, metadata, identity });
            }
        }
    }

    fn on_connected(&mut self, metadata: Bytes) {
        self.connected = true;
        // Both sides know each other's limits by now, and the game has sent nothing yet.
        let shared = self.handle.shared();
        shared.set_native();
        shared.set_max_message(self.connection.max_message());
        if let Some(id) = self.connection.id() {
            shared.set_connection(id);
        }
        if let Some(key) = self.connection.peer_key() {
            let security = if self.was_readable { Security::Plain } else { self.connection.security() };
            shared.set_secured(security, key);
        }
        let (peer, handle) = (self.cx.key, self.handle.clone());
        let metadata = if matches!(self.role, Role::Host { .. }) { self.metadata.clone() } else { metadata };
        self.cx.emit(EventKind::Connected { peer, handle, metadata });
        self.succeeds();
        for text in self.adopted.take().into_iter().flatten() {
            let (channel, tag, payload) = (Channel::Reliable, Tag::Untyped, Payload::Text(text));
            self.command(PeerCommand::Send { channel, tag, payload });
        }
    }

    /// Admits the joiner once it has a slot. Does nothing if it waits for one, or no longer waits at all.
    pub(super) fn admit(&mut self) {
        if self.slot_wait.is_some() || !self.connection.has_join_request() {
            return;
        }
        if self.slot.is_none() {
            let Role::Host { slots, .. } = &self.role else { return };
            self.slot = self.own_slot().or_else(|| slots.take());
            self.takes_slot();
        }
        if self.slot.is_some() {
            return self.connection.admit(self.now());
        }
        let (cx, Role::Host { slots, .. }) = (self.cx.clone(), &self.role) else { return };
        self.slot_wait = Some(Box::pin(slots.clone().wait(move || cx.notify(PeerOutput::WantsSlot))));
    }

    /// Admits or refuses the joiner after its wait for a slot.
    pub(super) fn slot_wait_ended(&mut self, slot: Option<Slot>) {
        self.slot_wait = None;
        // The player may have got one meanwhile, by another attempt to join.
        self.slot = self.own_slot().or(slot);
        self.takes_slot();
        match self.slot {
            Some(_) => self.connection.admit(self.now()),
            None => self.refuse(EndReason::Full),
        }
    }

    /// Refuses the joiner. Does nothing once it is admitted.
    pub(super) fn refuse(&mut self, reason: EndReason) {
        self.slot_wait = None;
        if self.connection.has_join_request() {
            self.abandon_join(&reason);
        }
        self.connection.refuse(reason, self.now());
    }

    /// Tells the game, if it was asked about this joiner, that it will not connect.
    pub(super) fn abandon_join(&mut self, reason: &EndReason) {
        if std::mem::take(&mut self.asked) {
            self.cx.emit(EventKind::JoinAbandoned { peer: self.cx.key, reason: reason.clone() });
        }
    }

    /// The slot that the player of this peer has already, on a host.
    fn own_slot(&self) -> Option<Slot> {
        let Role::Host { players, .. } = &self.role else { return None };
        players.slot(&self.connection.peer_key()?)
    }

    /// Whether the player of this peer is connected as another one, on a host.
    pub(super) fn is_back(&self) -> bool {
        let Role::Host { players, .. } = &self.role else { return false };
        self.connection.peer_key().is_some_and(|player| players.is_connected(&player))
    }

    /// Whether the player of this peer is joining as another peer, on a host. Both hold the same slot.
    pub(super) fn joins_again(&self) -> bool {
        let Role::Host { players, .. } = &self.role else { return false };
        self.connection.peer_key().is_some_and(|player| players.is_joining(&player))
    }

    /// Notes whose slot this is, on a host. Another attempt of the same player to join ends.
    fn takes_slot(&self) {
        if let Role::Host { players, .. } = &self.role
            && let (Some(slot), Some(player)) = (&self.slot, self.connection.peer_key())
            && let Some(former) = players.join(player, self.cx.key, slot)
        {
            self.cx.notify(PeerOutput::JoinsAgain(former));
        }
    }

    /// Tells the game who this player was before, on a host, and ends that peer.
    fn succeeds(&self) {
        if let Role::Host { players, .. } = &self.role
            && let Some(player) = self.connection.peer_key()
            && let Some(former) = players.connect(&player, self.cx.key)
        {
            self.cx.emit(EventKind::Rejoined { peer: self.cx.key, former });
            self.cx.notify(PeerOutput::Was(former));
        }
    }

    /// Notes that the game has sent the player away, on a host. The goodbye may take a while.
    pub(super) fn is_dismissed(&self) {
        if let Role::Host { players, .. } = &self.role
            && let Some(player) = self.connection.peer_key()
        {
            let joining = players.dismiss(&player, self.cx.key);
            joining.into_iter().for_each(|joining| self.cx.notify(PeerOutput::Dismissed(joining)));
        }
    }

    /// Notes that the player is no longer this peer, on a host.
    pub(super) fn is_gone(&self) {
        if let Role::Host { players, .. } = &self.role
            && let Some(player) = self.connection.peer_key()
        {
            players.leave(&player, self.cx.key);
        }
    }

    /// Counts this peer as interrupted or not, on a host: it may have to give way to a joiner.
    pub(super) fn count_interrupted(&mut self, interrupted: bool) {
        if std::mem::replace(&mut self.interrupted, interrupted) == interrupted {
            return;
        }
        if let Role::Host { slots, .. } = &self.role {
            slots.count_interrupted(interrupted);
            self.cx.notify(PeerOutput::Interrupted(interrupted));
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let cost: usize = self.batch.iter().map(|message| inbox_cost(&message.payload)).sum();
        self.delivered += cost;
        self.handle.shared().delivered(cost);
        let messages = std::mem::take(&mut self.batch);
        self.cx.emit(EventKind::Messages { peer: self.cx.key, messages });
    }

    /// Updates the counters that the game reads.
    fn publish(&mut self) {
        let shared = self.handle.shared();
        let stats = self.connection.stats();
        let queued = self.queued.min(stats.queued);
        if queued < self.queued && self.connection.is_closing() {
            self.cx.emit(EventKind::Draining);
        }
        shared.sent(self.queued - queued);
        self.queued = queued;
        if stats.packets_forged > 0 && !std::mem::replace(&mut self.reported_forged, true) {
            let text = "packets that the other side has not sealed came over the relay, and are ignored: somebody changes \
                        or invents them";
            self.cx.diagnostic(text.to_owned());
        }
        if let Some(rtt) = stats.rtt {
            shared.set_rtt(rtt);
        }
        shared.set_traffic(Traffic {
            sent_messages: stats.messages_sent,
            sent_bytes: stats.bytes_sent,
            received_messages: stats.messages_received,
            received_bytes: stats.bytes_received,
            lost: stats.resent + stats.unreliable_dropped + stats.unreliable_lost,
        });
    }
}
