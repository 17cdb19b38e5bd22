//! Applies [`NetworkConditions`] to the packets of one direction, with a delay line for each lane. It has no clock.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::conditions::NetworkConditions;
use crate::connection::{Lane, Path, Timestamp};

/// The bytes that one lane holds back. Above it, reliable packets pass early, and unreliable ones are dropped.
const MAX_HELD: usize = 32 << 20;
/// The shortest time until a lost packet of a reliable lane is resent; otherwise it takes a round trip.
const RETRANSMISSION: Duration = Duration::from_millis(50);

/// The packets of one direction, on all lanes.
#[derive(Debug)]
pub(super) struct Conditioner {
    conditions: NetworkConditions,
    random: fastrand::Rng,
    lines: [Line; 3],
    /// For each path: until when its bandwidth is used up, and whether it is within a burst of losses.
    busy: [Timestamp; 2],
    bursting: [bool; 2],
    /// The number of packets so far, which orders those of one arrival time.
    count: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// The packets by arrival time and number.
    packets: BTreeMap<(Timestamp, u64), Bytes>,
    bytes: usize,
    /// The last arrival on an ordered lane. Later packets do not arrive before it.
    last: Timestamp,
}

impl Conditioner {
    pub fn new(conditions: NetworkConditions, random: fastrand::Rng) -> Self {
        let lines = [Line::default(), Line::default(), Line::default()];
        Conditioner { conditions, random, lines, busy: [Timestamp::ZERO; 2], bursting: [false; 2], count: 0 }
    }

    /// Changes the conditions. Packets in flight keep their arrival time.
    pub fn set(&mut self, conditions: NetworkConditions) {
        self.conditions = conditions;
    }

    /// Whether packets may bypass the delay lines.
    pub fn is_clear(&self) -> bool {
        self.conditions.is_perfect() && self.lines.iter().all(|line| line.packets.is_empty())
    }

    /// Whether no packet passes.
    pub fn is_cut(&self) -> bool {
        self.conditions.is_cut()
    }

    /// Whether the bandwidth allows another packet now.
    pub fn has_room(&self, lane: Lane, now: Timestamp) -> bool {
        !self.is_cut() && self.busy[lane.path() as usize].saturating_sub(now) < NetworkConditions::QUEUE
    }

    /// Sends a packet.
    pub fn push(&mut self, lane: Lane, packet: Bytes, now: Timestamp) {
        let reliable = lane != Lane::DirectUnreliable;
        if !reliable && (!self.has_room(lane, now) || self.lines[lane as usize].bytes > MAX_HELD) {
            return;
        }
        let mut at = self.sent(lane.path(), packet.len(), now) + self.delay();
        // Reliable packets wait until the cut is over.
        let mut lost = !self.is_cut() && self.is_lost(lane.path());
        if !reliable {
            if lost {
                return;
            }
            if self.occurs(self.conditions.reordering) {
                at += NetworkConditions::REORDER_HOLD;
            }
            if self.occurs(self.conditions.duplicates) {
                let copy = at + self.delay().saturating_sub(self.conditions.delay);
                self.put(lane, packet.clone(), copy);
            }
        } else {
            while lost {
                at += RETRANSMISSION.max(2 * self.conditions.delay);
                // The burst is over by the time of the retransmission.
                lost = self.occurs(self.conditions.loss.min(0.99));
            }
            let line = &mut self.lines[lane as usize];
            at = at.max(line.last);
            line.last = at;
        }
        self.put(lane, packet, at);
    }

    fn put(&mut self, lane: Lane, packet: Bytes, at: Timestamp) {
        self.count += 1;
        let line = &mut self.lines[lane as usize];
        line.bytes += packet.len();
        line.packets.insert((at, self.count), packet);
    }

    /// Takes the next packet that has arrived on a lane.
    pub fn pop(&mut self, lane: Lane, now: Timestamp) -> Option<Bytes> {
        let cut = self.is_cut();
        let line = &mut self.lines[lane as usize];
        let first = line.packets.first_entry()?;
        if (cut || first.key().0 > now) && line.bytes <= MAX_HELD {
            return None;
        }
        let packet = first.remove();
        line.bytes -= packet.len();
        Some(packet)
    }

