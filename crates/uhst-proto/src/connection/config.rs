//! Configuration of a connection: limits and credentials.

use core::time::Duration;

use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{StaticKey, cost::message_cost};
use crate::protocol::{
    GameId, KeyHash, PathPolicy,
    frame::handshake_packet::{Limits, MAX_METADATA},
};

/// The upper bound of every timeout, so that sums of times do not overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The lower bound of a timeout that only the peer has shortened.
const SHORTEST: Duration = Duration::from_secs(1);

/// The largest signal in bytes. Offers and answers are a few KiB.
pub(super) const MAX_SIGNAL: usize = 64 << 10;
/// The bytes of signals that may be queued or unacknowledged. They are not part of the grant, so that a slow reader can
/// still find a direct path.
pub(super) const SIGNAL_BUFFER: usize = 256 << 10;

/// The limits of one connection. Both sides may use different ones, and each side respects those of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// How long nothing may arrive from the peer, on any path, before it is [interrupted](super::Interruption::Silent).
    /// Heartbeats are sent about four times as often. Defaults to 5 seconds; at least 50 ms, at most a day.
    ///
    /// Both sides use the smaller of their values. A peer cannot bring it below one second on its own.
    pub timeout: Duration,
    /// How long a peer may be interrupted before its connection ends with
    /// [`TimedOut`](crate::protocol::EndReason::TimedOut), or with the reason of its goodbye if that has arrived, and
    /// not all that was sent before it. A shorter time frees the places of crashed games sooner. Defaults to 30
    /// seconds; at most a day.
    ///
    /// Both sides use the smaller of their values, as with `timeout`.
    pub resume_timeout: Duration,
    /// How long a close may take to deliver what was sent before. It gives up earlier if the peer acknowledges nothing
    /// for twice the `timeout` on a path, or for `resume_timeout` while none is up. Paths that come and go do not
    /// prolong that: they have twice the `timeout` more at most. What is not acknowledged by then is cut and reported.
    /// Zero cuts everything that is queued. Defaults to 5 minutes, in which a full send buffer passes a link of
    /// 1 Mbit/s; at most a day.
    pub drain_timeout: Duration,
    /// How long a peer with a full send buffer may miss reliable broadcasts. If less than half of the buffer is free by
    /// then, the next missed broadcast ends the connection with [`TooSlow`](crate::protocol::EndReason::TooSlow).
    /// Interruptions do not count. Defaults to 30 seconds; at most a day.
    pub catch_up_timeout: Duration,
    /// The largest message in bytes, sent or received. Defaults to 16 MiB; at least 1 KiB, at most 1 GiB.
    pub max_message: usize,
    /// The bytes of reliable messages that may be queued or unacknowledged. Each message counts 160 bytes more, and a
    /// larger one 160 bytes more for each 15 KiB, which is about its cost in memory. Defaults to 24 MiB; raised to fit
    /// one message of the maximum size.
    pub send_buffer: usize,
    /// The bytes of received messages that may wait to be consumed, with the same overhead. Defaults to 24 MiB; raised
    /// to fit one and a quarter messages of the maximum size.
    pub receive_buffer: usize,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            resume_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5 * 60),
            catch_up_timeout: Duration::from_secs(30),
            max_message: 16 << 20,
            send_buffer: 24 << 20,
            receive_buffer: 24 << 20,
        }
    }
}

impl ConnectionConfig {
    /// Returns the nearest limits that work together.
    #[must_use]
    pub fn corrected(mut self) -> Self {
        self.timeout = self.timeout.clamp(Duration::from_millis(50), LONGEST);
        self.resume_timeout = self.resume_timeout.min(LONGEST);
        self.drain_timeout = self.drain_timeout.min(LONGEST);
        self.catch_up_timeout = self.catch_up_timeout.min(LONGEST);
        self.max_message = self.max_message.clamp(1 << 10, 1 << 30);
        let largest = message_cost(self.max_message);
        self.send_buffer = self.send_buffer.max(largest);
        self.receive_buffer = self.receive_buffer.max(largest + largest / 4);
        self
    }

