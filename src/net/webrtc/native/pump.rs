//! Moves messages between a data channel and its queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    error::Error,
};

use crate::{
    net::webrtc::{DirectEvent, MAX_MESSAGE, channel_queue::QueueReceiver},
    protocol::Payload,
};

/// The poll interval while a closing channel waits for acknowledgements.
const ACKNOWLEDGED_CHECK: Duration = Duration::from_millis(2);

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
    async fn wait(&self, channel: &dyn DataChannel, events: &mpsc::Sender<DirectEvent>) -> bool {
        if !wait_for_open(channel).await {
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
    channel: Arc<dyn DataChannel>,
    reliable: bool,
    queue: QueueReceiver,
    events: mpsc::Sender<DirectEvent>,
    opening: Opening,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if opening.wait(&*channel, &events).await {
            tokio::select! {
                () = read(&*channel, reliable, &events) => {}
                () = write(&*channel, queue, &events, opening.max_message()) => {}
            }
        }
    })
}

/// Receives from the channel that only the peer sends on, the unreliable one, until it is closed.
pub(super) fn listen(
    channel: Arc<dyn DataChannel>,
    events: mpsc::Sender<DirectEvent>,
    opening: Opening,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if opening.wait(&*channel, &events).await {
            read(&*channel, false, &events).await;
        }
    })
}

async fn wait_for_open(channel: &dyn DataChannel) -> bool {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => return true,
            DataChannelEvent::OnClose => return false,
            _ => {}
        }
    }
    false
}

/// Receives the messages of the peer until it closes the channel.
async fn read(channel: &dyn DataChannel, reliable: bool, events: &mpsc::Sender<DirectEvent>) {
    let mut reported = false;
    while let Some(event) = channel.poll().await {
        let message = match event {
            DataChannelEvent::OnMessage(message) => message,
            DataChannelEvent::OnClose => return,
            _ => continue,
        };
        let data = message.data.freeze();
        let payload = match message.is_string.then(|| ByteString::try_from(data.clone())) {
            None => Payload::Binary(data),
            Some(Ok(text)) => Payload::Text(text),
            Some(Err(_)) => {
                if !std::mem::replace(&mut reported, true) {
                    send_event(events, DirectEvent::Diagnostic("a text that is not UTF-8".to_owned())).await;
                }
                continue;
            }
        };
        send_event(events, DirectEvent::Packet { reliable, payload }).await;
    }
}

/// Sends the messages of the queue, until it ends or the channel is closed.
async fn write(
    channel: &dyn DataChannel,
    mut queue: QueueReceiver,
    events: &mpsc::Sender<DirectEvent>,
    max_message: usize,
) {
    while let Some(payload) = queue.recv().await {
        let len = payload.len();
        let sent = match payload {
            _ if len > max_message => Err(Error::ErrOutboundPacketTooLarge),
            Payload::Text(text) => channel.send_text(&text).await,
            Payload::Binary(bytes) => channel.send(into_mut(bytes)).await,
        };
        match sent {
            Ok(()) => {}
            Err(Error::ErrDataChannelClosed) => return,
            Err(error) => {
                let text = format!("a message of {len} bytes was not sent: {error}");
                send_event(events, DirectEvent::Diagnostic(text)).await;
            }
        }
        if queue.sent(len) {
            send_event(events, DirectEvent::Writable).await;
        }
    }
    // The link was dropped. Closing the channel drops what the peer has not acknowledged, and the library does not report
    // acknowledgements.
    while channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
        sleep(ACKNOWLEDGED_CHECK).await;
    }
}

/// Converts the bytes, without a copy if they are not shared.
fn into_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
