//! Records the messages sent in one direction of a connection, and checks those that arrive.

use std::{collections::BTreeMap, sync::LazyLock};

use bevy_uhst::prelude::*;

/// The length of the header of a message: its direction, and its number.
const HEADER: usize = 12;
/// The bytes from which messages are cut, each at another place, so that parts of two messages differ.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(LARGEST + PLACES as usize).collect()
});
const PLACES: u64 = 4093;
/// The largest message.
pub const LARGEST: usize = 1 << 20;

/// One direction of a connection.
pub struct Flow {
    name: u32,
    channels: [Record; 4],
}

/// The messages of one channel.
#[derive(Default)]
struct Record {
    next: u64,
    /// The sizes of the messages that were accepted and have not arrived, by number. Unreliable ones may never arrive.
    waiting: BTreeMap<u64, usize>,
    /// The number of empty messages under way. They carry no number, except by their place on an ordered channel.
    empty: u64,
    newest: Option<u64>,
}

impl Flow {
    pub fn new(name: u32) -> Self {
        Flow { name, channels: Default::default() }
    }

    /// Creates the next message of a channel. Call [`accepted`](Self::accepted) once it is sent.
    pub fn next(&self, channel: UhstChannel, size: usize) -> Vec<u8> {
        self.message(self.channels[channel as usize].next, fitting(channel, size))
    }

    pub fn accepted(&mut self, channel: UhstChannel, size: usize) {
        let size = fitting(channel, size);
        let record = &mut self.channels[channel as usize];
        if size == 0 && channel != UhstChannel::Reliable {
            record.empty += 1;
            return;
        }
        record.waiting.insert(record.next, size);
        record.next += 1;
    }

    /// Removes a message that has arrived from the record.
    pub fn arrived(&mut self, channel: UhstChannel, payload: &[u8]) -> Result<(), String> {
        let record = &mut self.channels[channel as usize];
        if payload.is_empty() && channel != UhstChannel::Reliable {
            record.empty = record.empty.checked_sub(1).ok_or(format!("{channel:?}: an empty message too many"))?;
            return Ok(());
        }
        let number = match channel {
            // On an ordered channel, the next message is the first one that has not arrived.
            UhstChannel::Reliable => record.waiting.first_key_value().map(|(number, _)| *number),
            _ => payload.get(4..HEADER).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes),
        };
        let number = number.ok_or_else(|| format!("{channel:?}: {} bytes that nobody sent", payload.len()))?;
        let Some(size) = record.waiting.remove(&number) else {
            return Err(format!("{channel:?}: number {number} arrived twice, or was never sent"));
        };
        if channel == UhstChannel::UnreliableSequenced
            && record.newest.replace(number).is_some_and(|newest| newest > number)
        {
            return Err(format!("{channel:?}: number {number} follows a newer one"));
        }
        if self.message(number, size) != payload {
            let (there, header) = (payload.len(), payload.get(..HEADER));
            return Err(format!(
                "{channel:?}: number {number} of {size} bytes is not what arrived: {there} bytes from {header:?}"
            ));
        }
        Ok(())
    }

    /// Returns the number of reliable messages that have not arrived.
    pub fn missing(&self) -> u64 {
        let missing = |channel: UhstChannel| {
            let record = &self.channels[channel as usize];
            record.waiting.len() as u64 + record.empty
        };
        UhstChannel::ALL.into_iter().filter(|channel| channel.is_reliable()).map(missing).sum()
    }

    fn message(&self, number: u64, size: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(size.max(HEADER));
        message.extend(self.name.to_be_bytes());
        message.extend(number.to_be_bytes());
        let place = ((number * 7 + u64::from(self.name)) % PLACES) as usize;
        message.extend(&NOISE[place..place + size.saturating_sub(HEADER)]);
        message.truncate(size);
        message
    }
}

/// Returns the size that a message needs at least. Only reliable messages are checked by their order alone, so that other
/// messages carry a number or are empty.
fn fitting(channel: UhstChannel, size: usize) -> usize {
    if channel == UhstChannel::Reliable || size == 0 { size } else { size.max(HEADER) }
}