    pub(super) fn limits(&self, paths: PathPolicy) -> Limits {
        Limits {
            max_message: self.max_message as u64,
            receive_buffer: self.receive_buffer as u64,
            timeout: self.timeout.as_millis() as u64,
            resume_timeout: self.resume_timeout.as_millis() as u64,
            paths,
        }
    }

    /// The timeout and the resume timeout that both sides use.
    pub(super) fn agreed_timeouts(&self, peer: Limits) -> (Duration, Duration) {
        (agreed(self.timeout, peer.timeout), agreed(self.resume_timeout, peer.resume_timeout))
    }
}

/// The smaller of both values. A value below [`SHORTEST`] counts only as far as both sides have one, so that a peer
/// cannot force constant heartbeats, or an end at the first delay.
fn agreed(ours: Duration, theirs: u64) -> Duration {
    let ours = Duration::from_millis(ours.as_millis() as u64);
    let theirs = Duration::from_millis(theirs);
    ours.min(theirs).max(ours.max(theirs).min(SHORTEST))
}

/// A password. It is wiped from memory when dropped, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl<T: Into<String>> From<T> for Password {
    fn from(password: T) -> Self {
        Self(password.into())
    }
}

impl core::fmt::Debug for Password {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What both sides must know to connect.
#[derive(Clone)]
pub struct Credentials {
    /// The id of the session, as assigned by the relay.
    pub host_id: String,
    /// The password of the session. `None` equals an empty password. It is never sent.
    pub password: Option<Password>,
    /// The game, which must be the same on both sides.
    pub game: GameId,
    /// The static key of this side. It needs no storage: a fresh one serves those who need not be known again.
    pub key: StaticKey,
    /// Client: the hash of the host's key, from the link. With it, no other host is joined. A host ignores it.
    pub host_key: Option<KeyHash>,
}

impl Credentials {
    pub(super) fn password(&self) -> &[u8] {
        self.password.as_ref().map_or(b"", |password| password.0.as_bytes())
    }
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials")
            .field("host_id", &self.host_id)
            .field("game", &self.game)
            .field("host_key", &self.host_key)
            .finish_non_exhaustive()
    }
}

/// Metadata that exceeds [`MAX_METADATA`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes of metadata, {MAX_METADATA} are allowed: send the rest as a message once connected")]
pub struct MetadataTooLarge {
    /// The size of the metadata in bytes.
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
    fn both_sides_use_the_smaller_timeouts_within_bounds() {
        let config = |timeout, resume_timeout| ConnectionConfig {
            timeout: Duration::from_millis(timeout),
            resume_timeout: Duration::from_millis(resume_timeout),
            ..Default::default()
        };
        for (one, two, agreed) in [
            ((5000, 30_000), (3000, 60_000), (3000, 30_000)),
            ((5000, 30_000), (50, 0), (1000, 1000)),
            ((200, 300), (50, 0), (200, 300)),
            ((50, 0), (50, 0), (50, 0)),
        ] {
            let (one, two) = (config(one.0, one.1), config(two.0, two.1));
            let agreed = (Duration::from_millis(agreed.0), Duration::from_millis(agreed.1));
            assert_eq!(one.agreed_timeouts(two.limits(PathPolicy::default())), agreed);
            assert_eq!(two.agreed_timeouts(one.limits(PathPolicy::default())), agreed);
        }
    }

    #[test]
    fn a_password_stays_out_of_logs() {
        let credentials = Credentials {
            host_id: "1234".into(),
            password: Some("secret".into()),
            game: GameId::default(),
            key: StaticKey::from_bytes([1; 32]),
            host_key: None,
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn metadata_is_bounded() {
        assert!(check_metadata(Bytes::from(vec![0; MAX_METADATA])).is_ok());
        assert_eq!(check_metadata(Bytes::from(vec![0; 5000])), Err(MetadataTooLarge { size: 5000 }));
    }
}
