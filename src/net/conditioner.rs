//! What [`NetworkConditions`] do to the packets of one direction: a delay line for each lane. No clock of its own.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::conditions::NetworkConditions;
use crate::connection::{Lane, Path, Timestamp};

/// Bytes that one lane holds back at most. A peer that sends more has to be let through, or lose what is unreliable.
const HELD: usize = 32 << 20;
/// A lost packet of a reliable lane is missed after a round trip, and at least after this time.
const RETRANSMISSION: Duration = Duration::from_millis(50);

/// The packets of one direction, on all lanes.
#[derive(Debug)]
pub(super) struct Conditioner {
    conditions: NetworkConditions,
    random: fastrand::Rng,
    lines: [Line; 3],
    /// By path: until when what was taken so far keeps it busy, and whether it is in the middle of a burst of losses.
    busy: [Timestamp; 2],
    bursting: [bool; 2],
    taken: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// By the time of their arrival.
    packets: BTreeMap<(Timestamp, u64), Bytes>,
    bytes: usize,
    /// Nothing on an ordered lane arrives before this.
    last: Timestamp,
}

impl Conditioner {
    pub fn new(conditions: NetworkConditions, random: fastrand::Rng) -> Self {
        let lines = [Line::default(), Line::default(), Line::default()];
        Conditioner { conditions, random, lines, busy: [Timestamp::ZERO; 2], bursting: [false; 2], taken: 0 }
    }

    /// What is on its way already keeps its time.
    pub fn set(&mut self, conditions: NetworkConditions) {
        self.conditions = conditions;
    }

    /// Whether packets need not be taken here at all.
    pub fn is_clear(&self) -> bool {
        self.conditions.is_perfect() && self.lines.iter().all(|line| line.packets.is_empty())
    }

    /// Whether nothing passes.
    pub fn is_cut(&self) -> bool {
        self.conditions.is_cut()
    }

    /// Whether another packet would not wait too long for bandwidth.
    pub fn has_room(&self, lane: Lane, now: Timestamp) -> bool {
        !self.is_cut() && self.busy[lane.path() as usize].saturating_sub(now) < NetworkConditions::QUEUE
    }

    /// Takes a packet on its way.
    pub fn push(&mut self, lane: Lane, packet: Bytes, now: Timestamp) {
        let reliable = lane != Lane::DirectUnreliable;
        if !reliable && (!self.has_room(lane, now) || self.lines[lane as usize].bytes > HELD) {
            return;
        }
        let mut at = self.sent(lane.path(), packet.len(), now) + self.delay();
        // Over a cut, what is reliable waits.
        let mut lost = !self.is_cut() && self.is_lost(lane.path());
        if !reliable {
            if lost {
                return;
            }
            if self.happens(self.conditions.reordering) {
                at += NetworkConditions::REORDER_HOLD;
            }
            if self.happens(self.conditions.duplicates) {
                let copy = at + self.delay().saturating_sub(self.conditions.delay);
                self.put(lane, packet.clone(), copy);
            }
        } else {
            while lost {
                at += RETRANSMISSION.max(2 * self.conditions.delay);
                // Sent again much later: a burst does not last so long.
                lost = self.happens(self.conditions.loss.min(0.99));
            }
            let line = &mut self.lines[lane as usize];
            at = at.max(line.last);
            line.last = at;
        }
        self.put(lane, packet, at);
    }

    fn put(&mut self, lane: Lane, packet: Bytes, at: Timestamp) {
        self.taken += 1;
        let line = &mut self.lines[lane as usize];
        line.bytes += packet.len();
        line.packets.insert((at, self.taken), packet);
    }

    /// The next packet of a lane that has arrived.
    pub fn pop(&mut self, lane: Lane, now: Timestamp) -> Option<Bytes> {
        let cut = self.is_cut();
        let line = &mut self.lines[lane as usize];
        let first = line.packets.first_entry()?;
        if (cut || first.key().0 > now) && line.bytes <= HELD {
            return None;
        }
        let packet = first.remove();
        line.bytes -= packet.len();
        Some(packet)
    }

