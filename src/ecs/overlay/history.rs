//! Records the last seconds of the peers that the panel lists.

use std::{collections::VecDeque, time::Duration};

use bevy::{
    platform::collections::{HashMap, HashSet},
    prelude::*,
};

use crate::{connection::Path, ecs::UhstPeer};

/// The number of samples that a graph shows.
pub(super) const SAMPLES: usize = 60;

/// The smallest height of a graph, in milliseconds, so that small changes on a good network look small.
const LOWEST_TOP: f32 = 10.0;

/// One sample of a peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// The round-trip time; `None` until it is measured.
    pub rtt: Option<Duration>,
    pub path: Path,
    /// Whether anything was lost since the previous sample.
    pub lost: bool,
}

/// The newest samples of one peer. The oldest one comes first.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// The number of losses at the last sample.
    losses: Option<u64>,
}

impl History {
    fn look(&mut self, peer: &UhstPeer) {
        let losses = peer.traffic().lost;
        let before = self.losses.replace(losses).unwrap_or(losses);
        self.push(Sample { rtt: peer.rtt(), path: peer.path(), lost: losses > before });
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The sample at a place of the graph. The right end of the graph is the present.
    pub fn at(&self, place: usize) -> Option<&Sample> {
        self.samples.get((place + self.samples.len()).checked_sub(SAMPLES)?)
    }

    /// The upper end of the graph in milliseconds: a round number that no sample exceeds.
    pub fn top(&self) -> f32 {
        let highest = self.samples.iter().filter_map(|sample| sample.rtt).max().unwrap_or_default();
        let milliseconds = highest.as_secs_f32() * 1000.0;
        let mut top = LOWEST_TOP;
        for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
            if milliseconds <= top || !top.is_finite() {
                break;
            }
            top *= factor;
        }
        top
    }
}

/// The histories of the peers in the panel's list. A component of the panel.
#[derive(Component, Default)]
pub(super) struct Histories(HashMap<Entity, History>);

impl Histories {
    pub fn of(&self, peer: Entity) -> Option<&History> {
        self.0.get(&peer)
    }

    /// Keeps the histories of these peers, adds missing ones, and drops all others.
    pub fn follow(&mut self, peers: HashSet<Entity>) {
        self.0.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            self.0.entry(peer).or_default();
        }
    }
}

pub(super) fn sample(mut histories: Single<&mut Histories>, peers: Query<&UhstPeer>) {
    for (peer, history) in &mut histories.0 {
        if let Ok(peer) = peers.get(*peer) {
            history.look(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(milliseconds: &[u64]) -> History {
        let mut history = History::default();
        for ms in milliseconds {
            history.push(Sample { rtt: Some(Duration::from_millis(*ms)), path: Path::Relay, lost: false });
        }
        history
    }

    #[test]
    fn the_newest_sample_is_at_the_right_end() {
        let history = with(&[1, 2]);
        let at = |history: &History, place| history.at(place).and_then(|sample| sample.rtt).map(|rtt| rtt.as_millis());
        assert_eq!([57, 58, 59].map(|place| at(&history, place)), [None, Some(1), Some(2)]);
        let history = with(&(1..=100).collect::<Vec<_>>());
        assert_eq!([0, 59].map(|place| at(&history, place)), [Some(41), Some(100)]);
    }

    #[test]
    fn the_top_is_a_round_number_above_every_sample() {
        let tops = [0, 10, 11, 21, 51, 101, 499, 501, 1900].map(|ms| with(&[ms, 1]).top());
        assert_eq!(tops, [10.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]);
        assert_eq!(History::default().top(), 10.0);
    }
}
