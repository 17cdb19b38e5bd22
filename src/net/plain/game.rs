//! What the task of an original and the game share, whatever the transport.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    connection::{Path, message_cost},
    net::{
        contract::{EventKind, PeerCommand, PeerHandle, PeerLimits, Received, Traffic, inbox_cost},
        peer_link::PeerContext,
    },
    protocol::{Channel, EndReason, Payload, Tag},
};

pub(in crate::net) struct Game {
    cx: PeerContext,
    handle: PeerHandle,
    commands: mpsc::UnboundedReceiver<PeerCommand>,
    traffic: Traffic,
    connected: bool,
    ended: Option<EndReason>,
    /// On a host: kept for as long as the peer takes one of its places.
    place: Option<OwnedSemaphorePermit>,
}

impl Game {
    /// Before the peer is connected. Its messages have at most `max_message` bytes.
    pub fn new(cx: PeerContext, path: Path, max_message: usize, place: Option<OwnedSemaphorePermit>) -> Self {
        let (handle, commands) = PeerHandle::new(PeerLimits {
            max_message: max_message.min(cx.config.max_message),
            send_buffer: cx.config.send_buffer,
            // A body is JSON, which destroys what is not text.
            text_only: path == Path::Relay,
            native: false,
            catch_up_timeout: cx.config.catch_up_timeout,
        });
        Game { cx, handle, commands, traffic: Traffic::default(), connected: false, ended: None, place }
    }

    /// Whether we are the host.
    pub fn hosts(&self) -> bool {
        self.place.is_some()
    }

    /// The peer takes messages of this many bytes from now on.
    pub fn limit(&mut self, max_message: usize) {
        self.handle.shared().set_max_message(max_message.min(self.cx.config.max_message));
    }

    /// Messages flow from here on.
    pub fn connect(&mut self, path: Path) {
        self.handle.shared().set_path(path);
        if std::mem::replace(&mut self.connected, true) {
            return self.cx.emit(EventKind::PathChanged { peer: self.cx.key, path });
        }
        let (peer, handle) = (self.cx.key, self.handle.clone());
        self.cx.emit(EventKind::Connected { peer, handle, metadata: Bytes::new() });
    }

    /// Ends the peer, for the first of all reasons.
    pub fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Tells the game that the peer is gone, and returns why.
    pub fn disconnect(&mut self) -> EndReason {
        let reason = self.ended.take().unwrap_or(EndReason::EndedLocally);
        self.handle.shared().leave_place(self.place.take());
        if self.connected {
            self.cx.emit(EventKind::Disconnected { peer: self.cx.key, reason: reason.clone() });
        }
        reason
    }

    /// What the game says from now on, to whoever this peer turned out to be.
    pub fn into_commands(self) -> mpsc::UnboundedReceiver<PeerCommand> {
        self.commands
    }

    /// The next command. Cancel safe; pending once there are no more.
    pub async fn command(&mut self) -> PeerCommand {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }

    /// The next command, if there is one already.
    pub fn waiting_command(&mut self) -> Option<PeerCommand> {
        self.commands.try_recv().ok()
    }

    /// Tells the game this about the peer.
    pub fn report(&self, text: String) {
        self.cx.diagnostic(text);
    }

    /// Hands a message up, or ends a peer whose messages nobody takes.
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

    /// A message of this length has left the send queue, for good or ill.
    pub fn sent(&mut self, len: usize) {
        self.traffic.sent_messages += 1;
        self.traffic.sent_bytes += len as u64;
        let shared = self.handle.shared();
        shared.sent(message_cost(len));
        shared.set_traffic(self.traffic);
    }
}
