//! Everything received: the reliable streams within our grant, signals, and the unreliable channels.

use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    ConnectionConfig, ConnectionEvent, Received,
    config::{MAX_SIGNAL, SIGNAL_BUFFER},
    cost::{OVERHEAD, fragment_cost},
    receive::{CompleteMessage, Receiver, Violation},
    unreliable::UnreliableReceiver,
};
use crate::protocol::{
    Channel, Payload,
    frame::{Data, MIN_FRAGMENT, Stream},
};

#[derive(Debug)]
pub(super) struct Incoming {
    reliable: [Receiver; 2],
    signals: Receiver,
    unreliable: [UnreliableReceiver; 2],
    buffer: u64,
    /// The cost of all reliable fragments received.
    received: u64,
    /// The cost of what was received and not consumed.
    outstanding: u64,
    /// The cost of signals that were received and not taken.
    signals_waiting: usize,
    /// The largest grant that was reported to the peer.
    granted: u64,
    peer_blocked: bool,
    messages: u64,
    dropped: u64,
}

impl Incoming {
    pub(super) fn new(config: &ConnectionConfig) -> Self {
        let (max, buffer) = (config.max_message, config.receive_buffer);
        let window = buffer / OVERHEAD + 1;
        Self {
            reliable: [Receiver::new(true, max, window), Receiver::new(false, max, window)],
            signals: Receiver::new(true, MAX_SIGNAL, SIGNAL_BUFFER / OVERHEAD + 1),
            unreliable: [UnreliableReceiver::new(false, max), UnreliableReceiver::new(true, max)],
            buffer: buffer as u64,
            received: 0,
            outstanding: 0,
            signals_waiting: 0,
            granted: buffer as u64,
            peer_blocked: false,
            messages: 0,
            dropped: 0,
        }
    }

    /// The bytes that the peer may send, since the start of the connection.
    fn grant(&self) -> u64 {
        self.granted.max(self.received + self.buffer.saturating_sub(self.outstanding))
    }

    /// Returns the grant, which is about to be reported to the peer.
    pub(super) fn report_grant(&mut self) -> u64 {
        let grant = self.grant();
        self.peer_blocked &= grant == self.granted;
        self.granted = grant;
        grant
    }

    /// Whether enough was consumed to report a new grant at once.
    pub(super) fn grant_is_due(&self) -> bool {
        let news = self.grant() - self.granted;
        news >= self.buffer / 4 || self.peer_blocked && news > 0 && (news >= self.buffer / 16 || self.outstanding == 0)
    }

    /// Records that the peer waits for a larger grant.
    pub(super) fn peer_is_blocked(&mut self) {
        self.peer_blocked = true;
    }

    pub(super) fn unconsumed(&self) -> usize {
        self.outstanding as usize
    }

    pub(super) fn unreliable_dropped(&self) -> u64 {
        self.dropped + self.unreliable[0].dropped() + self.unreliable[1].dropped()
    }

