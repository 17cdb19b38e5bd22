//! What a peer's connection has to say, on its way up to the game.

use tokio::sync::OwnedSemaphorePermit;

use super::{NativePeer, Role, native_limits};
use crate::{
    connection::{ConnectionEvent, Lane, Path},
    net::{
        contract::{Admission, EventKind, PeerCommand, PeerHandle, Received, Traffic, inbox_cost},
        peer_link::PeerOutput,
    },
    protocol::{Channel, EndReason, Payload, Tag},
};

impl NativePeer {
    /// Moves what the connection has to say up to the game.
    pub(super) fn pump(&mut self) {
        let now = self.now();
        for lane in Lane::ALL {
            while let Some(packet) = self.inbound.pop(lane, now) {
                self.connection.receive(lane, packet, now);
            }
        }
        let shared = self.handle.shared();
        let taken = self.delivered - shared.inbox();
        if taken > self.consumed {
            self.connection.consumed(taken - self.consumed);
            self.consumed = taken;
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::Message { channel, tag, payload } => {
                    self.batch.push(Received { channel, tag, payload });
                }
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
            self.cx.tell(PeerOutput::Identified(id));
        }
        // The next guess must not be heard before the host knows of this one.
        if self.connection.has_wrong_password() && !std::mem::replace(&mut self.refused, true) {
            self.cx.tell(PeerOutput::WrongPassword);
        }
        if self.connection.wants_direct() {
            self.direct.want(self.now());
        }
        self.publish();
    }

    fn event(&mut self, event: ConnectionEvent) {
        let now = self.now();
        match event {
            ConnectionEvent::JoinRequest { metadata } => {
                let Role::Host { admission, places } = &self.role else { return };
                self.place = places.take();
                if self.place.is_none() && places.are_full() {
                    return self.connection.refuse(EndReason::Full, now);
                }
                self.metadata = metadata.clone();
                self.cx.tell(PeerOutput::Placed);
                match admission {
                    Admission::Open => self.admit(),
                    Admission::Ask => self.cx.emit(EventKind::JoinRequest { peer: self.cx.key, metadata }),
                }
            }
            ConnectionEvent::Connected { metadata } => {
                self.connected = true;
                // Both sides have told their limits by now, and nobody has sent anything yet.
                let limits = native_limits(&self.cx.config, self.connection.max_message());
                (self.handle, self.commands) = PeerHandle::new(limits);
                if let Some(id) = self.connection.id() {
                    self.handle.shared().set_connection(id);
                }
                let (peer, handle) = (self.cx.key, self.handle.clone());
                let metadata = if matches!(self.role, Role::Host { .. }) { self.metadata.clone() } else { metadata };
                self.cx.emit(EventKind::Connected { peer, handle, metadata });
                for text in self.adopted.take().into_iter().flatten() {
                    let sent = PeerCommand::Send {
                        channel: Channel::Reliable,
                        tag: Tag::Untyped,
                        payload: Payload::Text(text),
                    };
                    self.former_command(Some(sent));
                }
            }
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
            ConnectionEvent::PathSilent(Path::Relay) => self.cx.tell(PeerOutput::RelaySilent),
            ConnectionEvent::PathSilent(Path::Direct) => self.direct.suspected(now),
            ConnectionEvent::Signal(signal) => {
                if let Err(error) = self.direct.signalled(&signal, now) {
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
            ConnectionEvent::Closed(reason) => self.ended = Some(reason),
            ConnectionEvent::Message { .. } => {}
        }
    }

    /// Lets it in, once it has a place.
    pub(super) fn admit(&mut self) {
        let Role::Host { places, .. } = &self.role else { return };
        self.place = self.place.take().or_else(|| places.take());
        if self.place.is_some() {
            return self.connection.admit(self.now());
        }
        let cx = self.cx.clone();
        self.waiting = Some(Box::pin(places.clone().wait(move || cx.tell(PeerOutput::WantsPlace))));
    }

    /// The wait for a place is over.
    pub(super) fn placed(&mut self, place: Option<OwnedSemaphorePermit>) {
        let now = self.now();
        (self.waiting, self.place) = (None, place);
        match self.place {
            Some(_) => self.connection.admit(now),
            None => self.connection.refuse(EndReason::Full, now),
        }
    }

    /// On a host, those who are interrupted are counted: they may have to give way.
    pub(super) fn count_interrupted(&mut self, interrupted: bool) {
        if std::mem::replace(&mut self.interrupted, interrupted) == interrupted {
            return;
        }
        if let Role::Host { places, .. } = &self.role {
            places.count_interrupted(interrupted);
            self.cx.tell(PeerOutput::Interrupted(interrupted));
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

    /// Updates the numbers that the game can read.
    fn publish(&mut self) {
        let shared = self.handle.shared();
        let stats = self.connection.stats();
        let held = self.held.min(stats.queued);
        if held < self.held && self.connection.is_closing() {
            self.cx.emit(EventKind::Draining);
        }
        shared.sent(self.held - held);
        self.held = held;
        shared.set_reachable(stats.path.is_some());
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