    /// When a packet arrives that has not arrived by now.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_cut() {
            return None;
        }
        let later = |line: &Line| line.packets.range((now, u64::MAX)..).next().map(|(key, _)| key.0);
        self.lines.iter().filter_map(later).min()
    }

    /// Lets everything arrive at once, what is on its way and what follows, unless nothing passes.
    pub fn release(&mut self) {
        if self.is_cut() {
            return;
        }
        self.conditions = NetworkConditions::PERFECT;
        for line in &mut self.lines {
            let packets = std::mem::take(&mut line.packets);
            line.packets =
                packets.into_iter().map(|((_, number), packet)| ((Timestamp::ZERO, number), packet)).collect();
            line.last = Timestamp::ZERO;
        }
        self.busy = [Timestamp::ZERO; 2];
    }

    /// Forgets what is on its way on a path that broke.
    pub fn cut(&mut self, path: Path) {
        for lane in Lane::ALL.into_iter().filter(|lane| lane.path() == path) {
            self.lines[lane as usize] = Line::default();
        }
        self.busy[path as usize] = Timestamp::ZERO;
    }

    /// When the last byte of a packet has passed the bottleneck.
    fn sent(&mut self, path: Path, bytes: usize, now: Timestamp) -> Timestamp {
        let Some(bandwidth) = self.conditions.bandwidth else { return now };
        let takes = Duration::from_secs_f64(bytes as f64 / f64::from(bandwidth.max(1)));
        let busy = &mut self.busy[path as usize];
        *busy = now.max(*busy) + takes;
        *busy
    }

    fn delay(&mut self) -> Duration {
        let NetworkConditions { delay, jitter, .. } = self.conditions;
        if jitter.is_zero() { delay } else { (delay + jitter.mul_f64(2.0 * self.random.f64())).saturating_sub(jitter) }
    }

    /// The two states of Gilbert's model: in a burst every packet is lost, outside none.
    fn is_lost(&mut self, path: Path) -> bool {
        let NetworkConditions { loss, burst, .. } = self.conditions;
        if loss <= 0.0 || loss >= 1.0 {
            return false;
        }
        // No shorter than by chance alone.
        let burst = burst.max(1.0 / (1.0 - loss));
        let chance = if self.bursting[path as usize] { 1.0 - 1.0 / burst } else { loss / (burst * (1.0 - loss)) };
        let lost = self.happens(chance);
        self.bursting[path as usize] = lost;
        lost
    }

    fn happens(&mut self, chance: f32) -> bool {
        chance > 0.0 && self.random.f32() < chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn conditioner(conditions: NetworkConditions) -> Conditioner {
        Conditioner::new(conditions, fastrand::Rng::with_seed(7))
    }

    fn numbered(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_le_bytes())
    }

    /// Sends numbered packets in this rhythm: when each arrived, in the order of arrival.
    fn run(conditioner: &mut Conditioner, lane: Lane, count: u32, gap: Duration, size: usize) -> Vec<(u32, Timestamp)> {
        let mut arrived = Vec::new();
        for number in 0..count {
            let now = gap * number;
            take(conditioner, lane, now, &mut arrived);
            let mut packet = numbered(number).to_vec();
            packet.resize(size, 0);
            conditioner.push(lane, packet.into(), now);
        }
        take(conditioner, lane, Timestamp::MAX, &mut arrived);
        arrived
    }

    /// Lets the time pass from one arrival to the next.
    fn take(conditioner: &mut Conditioner, lane: Lane, until: Timestamp, arrived: &mut Vec<(u32, Timestamp)>) {
        let mut now = arrived.last().map_or(Timestamp::ZERO, |(_, at)| *at);
        loop {
            while let Some(packet) = conditioner.pop(lane, now) {
                let number: [u8; 4] = packet[..4].try_into().expect("a number");
                arrived.push((u32::from_le_bytes(number), now));
            }
            match conditioner.next(now) {
                Some(at) if at <= until => now = at,
                _ => return,
            }
        }
    }

    /// Within a tenth, or within this many thousandths.
    #[track_caller]
    fn assert_near(what: &str, measured: f64, set: f64) {
        assert!((measured - set).abs() <= (set * 0.1).max(0.001), "{what}: {measured} measured, {set} set");
    }

    #[test]
    fn the_numbers_set_are_the_numbers_measured() {
        for conditions in [NetworkConditions::HOME_WIFI, NetworkConditions::MOBILE, NetworkConditions::TERRIBLE] {
            let count = 200_000;
            // Small and rare enough for the bandwidth not to matter.
            let gap = 5 * MS;
            let arrived = run(&mut conditioner(conditions), Lane::DirectUnreliable, count, gap, 16);
            let mut times = vec![0; count as usize];
            let (mut delays, mut newest, mut overtaken) = (0.0, 0, 0);
            for (number, at) in &arrived {
                times[*number as usize] += 1;
                delays += (*at - gap * *number).as_secs_f64();
                newest = newest.max(*number);
                overtaken += u32::from(newest > *number);
            }
            let share = |many: usize| many as f64 / f64::from(count);
            let lost = times.iter().filter(|times| **times == 0).count();
            let bursts = times.windows(2).filter(|pair| pair[0] != 0 && pair[1] == 0).count();
            let twice = times.iter().filter(|times| **times == 2).count();
            let held = f64::from(conditions.reordering) * NetworkConditions::REORDER_HOLD.as_secs_f64();
            assert_near("delay", delays / arrived.len() as f64, conditions.delay.as_secs_f64() + held);
            assert_near("loss", share(lost), conditions.loss.into());
            assert_near("burst", lost as f64 / bursts as f64, conditions.burst.into());
            assert_near("duplicates", share(twice), f64::from(conditions.duplicates * (1.0 - conditions.loss)));
            assert!(share(overtaken as usize) >= f64::from(conditions.reordering) * 0.8, "{overtaken} overtaken");
        }
    }

    #[test]
    fn jitter_spreads_to_either_side() {
        let conditions = NetworkConditions { delay: 50 * MS, jitter: 20 * MS, ..Default::default() };
        let arrived = run(&mut conditioner(conditions), Lane::DirectUnreliable, 10_000, 100 * MS, 16);
        let delays: Vec<_> = arrived.iter().map(|(number, at)| *at - 100 * MS * *number).collect();
        assert!(delays.iter().all(|delay| (30 * MS..=70 * MS).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 32 * MS) && delays.iter().any(|delay| *delay > 68 * MS));
    }

    #[test]
    fn only_reordering_changes_the_order_of_packets_without_jitter() {
        let conditions = NetworkConditions { delay: 30 * MS, reordering: 0.1, ..Default::default() };
        let arrived = run(&mut conditioner(conditions), Lane::DirectUnreliable, 100_000, 5 * MS, 16);
        let mut newest = 0;
        let overtaken = arrived.iter().filter(|(number, _)| {
            newest = newest.max(*number);
            newest > *number
        });
        assert_near("reordering", overtaken.count() as f64 / 100_000.0, 0.1);
    }

    #[test]
    fn bandwidth_is_what_gets_through_and_the_rest_is_dropped() {
        let conditions = NetworkConditions { bandwidth: Some(100_000), ..Default::default() };
        // Twice as much as gets through.
        let arrived = run(&mut conditioner(conditions), Lane::DirectUnreliable, 10_000, 5 * MS, 1000);
        let (_, last) = arrived.last().expect("some arrive");
        assert_near("bandwidth", arrived.len() as f64 * 1000.0 / last.as_secs_f64(), 100_000.0);
        assert!(arrived.iter().all(|(number, at)| *at - 5 * MS * *number <= NetworkConditions::QUEUE + 10 * MS));
    }

    #[test]
    fn a_reliable_lane_loses_time_instead_of_packets_and_keeps_its_order() {
        for lane in [Lane::Relay, Lane::DirectReliable] {
            let arrived = run(&mut conditioner(NetworkConditions::TERRIBLE), lane, 10_000, 5 * MS, 16);
            assert!(arrived.iter().map(|(number, _)| *number).eq(0..10_000));
            assert!(arrived.iter().any(|(number, at)| *at - 5 * MS * *number >= 450 * MS), "none came late");
        }
    }

    #[test]
    fn a_reliable_sender_learns_that_there_is_no_room() {
        let mut conditioner = conditioner(NetworkConditions { bandwidth: Some(10_000), ..Default::default() });
        assert!(conditioner.has_room(Lane::Relay, Timestamp::ZERO));
        conditioner.push(Lane::Relay, Bytes::from(vec![0; 10_000]), Timestamp::ZERO);
        assert!(!conditioner.has_room(Lane::Relay, Timestamp::ZERO));
        assert!(conditioner.has_room(Lane::DirectReliable, Timestamp::ZERO), "another path");
        assert_eq!(conditioner.next(Timestamp::ZERO), Some(1000 * MS), "it wakes up later");
        assert!(conditioner.has_room(Lane::Relay, 900 * MS));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut conditioner = conditioner(NetworkConditions { delay: 3600 * 1000 * MS, ..Default::default() });
        let mut out = 0;
        for _ in 0..200 {
            for lane in [Lane::DirectUnreliable, Lane::Relay] {
                conditioner.push(lane, Bytes::from(vec![0; 1 << 20]), Timestamp::ZERO);
            }
            out += usize::from(conditioner.pop(Lane::Relay, Timestamp::ZERO).is_some());
        }
        assert!(out >= 160 && conditioner.lines.iter().all(|line| line.bytes <= HELD + (1 << 20)));
    }

    #[test]
    fn nothing_passes_a_cut_and_what_is_reliable_comes_after_it() {
        let pulled = NetworkConditions { cut: true, ..Default::default() };
        for conditions in [pulled, NetworkConditions { loss: 1.0, ..Default::default() }] {
            let mut conditioner = conditioner(NetworkConditions { delay: 50 * MS, ..Default::default() });
            for lane in Lane::ALL {
                conditioner.push(lane, numbered(1), Timestamp::ZERO);
            }
            conditioner.set(conditions);
            for lane in Lane::ALL {
                assert!(!conditioner.has_room(lane, 10 * MS));
                conditioner.push(lane, numbered(2), 10 * MS);
                assert!(conditioner.pop(lane, 10_000 * MS).is_none());
            }
            assert_eq!((conditioner.next(Timestamp::ZERO), conditioner.is_clear()), (None, false));
            // Last words do not pass either.
            conditioner.release();
            assert!(conditioner.pop(Lane::Relay, 10_000 * MS).is_none());

            conditioner.set(NetworkConditions::PERFECT);
            for lane in [Lane::Relay, Lane::DirectReliable] {
                let arrived: Vec<_> = std::iter::from_fn(|| conditioner.pop(lane, 10_000 * MS)).collect();
                assert_eq!(arrived, [numbered(1), numbered(2)]);
            }
        }
    }

    #[test]
    fn a_path_that_breaks_takes_what_is_on_its_way() {
        let mut conditioner = conditioner(NetworkConditions { delay: 50 * MS, ..Default::default() });
        for lane in Lane::ALL {
            conditioner.push(lane, numbered(1), Timestamp::ZERO);
        }
        conditioner.cut(Path::Direct);
        assert!(conditioner.pop(Lane::DirectReliable, 50 * MS).is_none());
        assert!(conditioner.pop(Lane::Relay, 50 * MS).is_some());
        conditioner.push(Lane::Relay, numbered(2), 50 * MS);
        conditioner.release();
        assert_eq!(conditioner.pop(Lane::Relay, 50 * MS), Some(numbered(2)));
        assert!(conditioner.is_clear());
    }
}
