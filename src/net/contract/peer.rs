//! One peer, as the ECS reaches it.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{PeerCommand, PeerLimits, PeerShared, Received, SendError, inbox_cost, queue_cost};
use crate::{
    connection::Path,
    net::{conditions::NetworkConditions, local::LocalWay},
    protocol::{Channel, EndReason, Payload, Tag},
};

/// How the ECS reaches one peer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PeerHandle {
    way: Way,
    shared: Arc<PeerShared>,
}

#[derive(Clone, Debug)]
enum Way {
    /// The task of the peer.
    Network(mpsc::UnboundedSender<PeerCommand>),
    /// Another session of this app.
    Local(LocalWay),
}

impl PeerHandle {
    /// A handle, and the end at which the network receives its commands.
    pub fn new(limits: PeerLimits) -> (Self, mpsc::UnboundedReceiver<PeerCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(PeerShared::new(limits));
        (PeerHandle { way: Way::Network(commands), shared }, receiver)
    }

    /// A handle to another session of this app.
    pub(in crate::net) fn local(way: LocalWay, shared: Arc<PeerShared>) -> Self {
        PeerHandle { way: Way::Local(way), shared }
    }

    pub(in crate::net) fn local_way(&self) -> Option<&LocalWay> {
        match &self.way {
            Way::Network(_) => None,
            Way::Local(way) => Some(way),
        }
    }

    /// Whether it leads to another session of this app.
    pub fn is_local(&self) -> bool {
        self.local_way().is_some()
    }

    /// Queues one untyped message. Never waits.
    pub fn send(&self, channel: Channel, payload: Payload) -> Result<(), SendError> {
        self.send_tagged(channel, Tag::Untyped, payload)
    }

    /// Queues one message. Never waits.
    pub fn send_tagged(&self, channel: Channel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        let PeerLimits { max_message, text_only, native, .. } = self.shared.limits();
        let size = payload.len();
        if size > max_message {
            return Err(SendError::TooLarge { size, limit: max_message });
        }
        if !native && tag != Tag::Untyped {
            return Err(SendError::NativeOnly);
        }
        if text_only && self.shared.path() == Path::Relay && matches!(payload, Payload::Binary(_)) {
            return Err(SendError::TextOnly);
        }
        let cost = match self.way {
            Way::Network(_) => queue_cost(&payload),
            Way::Local(_) => inbox_cost(&payload),
        };
        self.shared.enqueue(cost)?;
        match &self.way {
            Way::Network(commands) => {
                // A peer whose end is not told yet is a peer to the game: the message is lost with it, as those are that
                // were sent a moment earlier.
                if commands.send(PeerCommand::Send { channel, tag, payload }).is_err() {
                    self.shared.sent(cost);
                }
            }
            Way::Local(way) => way.send(Received { channel, tag, payload }, cost),
        }
        Ok(())
    }

    /// Queues one message that goes to others, too. A peer that misses it is reported once, and ends when it does not
    /// catch up in time.
    pub fn broadcast(&self, channel: Channel, tag: Tag, payload: Payload) -> Result<(), SendError> {
        let sent = self.send_tagged(channel, tag, payload);
        if let Err(cause) = sent {
            self.missed(channel, cause);
        }
        sent
    }

    #[cold]
    fn missed(&self, channel: Channel, cause: SendError) {
        match cause {
            SendError::Disconnected => {}
            // What may be lost any time is no reason to end.
            SendError::QueueFull { .. } if !channel.is_reliable() => {}
            SendError::QueueFull { .. } => match self.shared.falls_behind() {
                None => {}
                Some(Duration::ZERO) => self.report(format!(
                    "this peer is too slow and misses broadcasts: {cause}; it ends unless it catches up within {:?} \
                     (`ConnectionConfig::catch_up_timeout`)",
                    self.shared.limits().catch_up_timeout
                )),
                Some(behind) if behind >= self.shared.limits().catch_up_timeout => self.disconnect(EndReason::TooSlow),
                Some(_) => {}
            },
            _ if self.shared.is_first_miss() => self.report(format!("this peer missed a broadcast: {cause}")),
            _ => {}
        }
    }

    fn report(&self, text: String) {
        match &self.way {
            // Nobody waits for a report of a peer that is gone.
            Way::Network(commands) => drop(commands.send(PeerCommand::Report(text))),
            Way::Local(_) => tracing::warn!("{text}"),
        }
    }

    /// Makes the network of this peer worse or better.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        // Where there is no network, as where the peer is gone, there is nothing to change.
        if let Way::Network(commands) = &self.way {
            let _ = commands.send(PeerCommand::Conditions(conditions));
        }
    }

    /// Ends the connection after what was sent before. Further sends fail.
    pub fn disconnect(&self, reason: EndReason) {
        self.shared.close();
        match &self.way {
            // A peer that is already gone needs no goodbye.
            Way::Network(commands) => drop(commands.send(PeerCommand::Disconnect(reason))),
            Way::Local(way) => way.end(reason),
        }
    }

    /// Takes messages of this many bytes, by [`inbox_cost`], which stay in the peer's receive buffer until the guard is
    /// dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        let mut sender = self.local_way().map(LocalWay::sender);
        // A local peer may send on while the app keeps as much again, and no more.
        if self.shared.inbox() <= self.shared.limits().send_buffer
            && let Some(sender) = sender.take()
        {
            sender.sent(bytes);
        }
        Held { shared: self.shared.clone(), sender, bytes }
    }

    /// The peer's end is told: from here on, sending to it is an error.
    pub fn close(&self) {
        self.shared.close();
    }

    /// The numbers both sides share.
    pub fn shared(&self) -> &Arc<PeerShared> {
        &self.shared
    }
}

/// Messages that the app has taken, and that still fill the receive buffer of their peer: dropped when they are.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<PeerShared>,
    /// Of a peer in this app: what it knows of this side, since its messages wait here.
    sender: Option<Arc<PeerShared>>,
    bytes: usize,
}

impl Held {
    /// Takes this many of its bytes off, as a part of its own.
    pub fn split(&mut self, bytes: usize) -> Held {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Held { shared: self.shared.clone(), sender: self.sender.clone(), bytes }
    }

    /// Whether they come from the peer of this handle.
    pub fn is_of(&self, peer: &PeerHandle) -> bool {
        Arc::ptr_eq(&self.shared, &peer.shared)
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        self.shared.released(self.bytes);
        if let Some(sender) = &self.sender {
            sender.sent(self.bytes);
        }
    }
}
