//! What the caller decides: limits, and who may connect.

use core::time::Duration;

use bytes::Bytes;

use super::cost::message_cost;
use crate::protocol::{
    GameId, PathPolicy,
    frame::handshake_packet::{Limits, MAX_METADATA},
};

/// No timeout is longer: with it, times can be added.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// What a peer alone can bring a timeout down to.
const SHORTEST: Duration = Duration::from_secs(1);

/// Limits of one connection. Both sides may have different ones; each respects the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// A peer from which nothing comes on any path for so long is [interrupted](super::Interruption::Silent). Heartbeats go
    /// out about four times as often. 5 seconds if not said; at least 50 ms, at most a day.
    ///
    /// Both sides go by the same number: the smaller one, but no other side makes it less than a second.
    pub timeout: Duration,
    /// How long a peer may be interrupted before its connection ends with
    /// [`TimedOut`](crate::protocol::EndReason::TimedOut). A shorter one frees the places of games that crashed sooner.
    /// 30 seconds if not said; at most a day.
    ///
    /// Both sides go by the same number, as with `timeout`.
    pub resume_timeout: Duration,
    /// How long a side that leaves may take in total to deliver what it sent before. It gives up sooner only where nothing
    /// advances: when the other side confirms nothing for twice the `timeout`, or no path leads to it for `resume_timeout`.
    /// What is not confirmed then is cut, and reported. 5 minutes if not said, in which a full send buffer passes a link of
    /// 1 Mbit/s, also over the relay; at most a day. With zero, nothing that waits is delivered any more.
    pub drain_timeout: Duration,
    /// How long a peer may go on missing reliable broadcasts, because its send buffer is full. Unless half of the buffer is
    /// free again by then, the next broadcast that it misses ends its connection with
    /// [`TooSlow`](crate::protocol::EndReason::TooSlow). Time in which it is interrupted does not count. 30 seconds if not
    /// said; at most a day.
    pub catch_up_timeout: Duration,
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
            drain_timeout: Duration::from_secs(5 * 60),
            catch_up_timeout: Duration::from_secs(30),
            max_message: 16 << 20,
            send_buffer: 24 << 20,
            receive_buffer: 24 << 20,
        }
    }
}

impl ConnectionConfig {
    /// The nearest limits that can work together.
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

    /// The timeout and the resume timeout that both sides go by.
    pub(super) fn agreed_timeouts(&self, peer: Limits) -> (Duration, Duration) {
        (agreed(self.timeout, peer.timeout), agreed(self.resume_timeout, peer.resume_timeout))
    }
}

/// The smaller of both sides' numbers. One below [`SHORTEST`] counts only as far as both have one: a peer must not make us
/// send heartbeats all the time, or end a connection at its first hiccup.
fn agreed(ours: Duration, theirs: u64) -> Duration {
    let ours = Duration::from_millis(ours.as_millis() as u64);
    let theirs = Duration::from_millis(theirs);
    ours.min(theirs).max(ours.max(theirs).min(SHORTEST))
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
    fn both_sides_go_by_the_smaller_timeouts_and_none_is_forced_to_haste() {
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
