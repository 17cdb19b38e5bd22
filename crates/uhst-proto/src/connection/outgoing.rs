//! Everything to be sent: the reliable streams within the receiver's grant, and the unreliable queue.

use bytes::Bytes;

use super::{
    EnqueueError, Path,
    config::{MAX_SIGNAL, SIGNAL_BUFFER},
    cost::message_cost,
    path::{PathContents, PerPath},
    send::{FalseAck, SendStream},
    unreliable::UnreliableQueue,
};
use crate::protocol::{
    Channel, Payload, Tag,
    frame::{Ack, PacketWriter, Stream},
};

const SIGNAL: usize = 2;

#[derive(Debug)]
pub(super) struct Outgoing {
    /// `Reliable`, `ReliableUnordered`, signals.
    streams: [SendStream; 3],
    unreliable: UnreliableQueue,
    send_buffer: usize,
    max_message: usize,
    /// The bytes that the receiver accepts, since the start of the connection.
    grant: u64,
    /// The bytes of the grant that were used.
    used: u64,
    /// The grant for which the receiver was sent a `Blocked` frame.
    reported_blocked: Option<u64>,
    unordered_first: bool,
    resent: u64,
}

impl Outgoing {
    /// `max_message` and `grant` are limits of the receiver.
    pub(super) fn new(send_buffer: usize, max_message: usize, grant: u64) -> Self {
        Self {
            streams: [
                SendStream::new(Stream::Channel(Channel::Reliable)),
                SendStream::new(Stream::Channel(Channel::ReliableUnordered)),
                SendStream::new(Stream::Signal),
            ],
            unreliable: UnreliableQueue::default(),
            send_buffer,
            max_message,
            grant,
            used: 0,
            reported_blocked: None,
            unordered_first: false,
            resent: 0,
        }
    }

    /// The largest message that both sides allow, in bytes.
    pub(super) fn max_message(&self) -> usize {
        self.max_message
    }

    /// The number of fragments that were sent again.
    pub(super) fn resent(&self) -> u64 {
        self.resent
    }

    /// The number of unreliable messages that were dropped instead of being sent.
    pub(super) fn dropped(&self) -> u64 {
        self.unreliable.dropped()
    }

    /// The cost of all queued messages.
    pub(super) fn queued(&self) -> usize {
        self.streams[0].cost() + self.streams[1].cost() + self.unreliable.cost()
    }

    pub(super) fn send(&mut self, channel: Channel, tag: Tag, payload: Payload) -> Result<(), EnqueueError> {
        let (size, limit) = (payload.len(), self.max_message);
        if size > limit {
            return Err(EnqueueError::MessageTooLarge { size, limit });
        }
        let text = matches!(payload, Payload::Text(_));
        let stream = match channel {
            Channel::Reliable => 0,
            Channel::ReliableUnordered => 1,
            Channel::Unreliable | Channel::UnreliableSequenced => {
                self.unreliable.push(channel, tag, payload.into_bytes(), text);
                return Ok(());
            }
        };
        let queued = self.streams[0].cost() + self.streams[1].cost();
        if queued + message_cost(size) > self.send_buffer {
            return Err(EnqueueError::QueueFull { size, queued, limit: self.send_buffer });
        }
        self.streams[stream].push(tag, payload.into_bytes(), text);
        Ok(())
    }

    /// Drops an unreliable message, because no path can carry it now.
    pub(super) fn drop_message(&mut self) {
        self.unreliable.count_dropped();
    }

    pub(super) fn send_signal(&mut self, signal: Bytes) -> Result<(), EnqueueError> {
        let (size, queued) = (signal.len(), self.streams[SIGNAL].cost());
        if size > MAX_SIGNAL {
            return Err(EnqueueError::MessageTooLarge { size, limit: MAX_SIGNAL });
        }
        if queued + message_cost(size) > SIGNAL_BUFFER {
            return Err(EnqueueError::QueueFull { size, queued, limit: SIGNAL_BUFFER });
        }
        self.streams[SIGNAL].push(Tag::Untyped, signal, false);
        Ok(())
    }

    /// Whether the next fragment of a channel may be sent.
    ///
    /// A message starts only if the grant has room for all of it, and for the rest of a message that the other channel
    /// has started. Otherwise two partial messages could fill the receiver, and neither could be consumed.
    fn may_send(&self, stream: usize) -> bool {
        let Some((cost, full_cost)) = self.streams[stream].next_unsent() else { return false };
        let credit = self.grant.saturating_sub(self.used);
        let continues = self.streams[stream].begun() > 0;
        if continues { cost <= credit } else { full_cost.saturating_add(self.streams[1 - stream].begun()) <= credit }
    }

    /// Whether a message waits only for a larger grant.
    fn is_blocked(&self) -> bool {
        (0..2).any(|stream| self.streams[stream].has_unsent() && !self.may_send(stream))
    }