    /// The number of complete messages that were received.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    pub(super) fn unreliable(&self) -> &[UnreliableReceiver; 2] {
        &self.unreliable
    }

    /// The state for an acknowledgement, in the order of the streams.
    pub(super) fn states(&self) -> [(u64, &[(u64, u64)]); 3] {
        [self.reliable[0].state(), self.reliable[1].state(), self.signals.state()]
    }

    /// Whether everything sent before the peer's close was received.
    pub(super) fn reached(&self, ends: &[u64; 3]) -> bool {
        [self.reliable[0].next(), self.reliable[1].next(), self.signals.next()]
            .iter()
            .zip(ends)
            .all(|(next, end)| next >= end)
    }

    /// Records that the game has consumed messages.
    pub(super) fn consumed(&mut self, cost: usize) {
        self.outstanding = self.outstanding.saturating_sub(cost as u64);
    }

    /// Records that the owner has taken a signal.
    pub(super) fn signal_taken(&mut self, len: usize) {
        self.signals_waiting = self.signals_waiting.saturating_sub(fragment_cost(len));
    }

    /// Processes a fragment from a packet of `packet` bytes.
    pub(super) fn receive(
        &mut self,
        data: Data,
        packet: usize,
        events: &mut VecDeque<ConnectionEvent>,
    ) -> Result<(), Violation> {
        if !data.last && data.payload.len() < MIN_FRAGMENT {
            return Err(Violation::Protocol("a fragment is too small"));
        }
        let cost = fragment_cost(data.payload.len()) as u64;
        match data.stream {
            Stream::Channel(channel @ (Channel::Reliable | Channel::ReliableUnordered)) => {
                let stream = usize::from(channel == Channel::ReliableUnordered);
                if !self.reliable[stream].is_new(data.number) {
                    return Ok(());
                }
                if self.received + cost > self.grant() {
                    return Err(Violation::TooMuchData);
                }
                let Self { reliable, outstanding, messages, .. } = self;
                *outstanding += cost;
                let taken = reliable[stream].receive(data, compact(packet), |message| {
                    // The overhead of one fragment counts until the event is taken.
                    *outstanding -= ((message.fragments - 1) * OVERHEAD) as u64;
                    *messages += 1;
                    events.push_back(message_event(channel, message)?);
                    Ok(())
                })?;
                if taken {
                    self.received += cost;
                } else {
                    self.outstanding -= cost;
                }
                Ok(())
            }
            Stream::Channel(channel) => {
                let receiver = &mut self.unreliable[usize::from(channel == Channel::UnreliableSequenced)];
                match receiver.receive(data, compact(packet)) {
                    Some(message) => self.deliver_unreliable(channel, message, events),
                    None => Ok(()),
                }
            }
            Stream::Signal => self.receive_signal(data, packet, events),
        }
    }

    /// Delivers an unreliable message, or drops it if too much waits to be consumed.
    fn deliver_unreliable(
        &mut self,
        channel: Channel,
        message: CompleteMessage,
        events: &mut VecDeque<ConnectionEvent>,
    ) -> Result<(), Violation> {
        let cost = fragment_cost(message.payload.len()) as u64;
        if self.outstanding + cost > self.buffer {
            self.dropped += 1;
            return Ok(());
        }
        self.outstanding += cost;
        self.messages += 1;
        events.push_back(message_event(channel, message)?);
        Ok(())
    }

    fn receive_signal(
        &mut self,
        data: Data,
        packet: usize,
        events: &mut VecDeque<ConnectionEvent>,
    ) -> Result<(), Violation> {
        if !self.signals.is_new(data.number) {
            return Ok(());
        }
        let cost = fragment_cost(data.payload.len());
        if self.signals_waiting + cost > 2 * SIGNAL_BUFFER {
            return Err(Violation::TooMuchData);
        }
        let waiting = &mut self.signals_waiting;
        *waiting += cost;
        let taken = self.signals.receive(data, compact(packet), |message| {
            *waiting -= (message.fragments - 1) * OVERHEAD;
            events.push_back(ConnectionEvent::Signal(message.payload));
            Ok(())
        })?;
        if !taken {
            self.signals_waiting -= cost;
        }
        Ok(())
    }
}

/// Returns what to hold of a slice of a packet of `packet` bytes. A slice keeps its whole packet in memory, so small
/// ones are copied. Then held data costs about what it is counted for.
fn compact(packet: usize) -> impl Fn(Bytes) -> Bytes {
    move |bytes| if bytes.len() < packet / 8 { Bytes::copy_from_slice(&bytes) } else { bytes }
}

fn message_event(channel: Channel, message: CompleteMessage) -> Result<ConnectionEvent, Violation> {
    let payload = if message.text {
        Payload::Text(ByteString::try_from(message.payload).map_err(|_| Violation::Protocol("text that is not UTF-8"))?)
    } else {
        Payload::Binary(message.payload)
    };
    Ok(ConnectionEvent::Message(Received { channel, tag: message.tag, payload }))
}

/// Copies messages that would keep a much larger packet in memory.
pub(super) fn compact_events(events: &mut VecDeque<ConnectionEvent>, from: usize, packet: usize) {
    let size = |event: &ConnectionEvent| match event {
        ConnectionEvent::Message(Received { payload, .. }) => payload.len() + OVERHEAD,
        ConnectionEvent::Signal(signal) => signal.len() + OVERHEAD,
        _ => 0,
    };
    let fresh: usize = events.range(from..).map(size).sum();
    if fresh >= packet / 4 {
        return;
    }
    for event in events.range_mut(from..) {
        match event {
            ConnectionEvent::Message(Received { payload: Payload::Text(text), .. }) => {
                *text = ByteString::from(&**text)
            }
            ConnectionEvent::Message(Received { payload: Payload::Binary(bytes), .. })
            | ConnectionEvent::Signal(bytes) => {
                *bytes = Bytes::copy_from_slice(bytes);
            }
            _ => {}
        }
    }
}
