//! The handle of one peer, for the ECS.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    command::PeerCommand,
    send_error::SendError,
    shared::{PeerLimits, PeerShared, inbox_cost, queue_cost},
};
use crate::{
    connection::{Path, Received},
    net::conditions::NetworkConditions,
    protocol::{Channel, EndReason, Payload, Tag},
};

/// A handle to one peer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PeerHandle {
    sink: PeerSink,
    shared: Arc<PeerShared>,
}

#[derive(Clone, Debug)]
enum PeerSink {
    /// The task of the peer.
    Network(mpsc::UnboundedSender<PeerCommand>),
    /// Another session of this app.
    Local(Arc<dyn LocalSink>),
}

/// The other side of a connection between two sessions of one app.
pub(in crate::net) trait LocalSink: fmt::Debug + Send + Sync {
    /// Delivers a message, which takes `cost` bytes of the other side's inbox.
    fn send(&self, message: Received, cost: usize);

    /// Ends the connection, once.
    fn disconnect(&self, reason: EndReason);

    /// The counters that the other side has of this side.
    fn counters_of_sender(&self) -> Arc<PeerShared>;
}

impl PeerHandle {
    /// Creates a handle, and the receiver of its commands for the network.
    pub fn new(limits: PeerLimits) -> (Self, mpsc::UnboundedReceiver<PeerCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(PeerShared::new(limits));
        (PeerHandle { sink: PeerSink::Network(commands), shared }, receiver)
    }

    /// Creates a handle to another session of this app.
    pub(in crate::net) fn local(sink: Arc<dyn LocalSink>, shared: Arc<PeerShared>) -> Self {
        PeerHandle { sink: PeerSink::Local(sink), shared }
    }

    /// Whether the peer is another session of this app.
    pub fn is_local(&self) -> bool {
        matches!(self.sink, PeerSink::Local(_))
    }

    /// Queues one untyped message. Never waits.
    ///
    /// # Errors
    ///
    /// See [`send_tagged`](Self::send_tagged).
    pub fn send(&self, channel: Channel, payload: Payload) -> Result<(), SendError> {
        self.send_tagged(channel, Tag::Untyped, payload)
    }

    /// Queues one message. Never waits.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`], [`SendError::NativeOnly`] or [`SendError::TextOnly`] if the peer cannot take the message,
    /// [`SendError::QueueFull`] if its send queue has no room, [`SendError::Disconnected`] if it is gone.
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
        let cost = match self.sink {
            PeerSink::Network(_) => queue_cost(&payload),
            PeerSink::Local(_) => inbox_cost(&payload),
        };
        self.shared.enqueue(cost)?;
        match &self.sink {
            PeerSink::Network(commands) => {
                // Until its end is reported, the peer counts as connected: the message is lost with it, as those are that
                // were sent a moment earlier.
                if commands.send(PeerCommand::Send { channel, tag, payload }).is_err() {
                    self.shared.sent(cost);
                }
            }
            PeerSink::Local(sink) => sink.send(Received { channel, tag, payload }, cost),
        }
        Ok(())
    }

    /// Queues one message that is broadcast. A peer that misses it is reported once, and is disconnected if it does not
    /// catch up in time.
    ///
    /// # Errors
    ///
    /// See [`send_tagged`](Self::send_tagged).
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
            // Unreliable messages may be lost at any time.
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
        match &self.sink {
            // A report about a peer that is gone has no reader.
            PeerSink::Network(commands) => drop(commands.send(PeerCommand::Report(text))),
            PeerSink::Local(_) => tracing::warn!("{text}"),
        }
    }

    /// Changes the simulated network conditions of this peer.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        // A local peer has no network, and a peer that is gone needs none.
        if let PeerSink::Network(commands) = &self.sink {
            let _ = commands.send(PeerCommand::Conditions(conditions));
        }
    }

    /// Ends the connection after what was sent before. Further sends fail.
    pub fn disconnect(&self, reason: EndReason) {
        self.shared.close();
        match &self.sink {
            // A peer that is already gone needs no goodbye.
            PeerSink::Network(commands) => drop(commands.send(PeerCommand::Disconnect(reason))),
            PeerSink::Local(sink) => sink.disconnect(reason),
        }
    }

    /// Takes messages of this many bytes, counted by [`inbox_cost`]. They stay in the peer's receive buffer until the
    /// guard is dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        let mut sender = match &self.sink {
            PeerSink::Network(_) => None,
            PeerSink::Local(sink) => Some(sink.counters_of_sender()),
        };
        // A local peer may send on while the app holds up to one more send buffer.
        if self.shared.inbox() <= self.shared.limits().send_buffer
            && let Some(sender) = sender.take()
        {
            sender.sent(bytes);
        }
        Held { shared: self.shared.clone(), sender, bytes }
    }

    /// Makes further sends fail, since the end of the peer is reported.
    pub fn close(&self) {
        self.shared.close();
    }

    /// The counters that both sides share.
    pub fn shared(&self) -> &Arc<PeerShared> {
        &self.shared
    }
}

/// Messages that the app has taken and not dropped yet: they still fill the receive buffer of their peer.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<PeerShared>,
    /// The counters of a local peer's send queue, if the messages still count there.
    sender: Option<Arc<PeerShared>>,
    bytes: usize,
}

impl Held {
    /// Splits off a guard of this many bytes.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Held {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Held { shared: self.shared.clone(), sender: self.sender.clone(), bytes }
    }

    /// Whether the messages come from the peer of this handle.
    pub fn is_of(&self, peer: &PeerHandle) -> bool {
        Arc::ptr_eq(&self.shared, &peer.shared)
    }

    /// The number of bytes.
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
