//! What moves messages between a data channel and its lane.

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
    net::webrtc::{DirectEvent, MAX_MESSAGE, lane::LaneReceiver},
    protocol::Payload,
};

/// How often it is looked whether that has arrived.
const ACKNOWLEDGED_CHECK: Duration = Duration::from_millis(2);

/// The last event, for whoever still listens.
pub(super) async fn last_word(events: &mpsc::Sender<DirectEvent>, event: DirectEvent) {
    let _ = events.send(event).await;
}

/// The channels that are still to open. That they did is told once all have, and before any message.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    unopened: Arc<AtomicUsize>,
    opened: watch::Sender<bool>,
    /// Bytes of the largest message that the peer takes.
    max_message: Arc<AtomicUsize>,
}

impl Opening {
    /// Of as many channels.
    pub fn of(channels: usize) -> Self {
        let max_message = Arc::new(MAX_MESSAGE.into());
        Opening { unopened: Arc::new(channels.into()), opened: watch::channel(false).0, max_message }
    }

    /// Messages above this many bytes are not sent. Known once the peer has described itself, and so before any opens.
    pub fn limit(&self, max_message: usize) {
        self.max_message.store(max_message, Ordering::Relaxed);
    }

    fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    pub fn is_open(&self) -> bool {
        *self.opened.borrow()
    }

    /// Changes once all are open.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.opened.subscribe()
    }

    /// Waits for one channel, then for the others. `false`: it will not open.
    async fn wait(&self, channel: &dyn DataChannel, events: &mpsc::Sender<DirectEvent>) -> bool {
        if !wait_for_open(channel).await {
            return false;
        }
        if self.unopened.fetch_sub(1, Ordering::AcqRel) == 1 {
            last_word(events, DirectEvent::Open { max_message: self.max_message() }).await;
            self.opened.send_replace(true);
            return true;
        }
        self.watch().wait_for(|opened| *opened).await.is_ok()
    }
}

/// Moves messages between one channel and its lane, until the channel is closed or the lane has no more.
pub(super) fn pump(
    channel: Arc<dyn DataChannel>,
    reliable: bool,
    lane: LaneReceiver,
    events: mpsc::Sender<DirectEvent>,
    opening: Opening,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if opening.wait(&*channel, &events).await {
            tokio::select! {
                () = read(&*channel, reliable, &events) => {}
                () = write(&*channel, lane, &events, opening.max_message()) => {}
            }
        }
    })
}

/// Tells the messages of a channel that only the peer sends on, the unreliable one, until it is closed.
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

/// Tells the messages of the peer, until it closes the channel.
async fn read(channel: &dyn DataChannel, reliable: bool, events: &mpsc::Sender<DirectEvent>) {
    let mut complained = false;
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
                if !std::mem::replace(&mut complained, true) {
                    last_word(events, DirectEvent::Diagnostic("a text that is not UTF-8".to_owned())).await;
                }
                continue;
            }
        };
        last_word(events, DirectEvent::Packet { reliable, payload }).await;
    }
}

/// Sends what the lane has, until it has no more or the channel is closed.
async fn write(
    channel: &dyn DataChannel,
    mut lane: LaneReceiver,
    events: &mpsc::Sender<DirectEvent>,
    max_message: usize,
) {
    while let Some(payload) = lane.recv().await {
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
                last_word(events, DirectEvent::Diagnostic(text)).await;
            }
        }
        if lane.sent(len) {
            last_word(events, DirectEvent::Writable).await;
        }
    }
    // Let go of: closing would drop what the peer has not acknowledged, and the library does not tell when it has.
    while channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
        sleep(ACKNOWLEDGED_CHECK).await;
    }
}

/// Without a copy when nobody else holds the bytes.
fn into_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