    /// Whether the grant has room for every message that is queued.
    pub(super) fn is_granted(&self) -> bool {
        let unsent: usize = self.streams[..SIGNAL].iter().map(SendStream::unsent_cost).sum();
        unsent as u64 <= self.grant.saturating_sub(self.used)
    }

    /// The streams that a path with these contents carries.
    fn streams(&self, contents: PathContents) -> impl Iterator<Item = &SendStream> {
        let messages = if contents.messages { 0..SIGNAL } else { 0..0 };
        let signals = if contents.signals { SIGNAL..SIGNAL + 1 } else { 0..0 };
        self.streams[messages].iter().chain(&self.streams[signals])
    }

    /// Whether reliable frames can be written now.
    pub(super) fn sendable(&self, contents: PathContents) -> bool {
        self.streams(contents).any(SendStream::has_lost)
            || contents.signals && self.streams[SIGNAL].has_unsent()
            || contents.messages && (self.may_send(0) || self.may_send(1))
    }

    /// An estimate of the bytes to be written. Only values up to `limit` matter.
    pub(super) fn ready(&self, limit: usize, contents: PathContents) -> usize {
        if self.streams(contents).any(SendStream::has_lost) {
            return limit;
        }
        let unreliable = if contents.messages { self.unreliable.cost() } else { 0 };
        self.streams(contents).map(SendStream::unsent_cost).sum::<usize>() + unreliable
    }

    /// Whether every reliable frame was sent, and none is known to be lost.
    pub(super) fn drained(&self) -> bool {
        self.streams.iter().all(|stream| !stream.has_lost() && !stream.has_unsent())
    }

    /// The number of fragments sent on each stream.
    pub(super) fn ends(&self) -> [u64; 3] {
        [self.streams[0].sent(), self.streams[1].sent(), self.streams[2].sent()]
    }

    pub(super) fn in_flight(&self, path: Path) -> bool {
        self.streams.iter().any(|stream| stream.in_flight(path))
    }

    /// Whether frames wait for an acknowledgement or a grant, on each path. `message_path` carries messages.
    pub(super) fn is_waiting(&self, message_path: Option<Path>) -> PerPath<bool> {
        let mut waiting = PerPath(Path::ALL.map(|path| self.in_flight(path)));
        if let Some(path) = message_path
            && self.is_blocked()
        {
            waiting[path] = true;
        }
        waiting
    }

    /// The cost of the queued unreliable messages.
    pub(super) fn unreliable_cost(&self) -> usize {
        self.unreliable.cost()
    }

    /// Writes unreliable messages in fragments of at most `fragment` bytes, while more than `reserve` bytes of the
    /// packet are left.
    pub(super) fn write_unreliable(&mut self, writer: &mut PacketWriter, fragment: usize, reserve: usize) {
        self.unreliable.write(writer, fragment, reserve);
    }

    /// Writes what fits. Returns whether anything was written.
    pub(super) fn write_reliable(&mut self, writer: &mut PacketWriter, path: Path, contents: PathContents) -> bool {
        let before = writer.remaining();
        if contents.signals {
            self.resent += self.streams[SIGNAL].write_lost(writer, path);
            while self.streams[SIGNAL].has_unsent() && self.streams[SIGNAL].write_unsent(writer, path) {}
        }
        if contents.messages {
            self.write_messages(writer, path);
        }
        writer.remaining() < before
    }

    fn write_messages(&mut self, writer: &mut PacketWriter, path: Path) {
        for stream in [0, 1] {
            self.resent += self.streams[stream].write_lost(writer, path);
        }
        // The two channels alternate in going first, so that neither starves.
        self.unordered_first = !self.unordered_first;
        for stream in if self.unordered_first { [1, 0] } else { [0, 1] } {
            while self.may_send(stream) {
                let cost = self.streams[stream].next_unsent().map_or(0, |(cost, _)| cost);
                if !self.streams[stream].write_unsent(writer, path) {
                    break;
                }
                self.used += cost;
            }
        }
        if self.is_blocked() && self.reported_blocked != Some(self.grant) && writer.blocked() {
            self.reported_blocked = Some(self.grant);
        }
    }

    /// Applies an acknowledgement.
    pub(super) fn acked(&mut self, ack: &Ack<'_>) -> Result<(), FalseAck> {
        self.grant = self.grant.max(ack.grant);
        for (stream, state) in self.streams.iter_mut().zip(&ack.streams) {
            stream.acked(state, ack.largest)?;
        }
        Ok(())
    }

    /// Marks everything in flight on this path as lost.
    pub(super) fn lose(&mut self, path: Path) {
        self.streams.iter_mut().for_each(|stream| stream.lose(path));
    }

    /// Drops the queued unreliable messages.
    pub(super) fn clear_unreliable(&mut self) {
        self.unreliable.clear();
    }

    /// Drops everything that is queued.
    pub(super) fn clear(&mut self) {
        self.streams.iter_mut().for_each(SendStream::clear);
        self.unreliable.clear();
    }
}
