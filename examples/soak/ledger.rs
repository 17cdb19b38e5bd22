//! What was sent one way on one connection, and whether what arrives is just that.

use std::{collections::BTreeMap, sync::LazyLock};

use bevy_uhst::prelude::*;

/// What a message begins with: which way it goes, and its number there.
const HEADER: usize = 12;
/// Messages are cut out of this, each from another place, so that a part of one never passes for a part of another.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(LARGEST + PLACES as usize).collect()
});
const PLACES: u64 = 4093;
/// The largest message.
pub const LARGEST: usize = 1 << 20;

/// One way of one connection.
pub struct Flow {
    name: u32,
    channels: [Record; 4],
}

/// The messages of one channel.
#[derive(Default)]
struct Record {
    next: u64,
    /// By number: the size of each that was accepted and has not arrived. On an unreliable channel it may never.
    waiting: BTreeMap<u64, usize>,
    /// Without content, these have no number outside of an ordered channel.
    empty: u64,
    newest: Option<u64>,
}

impl Flow {
    pub fn new(name: u32) -> Self {
        Flow { name, channels: Default::default() }
    }

    /// The next message of a channel: [`accepted`](Self::accepted) says that it was sent.
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

    /// Takes what has arrived off the list.
    pub fn arrived(&mut self, channel: UhstChannel, payload: &[u8]) -> Result<(), String> {
        let record = &mut self.channels[channel as usize];
        if payload.is_empty() && channel != UhstChannel::Reliable {
            record.empty = record.empty.checked_sub(1).ok_or(format!("{channel:?}: an empty message too many"))?;
            return Ok(());
        }
        let number = match channel {
            // In order, the next must be the first that has not arrived.
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

    /// How many reliable messages have not arrived.
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

/// Where messages are known by their numbers alone, they have one, or no content at all.
fn fitting(channel: UhstChannel, size: usize) -> usize {
    if channel == UhstChannel::Reliable || size == 0 { size } else { size.max(HEADER) }
}
