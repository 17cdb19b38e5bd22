//! Moves messages between a data channel and its queue.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use n0_future::boxed::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::{
    ChannelKind, DirectEvent, MAX_MESSAGE, NotUtf8, SendFailure, channel_queue::QueueReceiver, stack::Channel,
};

/// Sends an event, if it still has a reader.
pub(super) async fn send_event(events: &mpsc::Sender<DirectEvent>, event: DirectEvent) {
    let _ = events.send(event).await;
}

/// The channels that are still to open. Their opening is reported once all are open, before any message.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    unopened: Arc<AtomicUsize>,
    opened: watch::Sender<bool>,
    /// The largest message that the peer takes, in bytes.
    max_message: Arc<AtomicUsize>,
}

impl Opening {
    /// Creates the state of this many channels.
    pub fn of(channels: usize) -> Self {
        let max_message = Arc::new(MAX_MESSAGE.into());
        Opening { unopened: Arc::new(channels.into()), opened: watch::channel(false).0, max_message }
    }

    /// Sets the largest message that the peer takes, in bytes. The peer's description names it, before any channel opens.
    pub fn set_max_message(&self, max_message: usize) {
        self.max_message.store(max_message, Ordering::Relaxed);
    }

    fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    pub fn is_open(&self) -> bool {
        *self.opened.borrow()
    }

    /// A receiver that changes once all channels are open.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.opened.subscribe()
    }

    /// Waits for one channel, then for the others. Returns `false` if it will not open.
    async fn wait(&self, channel: &Channel, events: &mpsc::Sender<DirectEvent>) -> bool {
        if !channel.opened().await {
            return false;
        }
        if self.unopened.fetch_sub(1, Ordering::AcqRel) == 1 {
            send_event(events, DirectEvent::Open { max_message: self.max_message() }).await;
            self.opened.send_replace(true);
            return true;
        }
        self.watch().wait_for(|opened| *opened).await.is_ok()
    }
}

/// Moves messages between one channel and its queue, until the channel is closed or the queue ends.
pub(super) fn pump(
    channel: Channel,
    kind: ChannelKind,
    queue: QueueReceiver,
    events: mpsc::Sender<DirectEvent>,
    opening: Opening,
) -> BoxFuture<()> {
    Box::pin(async move {
        if opening.wait(&channel, &events).await {
            tokio::select! {
                () = read(&channel, kind == ChannelKind::Reliable, &events) => {}
                () = write(&channel, queue, &events, opening.max_message()) => {}
            }
        }
    })
}

/// Receives from the channel that only the peer sends on, the unreliable one, until it is closed.
pub(super) fn listen(channel: Channel, events: mpsc::Sender<DirectEvent>, opening: Opening) -> BoxFuture<()> {
    Box::pin(async move {
        if opening.wait(&channel, &events).await {
            read(&channel, false, &events).await;
        }
    })
}

/// Receives the messages of the peer until it closes the channel.
async fn read(channel: &Channel, reliable: bool, events: &mpsc::Sender<DirectEvent>) {
    let mut reported = false;
    while let Some(received) = channel.receive().await {
        match received {
            Ok(payload) => send_event(events, DirectEvent::Packet { reliable, payload }).await,
            Err(NotUtf8) if !std::mem::replace(&mut reported, true) => {
                send_event(events, DirectEvent::Diagnostic("a text that is not UTF-8".to_owned())).await;
            }
            Err(NotUtf8) => {}
        }
    }
}

/// Sends the messages of the queue, until it ends or the channel is closed.
async fn write(channel: &Channel, mut queue: QueueReceiver, events: &mpsc::Sender<DirectEvent>, max_message: usize) {
    while let Some(payload) = queue.recv().await {
        let len = payload.len();
        let sent = if len > max_message {
            Err(SendFailure::Refused(format!("the peer takes {max_message} bytes at most")))
        } else {
            channel.send(payload).await
        };
        match sent {
            Ok(()) => {}
            Err(SendFailure::Closed) => return,
            Err(SendFailure::Refused(error)) => {
                let text = format!("a message of {len} bytes was not sent: {error}");
                send_event(events, DirectEvent::Diagnostic(text)).await;
            }
        }
        if queue.sent(len) {
            send_event(events, DirectEvent::Writable).await;
        }
    }
    // The link was dropped.
    channel.flush().await;
}