    /// The next arrival after now.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_cut() {
            return None;
        }
        let later = |line: &Line| line.packets.range((now, u64::MAX)..).next().map(|(key, _)| key.0);
        self.lines.iter().filter_map(later).min()
    }

    /// Lets all packets arrive at once, those in flight and those that follow, unless the network is cut.
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

    /// Drops the packets in flight on a broken path.
    pub fn cut(&mut self, path: Path) {
        for lane in Lane::ALL.into_iter().filter(|lane| lane.path() == path) {
            self.lines[lane as usize] = Line::default();
        }
        self.busy[path as usize] = Timestamp::ZERO;
    }

    /// When the last byte of a packet leaves, at the given bandwidth.
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

    /// Whether the next packet is lost, by the Gilbert model: every packet within a burst, none outside.
    fn is_lost(&mut self, path: Path) -> bool {
        let NetworkConditions { loss, burst, .. } = self.conditions;
        if loss <= 0.0 || loss >= 1.0 {
            return false;
        }
        // Independent losses are the shortest bursts.
        let burst = burst.max(1.0 / (1.0 - loss));
        let chance = if self.bursting[path as usize] { 1.0 - 1.0 / burst } else { loss / (burst * (1.0 - loss)) };
        let lost = self.occurs(chance);
        self.bursting[path as usize] = lost;
        lost
    }

    fn occurs(&mut self, chance: f32) -> bool {
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

    /// Sends numbered packets at this interval, and returns their arrival times in the order of arrival.
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

    /// Advances the time from one arrival to the next.
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

    /// Asserts a deviation of at most a tenth, or a thousandth of the whole.
    #[track_caller]
    fn assert_near(what: &str, measured: f64, set: f64) {
        assert!((measured - set).abs() <= (set * 0.1).max(0.001), "{what}: {measured} measured, {set} set");
    }

    #[test]
    fn measured_conditions_match_the_settings() {
        for conditions in [NetworkConditions::HOME_WIFI, NetworkConditions::MOBILE, NetworkConditions::TERRIBLE] {
            let count = 200_000;
            // Too small and rare for the bandwidth to matter.
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
    fn jitter_deviates_in_both_directions() {
        let conditions = NetworkConditions { delay: 50 * MS, jitter: 20 * MS, ..Default::default() };
        let arrived = run(&mut conditioner(conditions), Lane::DirectUnreliable, 10_000, 100 * MS, 16);
        let delays: Vec<_> = arrived.iter().map(|(number, at)| *at - 100 * MS * *number).collect();
        assert!(delays.iter().all(|delay| (30 * MS..=70 * MS).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 32 * MS) && delays.iter().any(|delay| *delay > 68 * MS));
    }

    #[test]
    fn without_jitter_only_reordering_changes_the_order() {
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
    fn packets_above_the_bandwidth_are_dropped() {
        let conditions = NetworkConditions { bandwidth: Some(100_000), ..Default::default() };
        // Twice the bandwidth.
        let arrived = run(&mut conditioner(conditions), Lane::DirectUnreliable, 10_000, 5 * MS, 1000);
        let (_, last) = arrived.last().expect("some arrive");
        assert_near("bandwidth", arrived.len() as f64 * 1000.0 / last.as_secs_f64(), 100_000.0);
        assert!(arrived.iter().all(|(number, at)| *at - 5 * MS * *number <= NetworkConditions::QUEUE + 10 * MS));
    }

    #[test]
    fn losses_on_a_reliable_lane_delay_packets_and_keep_their_order() {
        for lane in [Lane::Relay, Lane::DirectReliable] {
            let arrived = run(&mut conditioner(NetworkConditions::TERRIBLE), lane, 10_000, 5 * MS, 16);
            assert!(arrived.iter().map(|(number, _)| *number).eq(0..10_000));
            assert!(arrived.iter().any(|(number, at)| *at - 5 * MS * *number >= 450 * MS), "none came late");
        }
    }

    #[test]
    fn a_reliable_sender_sees_that_there_is_no_room() {
        let mut conditioner = conditioner(NetworkConditions { bandwidth: Some(10_000), ..Default::default() });
        assert!(conditioner.has_room(Lane::Relay, Timestamp::ZERO));
        conditioner.push(Lane::Relay, Bytes::from(vec![0; 10_000]), Timestamp::ZERO);
        assert!(!conditioner.has_room(Lane::Relay, Timestamp::ZERO));
        assert!(conditioner.has_room(Lane::DirectReliable, Timestamp::ZERO), "another path");
        assert_eq!(conditioner.next(Timestamp::ZERO), Some(1000 * MS), "it wakes up later");
        assert!(conditioner.has_room(Lane::Relay, 900 * MS));
    }

    #[test]
    fn held_packets_are_bounded() {
        let mut conditioner = conditioner(NetworkConditions { delay: 3600 * 1000 * MS, ..Default::default() });
        let mut out = 0;
        for _ in 0..200 {
            for lane in [Lane::DirectUnreliable, Lane::Relay] {
                conditioner.push(lane, Bytes::from(vec![0; 1 << 20]), Timestamp::ZERO);
            }
            out += usize::from(conditioner.pop(Lane::Relay, Timestamp::ZERO).is_some());
        }
        assert!(out >= 160 && conditioner.lines.iter().all(|line| line.bytes <= MAX_HELD + (1 << 20)));
    }

    #[test]
    fn reliable_packets_arrive_after_a_cut() {
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
            // A release does not end the cut.
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
    fn a_broken_path_drops_its_packets() {
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
