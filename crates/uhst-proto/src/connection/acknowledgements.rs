//! Packet numbers and acknowledgements, in both directions.

use bytes::BytesMut;
use core::time::Duration;

use super::{ACK_DELAY, Lane, Timestamp, incoming::Incoming, outgoing::Outgoing, path::PerPath, receive::Violation};
use crate::protocol::frame::{Ack, PacketWriter, put_ack};

/// The bytes that may be received before an acknowledgement is sent.
const ACK_BYTES: usize = 64 << 10;
/// An acknowledgement of data on the reliable data channel waits for a pause of this length, but no longer than
/// [`DIRECT_ACK`]. That channel loses nothing while it is up: its sender keeps data only for a later path, and a
/// separate acknowledgement costs as much as a message. The pause is shorter than the sender's probe timeout, which is
/// at least four times [`ACK_DELAY`].
const DIRECT_PAUSE: Duration = Duration::from_millis(150);
const DIRECT_ACK: Duration = Duration::from_secs(1);

/// The numbers of packets, and when to send the next acknowledgement.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    /// The number of the next packet of this side.
    next_packet: u64,
    /// The largest packet number received on each path.
    received: PerPath<u64>,
    timer: AckTimer,
}

/// When to send the next acknowledgement.
#[derive(Debug, Default)]
struct AckTimer {
    now: bool,
    due: Option<Timestamp>,
    /// The acknowledgement may be delayed until then while more data arrives.
    latest: Option<Timestamp>,
    /// The bytes received since the last acknowledgement.
    bytes: usize,
}

impl Acknowledgements {
    pub(super) fn new() -> Self {
        Self { next_packet: 1, received: PerPath::default(), timer: AckTimer::default() }
    }

    /// The number of the next packet of this side.
    pub(super) fn next_packet(&self) -> u64 {
        self.next_packet
    }

    /// Records that the next packet was written.
    pub(super) fn packet_written(&mut self) {
        self.next_packet += 1;
    }

    /// Applies an acknowledgement of the peer. Acknowledging a packet or fragment that was never sent is a violation.
    pub(super) fn on_ack(&self, ack: &Ack<'_>, outgoing: &mut Outgoing) -> Result<(), Violation> {
        let never_sent = ack.largest.iter().any(|largest| *largest >= self.next_packet);
        if never_sent || outgoing.acked(ack).is_err() {
            return Err(Violation::Protocol("an acknowledgement of what was never sent"));
        }
        Ok(())
    }

    /// Records that the packet with this number arrived over a lane. A lane that loses packets does not count: its
    /// numbers say nothing about the packets before.
    pub(super) fn packet_received(&mut self, lane: Lane, number: u64) {
        if lane != Lane::DirectUnreliable {
            let largest = &mut self.received[lane.path()];
            *largest = number.max(*largest);
        }
    }

    /// Schedules an acknowledgement of data that arrived over a lane, in a packet of `bytes` bytes.
    pub(super) fn data_received(&mut self, lane: Lane, bytes: usize, now: Timestamp) {
        let timer = &mut self.timer;
        timer.bytes += bytes;
        timer.now |= timer.bytes >= ACK_BYTES;
        let (pause, max_delay) = match lane {
            Lane::DirectReliable => (DIRECT_PAUSE, DIRECT_ACK),
            _ => (ACK_DELAY, ACK_DELAY),
        };
        let latest = timer.latest.unwrap_or(Timestamp::MAX).min(now + max_delay);
        (timer.latest, timer.due) = (Some(latest), Some(latest.min(now + pause)));
    }

    /// Makes an acknowledgement due now.
    pub(super) fn request(&mut self) {
        self.timer.now = true;
    }

    /// Makes an acknowledgement due now, because the packet with the last one may be lost.
    pub(super) fn repeat(&mut self) {
        self.timer.now |= self.received != PerPath::default();
    }

    /// When an acknowledgement is due.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.timer.due
    }

    /// Applies the passing of time.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if self.timer.due.is_some_and(|due| now >= due) {
            (self.timer.due, self.timer.now) = (None, true);
        }
    }

    /// Whether an acknowledgement is due now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.timer.now || self.timer.due.is_some_and(|due| now >= due)
    }

    /// Whether an acknowledgement is due soon, so that it may travel with other frames.
    pub(super) fn is_scheduled(&self) -> bool {
        self.timer.due.is_some()
    }

    /// Writes an acknowledgement. The one that is due stays due, because this copy may be lost.
    pub(super) fn write_copy(&self, writer: &mut PacketWriter, incoming: &mut Incoming) -> bool {
        let grant = incoming.report_grant();
        writer.ack(grant, self.received.0, incoming.states())
    }

    /// Writes the acknowledgement that is due.
    pub(super) fn write(&mut self, writer: &mut PacketWriter, incoming: &mut Incoming) {
        if self.write_copy(writer, incoming) {
            self.timer = AckTimer::default();
        }
    }

    /// Appends an acknowledgement to a resumption packet.
    pub(super) fn put(&self, out: &mut BytesMut, incoming: &mut Incoming) {
        let grant = incoming.report_grant();
        put_ack(out, grant, self.received.0, incoming.states());
    }
}
