//! What the caller decides: limits, and who may connect.

use core::time::Duration;

use bytes::Bytes;

use super::cost::message_cost;
use crate::protocol::{
    GameId, PathPolicy,
    frame::contact::{Limits, MAX_METADATA},
};

/// Limits of one connection. Both sides may have different ones; each respects the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// A peer that is silent for longer while the relay is there is gone. Heartbeats go out about four times as often. At
    /// least 50 ms.
    pub timeout: Duration,
    /// How long a connection without any path waits for one before it ends.
    pub resume_timeout: Duration,
    /// The size of one message in bytes, sent or received. At least 1 KiB, at most 1 GiB.
    pub max_message: usize,
    /// Bytes of reliable messages that wait to be sent or acknowledged, with an overhead of 160 bytes for each message
    /// and for each 15 KiB of a larger one: about what it takes in memory. Raised to hold one message of the maximum
    /// size.
    pub send_buffer: usize,
    /// Bytes of received messages that wait to be consumed, with the same overhead. Raised to hold one message of the
    /// maximum size and a quarter more.
    pub receive_buffer: usize,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            resume_timeout: Duration::from_secs(30),
            max_message: 16 << 20,
            send_buffer: 24 << 20,
            receive_buffer: 24 << 20,
        }
    }
}

impl ConnectionConfig {
    /// The nearest limits that can work together.
    pub fn corrected(mut self) -> Self {
        self.timeout = self.timeout.max(Duration::from_millis(50));
        self.max_message = self.max_message.clamp(1 << 10, 1 << 30);
        let largest = message_cost(self.max_message);
        self.send_buffer = self.send_buffer.max(largest);
        self.receive_buffer = self.receive_buffer.max(largest + largest / 4);
        self
    }

    pub(super) fn limits(&self, paths: PathPolicy) -> Limits {
        Limits { max_message: self.max_message as u64, receive_buffer: self.receive_buffer as u64, paths }
    }
}

/// What both sides must know before they can connect.
#[derive(Clone)]
pub struct Credentials {
    /// The id of the session, as the relay gave it.
    pub host_id: String,
    /// The password of the session; `None` is the same as an empty one. It never crosses the wire.
    pub password: Option<String>,
    /// The game, which must be the same on both sides.
    pub game: GameId,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials").field("host_id", &self.host_id).field("game", &self.game).finish_non_exhaustive()
    }
}

/// Metadata that is too large to introduce oneself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes of metadata, {MAX_METADATA} are allowed: send the rest as a message once connected")]
pub struct MetadataTooLarge {
    /// The size in bytes.
    pub size: usize,
}

pub(super) fn check_metadata(metadata: Bytes) -> Result<Bytes, MetadataTooLarge> {
    if metadata.len() > MAX_METADATA { Err(MetadataTooLarge { size: metadata.len() }) } else { Ok(metadata) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_raised_to_hold_one_message() {
        let config = ConnectionConfig { max_message: 1 << 20, send_buffer: 0, receive_buffer: 0, ..Default::default() };
        let config = config.corrected();
        assert!(config.send_buffer >= message_cost(1 << 20));
        assert!(config.receive_buffer >= message_cost(1 << 20));
        assert_eq!(ConnectionConfig::default().corrected(), ConnectionConfig::default());
    }

    #[test]
    fn a_password_stays_out_of_logs() {
        let credentials =
            Credentials { host_id: "1234".into(), password: Some("secret".into()), game: GameId::default() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn metadata_is_bounded() {
        assert!(check_metadata(Bytes::from(vec![0; MAX_METADATA])).is_ok());
        assert_eq!(check_metadata(Bytes::from(vec![0; 5000])), Err(MetadataTooLarge { size: 5000 }));
    }
}
