//! Everything on its way in, under the grant which we gave.

use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    ConnectionConfig, ConnectionEvent,
    cost::{OVERHEAD, fragment_cost},
    outgoing::{MAX_SIGNAL, SIGNAL_BUFFER},
    receive::{Message, Receiver, Violation},
    unreliable::UnreliableReceiver,
};
use crate::protocol::{
    Channel, Payload,
    frame::{Data, Stream},
};

/// Only the last fragment of a message may be smaller, so that a message has few of them.
pub(super) const MIN_FRAGMENT: usize = 1 << 10;

#[derive(Debug)]
pub(super) struct Incoming {
    reliable: [Receiver; 2],
    signals: Receiver,
    unreliable: [UnreliableReceiver; 2],
    buffer: u64,
    /// The cost of all reliable fragments so far.
    received: u64,
    /// The cost of what was received and not consumed.
    outstanding: u64,
    /// The cost of signals which were received and not taken.
    signals_waiting: usize,
    /// The largest grant that the peer was told.
    granted: u64,
    peer_blocked: bool,
    pub(super) messages: u64,
    pub(super) dropped: u64,
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

    /// What may be received in total.
    fn grant(&self) -> u64 {
        self.granted.max(self.received + self.buffer.saturating_sub(self.outstanding))
    }

    /// The grant, to be told to the peer now.
    pub(super) fn report_grant(&mut self) -> u64 {
        let grant = self.grant();
        self.peer_blocked &= grant == self.granted;
        self.granted = grant;
        grant
    }

    /// Whether so much was consumed that the peer should know at once.
    pub(super) fn grant_is_due(&self) -> bool {
        let news = self.grant() - self.granted;
        news >= self.buffer / 4 || self.peer_blocked && news > 0 && (news >= self.buffer / 16 || self.outstanding == 0)
    }

    /// The peer waits for a larger grant.
    pub(super) fn peer_is_blocked(&mut self) {
        self.peer_blocked = true;
    }

    pub(super) fn unconsumed(&self) -> usize {
        self.outstanding as usize
    }

    pub(super) fn unreliable_dropped(&self) -> u64 {
        self.dropped + self.unreliable[0].dropped + self.unreliable[1].dropped
    }

    pub(super) fn unreliable(&self) -> &[UnreliableReceiver; 2] {
        &self.unreliable
    }

    /// For acknowledgements, in the order of their streams.
    pub(super) fn states(&self) -> [(u64, &[(u64, u64)]); 3] {
        [self.reliable[0].state(), self.reliable[1].state(), self.signals.state()]
    }

    /// Whether everything before the peer's end was received.
    pub(super) fn reached(&self, ends: &[u64; 3]) -> bool {
        [self.reliable[0].next(), self.reliable[1].next(), self.signals.next()]
            .iter()
            .zip(ends)
            .all(|(next, end)| next >= end)
    }

    /// The game has taken messages.
    pub(super) fn consumed(&mut self, cost: usize) {
        self.outstanding = self.outstanding.saturating_sub(cost as u64);
    }

    /// A signal was taken.
    pub(super) fn signal_taken(&mut self, len: usize) {
        self.signals_waiting = self.signals_waiting.saturating_sub(fragment_cost(len));
    }

    /// Takes a fragment from a packet of this size.
    pub(super) fn receive(
        &mut self,
        data: Data,
        packet: usize,
        events: &mut VecDeque<ConnectionEvent>,
    ) -> Result<(), Violation> {
        if !data.last && data.payload.len() < MIN_FRAGMENT {
            return Err(Violation::Protocol("a fragment is too small"));
        }
        // A slice keeps its whole packet alive: what waits must not hold much more memory than it is counted for.
        let compact = |bytes: Bytes| if bytes.len() < packet / 8 { Bytes::copy_from_slice(&bytes) } else { bytes };
        let cost = fragment_cost(data.payload.len());
        match data.stream {
            Stream::Channel(channel @ (Channel::Reliable | Channel::ReliableUnordered)) => {
                let stream = usize::from(channel == Channel::ReliableUnordered);
                if !self.reliable[stream].is_new(data.number) {
                    return Ok(());
                }
                let grant = self.grant();
                if self.received + cost as u64 > grant {
                    return Err(Violation::TooMuchData);
                }
                let Self { reliable, outstanding, messages, .. } = self;
                *outstanding += cost as u64;
                let taken = reliable[stream].receive(data, compact, |message| {
                    // One overhead stays until the event is taken.
                    *outstanding -= ((message.fragments - 1) * OVERHEAD) as u64;
                    *messages += 1;
                    events.push_back(message_event(channel, message)?);
                    Ok(())
                })?;
                if taken {
                    self.received += cost as u64;
                } else {
                    self.outstanding -= cost as u64;
                }
            }
            Stream::Channel(channel) => {
                let sequenced = channel == Channel::UnreliableSequenced;
                if let Some(message) = self.unreliable[usize::from(sequenced)].receive(data, compact) {
                    let cost = fragment_cost(message.payload.len()) as u64;
                    if self.outstanding + cost > self.buffer {
                        self.dropped += 1;
                    } else {
                        self.outstanding += cost;
                        self.messages += 1;
                        events.push_back(message_event(channel, message)?);
                    }
                }
            }
            Stream::Signal => {
                if !self.signals.is_new(data.number) {
                    return Ok(());
                }
                if self.signals_waiting + cost > 2 * SIGNAL_BUFFER {
                    return Err(Violation::TooMuchData);
                }
                let waiting = &mut self.signals_waiting;
                *waiting += cost;
                let taken = self.signals.receive(data, compact, |message| {
                    *waiting -= (message.fragments - 1) * OVERHEAD;
                    events.push_back(ConnectionEvent::Signal(message.payload));
                    Ok(())
                })?;
                if !taken {
                    self.signals_waiting -= cost;
                }
            }
        }
        Ok(())
    }
}

fn message_event(channel: Channel, message: Message) -> Result<ConnectionEvent, Violation> {
    let payload = if message.text {
        Payload::Text(ByteString::try_from(message.payload).map_err(|_| Violation::Protocol("text that is not UTF-8"))?)
    } else {
        Payload::Binary(message.payload)
    };
    Ok(ConnectionEvent::Message { channel, tag: message.tag, payload })
}

/// Copies those messages which would hold a packet alive that is much larger than they are.
pub(super) fn compact_events(events: &mut VecDeque<ConnectionEvent>, from: usize, packet: usize) {
    let size = |event: &ConnectionEvent| match event {
        ConnectionEvent::Message { payload, .. } => payload.len() + OVERHEAD,
        ConnectionEvent::Signal(signal) => signal.len() + OVERHEAD,
        _ => 0,
    };
    let fresh: usize = events.range(from..).map(size).sum();
    if fresh >= packet / 4 {
        return;
    }
    for event in events.range_mut(from..) {
        match event {
            ConnectionEvent::Message { payload: Payload::Text(text), .. } => *text = ByteString::from(&**text),
            ConnectionEvent::Message { payload: Payload::Binary(bytes), .. } | ConnectionEvent::Signal(bytes) => {
                *bytes = Bytes::copy_from_slice(bytes);
            }
            _ => {}
        }
    }
}
