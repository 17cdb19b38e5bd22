//! The connection between the task of an original and the game, for both transports.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    connection::{Path, message_cost},
    net::{
        contract::{EventKind, PeerCommand, PeerHandle, PeerLimits, Received, Traffic, inbox_cost},
        peer_link::PeerContext,
        slots::Slot,
    },
    protocol::{Channel, EndReason, Payload, Tag},
};

/// The game's side of an original peer.
pub(in crate::net) struct Game {
    cx: PeerContext,
    handle: PeerHandle,
    commands: mpsc::UnboundedReceiver<PeerCommand>,
    traffic: Traffic,
    connected: bool,
    /// Whether the game has admitted this peer, and expects it to connect.
    admitted: bool,
    ended: Option<EndReason>,
    /// The peer's slot, on a host.
    slot: Option<Slot>,
}

impl Game {
    /// Creates the side of a peer that is not connected yet. It takes messages of at most `max_message` bytes.
    pub fn new(cx: PeerContext, path: Path, max_message: usize, slot: Option<Slot>) -> Self {
        let (handle, commands) = PeerHandle::new(PeerLimits {
            max_message: max_message.min(cx.config.max_message),
            send_buffer: cx.config.send_buffer,
            // A body is JSON, which cannot carry binary.
            text_only: path == Path::Relay,
            native: false,
            catch_up_timeout: cx.config.catch_up_timeout,
        });
        Game { cx, handle, commands, traffic: Traffic::default(), connected: false, admitted: false, ended: None, slot }
    }

    /// Expects a peer that the game has admitted.
    pub fn expect_admitted(&mut self) {
        self.admitted = true;
    }

    /// Whether this side is the host.
    pub fn is_host(&self) -> bool {
        self.slot.is_some()
    }

    /// Sets the largest message that the peer takes, in bytes.
    pub fn set_max_message(&mut self, max_message: usize) {
        self.handle.shared().set_max_message(max_message.min(self.cx.config.max_message));
    }

    /// Reports that the peer is connected, or that its path has changed.
    pub fn connect(&mut self, path: Path) {
        self.handle.shared().set_path(path);
        if std::mem::replace(&mut self.connected, true) {
            return self.cx.emit(EventKind::PathChanged { peer: self.cx.key, path });
        }
        let (peer, handle) = (self.cx.key, self.handle.clone());
        self.cx.emit(EventKind::Connected { peer, handle, metadata: Bytes::new() });
    }

    /// Ends the peer. The first reason counts.
    pub fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Reports the end of the peer, and returns the reason.
    pub fn disconnect(&mut self) -> EndReason {
        let reason = self.ended.take().unwrap_or(EndReason::EndedLocally);
        self.handle.shared().free_slot_when_read(self.slot.take());
        if self.connected {
            self.cx.emit(EventKind::Disconnected { peer: self.cx.key, reason: reason.clone() });
        } else if self.admitted {
            self.cx.emit(EventKind::JoinAbandoned { peer: self.cx.key, reason: reason.clone() });
        }
        reason
    }

    /// The handle that the game has, and its further commands, for the native peer that this peer turned out to be.
    pub fn into_handle(self) -> (PeerHandle, mpsc::UnboundedReceiver<PeerCommand>) {
        (self.handle, self.commands)
    }

    /// Waits for the next command; forever once there are no more. Cancel safe.
    pub async fn command(&mut self) -> PeerCommand {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }

    /// The next command, if one waits.
    pub fn waiting_command(&mut self) -> Option<PeerCommand> {
        self.commands.try_recv().ok()
    }

    /// Reports a diagnostic about the peer.
    pub fn report(&self, text: String) {
        self.cx.diagnostic(text);
    }

    /// Delivers a message, or ends a peer whose receive buffer is full.
    pub fn receive(&mut self, payload: Payload) {
        self.traffic.received_messages += 1;
        self.traffic.received_bytes += payload.len() as u64;
        let cost = inbox_cost(&payload);
        let shared = self.handle.shared();
        if shared.inbox() + cost > self.cx.config.receive_buffer {
            return self.end(EndReason::TooMuchData);
        }
        shared.delivered(cost);
        shared.set_traffic(self.traffic);
        let messages = vec![Received { channel: Channel::Reliable, tag: Tag::Untyped, payload }];
        self.cx.emit(EventKind::Messages { peer: self.cx.key, messages });
    }

    /// Removes a message of this length from the send queue: it is sent or dropped.
    pub fn sent(&mut self, len: usize) {
        self.traffic.sent_messages += 1;
        self.traffic.sent_bytes += len as u64;
        let shared = self.handle.shared();
        shared.sent(message_cost(len));
        shared.set_traffic(self.traffic);
    }
}
