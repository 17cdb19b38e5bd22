//! The data channels of the library, in the form that links use.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio::time::sleep;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    error::Error,
};

use super::progress::Progress;
use crate::{
    net::webrtc::{NotUtf8, SendFailure},
    protocol::Payload,
};

/// The poll interval while a closing channel waits for acknowledgements.
const ACKNOWLEDGED_CHECK: Duration = Duration::from_millis(2);

/// One data channel.
pub(in crate::net::webrtc) struct Channel {
    channel: Arc<dyn DataChannel>,
    progress: Arc<Progress>,
}

impl Channel {
    pub(super) fn new(channel: Arc<dyn DataChannel>, progress: Arc<Progress>) -> Self {
        Channel { channel, progress }
    }

    /// Whether the channel has this label.
    pub async fn has_label(&self, label: &str) -> bool {
        self.channel.label().await.is_ok_and(|own| own == label)
    }

    /// Waits until the channel is open. Returns `false` if it will not open.
    pub async fn opened(&self) -> bool {
        while let Some(event) = self.channel.poll().await {
            match event {
                DataChannelEvent::OnOpen => {
                    self.progress.set_opened();
                    return true;
                }
                DataChannelEvent::OnClose => return false,
                _ => {}
            }
        }
        false
    }

    /// Waits for a message of the peer; `None` once the channel is closed.
    pub async fn receive(&self) -> Option<Result<Payload, NotUtf8>> {
        loop {
            let message = match self.channel.poll().await? {
                DataChannelEvent::OnMessage(message) => message,
                DataChannelEvent::OnClose => return None,
                _ => continue,
            };
            let data = message.data.freeze();
            return Some(if message.is_string {
                ByteString::try_from(data).map(Payload::Text).map_err(|_| NotUtf8)
            } else {
                Ok(Payload::Binary(data))
            });
        }
    }

    /// Sends a message, once the buffer of the channel has room for it.
    pub async fn send(&self, payload: Payload) -> Result<(), SendFailure> {
        let sent = match payload {
            Payload::Text(text) => self.channel.send_text(&text).await,
            Payload::Binary(bytes) => self.channel.send(into_mut(bytes)).await,
        };
        sent.map_err(|error| match error {
            Error::ErrDataChannelClosed => SendFailure::Closed,
            error => SendFailure::Refused(error.to_string()),
        })
    }

    /// Waits until the peer has what was sent. Closing a channel drops what the peer has not acknowledged, and the library
    /// does not report acknowledgements.
    pub async fn flush(&self) {
        while self.channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
            sleep(ACKNOWLEDGED_CHECK).await;
        }
    }
}

/// Converts the bytes, without a copy if they are not shared.
fn into_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
