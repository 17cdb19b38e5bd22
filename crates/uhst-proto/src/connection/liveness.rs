//! Which paths are alive, and how far the peer is: heartbeats and silence.
//!
//! A ping asks for a pong on the same path, and either tells that its sender is alive. So one side's ping serves both:
//! who receives one puts off his own, and on an idle connection the two take turns.

use core::time::Duration;

use super::{Path, Time};

/// The heartbeats of a path that is not in use: enough to know that it is there.
const STANDBY: u32 = 16;

/// The smoothed round-trip time. Samples come with heartbeats, seconds apart, so each counts for much: RFC 6298's eighth
/// would take most of a minute to show a change.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip(Option<Duration>);

impl RoundTrip {
    fn sample(&mut self, sample: Duration) {
        self.0 = Some(self.0.map_or(sample, |smoothed| (smoothed + sample) / 2));
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct PathState {
    up: bool,
    /// Nothing came for too long: it carries heartbeats only, until something comes.
    suspect: bool,
    /// Relay: the peer's resumption is proven. Direct: something came.
    proven: bool,
    heard: Time,
    ping_due: Time,
    ping_wanted: bool,
    /// Direct: the reliable lane was asked, too, since a ping was wanted.
    probed: bool,
    pinged: Time,
    outstanding: Option<u64>,
    pong: Option<u64>,
    rtt: RoundTrip,
    /// When reliable frames were last sent here.
    flew: Time,
}

#[derive(Debug)]
pub(super) struct Liveness {
    paths: [PathState; 2],
    timeout: Duration,
    /// When something came from the peer last, on whatever path.
    peer_heard: Time,
    /// Of the last ping.
    number: u64,
}

/// The token of a ping whose answer is wanted for the acknowledgement that comes with it.
pub(super) const PROBE: u64 = 0;

const PATHS: [Path; 2] = [Path::Relay, Path::Direct];

impl Liveness {
    pub(super) fn new(timeout: Duration, now: Time) -> Self {
        Self { paths: Default::default(), timeout, peer_heard: now, number: 0 }
    }

    /// Both sides have agreed on it.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The time between heartbeats on the path in use, at most.
    pub(super) fn interval(&self) -> Duration {
        self.timeout / 4
    }

    pub(super) fn is_up(&self, path: Path) -> bool {
        self.paths[path as usize].up
    }

    /// Whether it leads to the peer, as far as we know.
    pub(super) fn usable(&self, path: Path) -> bool {
        let state = &self.paths[path as usize];
        state.up && state.proven && !state.suspect
    }

    /// Whether a path is up that nothing comes over.
    pub(super) fn has_suspect(&self) -> bool {
        self.paths.iter().any(|state| state.up && state.suspect)
    }

    /// When the peer is silent, unless something comes before.
    pub(super) fn silent_at(&self) -> Time {
        self.peer_heard + self.timeout
    }

    /// The path for messages.
    pub(super) fn active(&self) -> Option<Path> {
        [Path::Direct, Path::Relay].into_iter().find(|path| self.usable(*path))
    }

    pub(super) fn rtt(&self, path: Path) -> Option<Duration> {
        self.paths[path as usize].rtt.0
    }

    pub(super) fn path_up(&mut self, path: Path, proven: bool, now: Time) {
        let before = self.active();
        let state = &mut self.paths[path as usize];
        *state = PathState { up: true, suspect: false, proven, heard: now, ping_wanted: true, ping_due: now, ..*state };
        (state.outstanding, state.pong) = (None, None);
        self.changed(before, now);
    }

    pub(super) fn path_down(&mut self, path: Path, now: Time) {
        let before = self.active();
        let state = &mut self.paths[path as usize];
        (state.up, state.proven, state.suspect) = (false, false, false);
        self.changed(before, now);
    }

    /// It carries heartbeats only, until something comes over it. `false`: it is not up, or suspect already.
    pub(super) fn suspect(&mut self, path: Path, now: Time) -> bool {
        let before = self.active();
        let state = &mut self.paths[path as usize];
        if !state.up || std::mem::replace(&mut state.suspect, true) {
            return false;
        }
        self.changed(before, now);
        true
    }

    /// The relay path leads to the peer itself.
    pub(super) fn prove(&mut self, path: Path, now: Time) {
        let before = self.active();
        self.paths[path as usize].proven = true;
        self.changed(before, now);
    }

    fn changed(&mut self, before: Option<Path>, now: Time) {
        let active = self.active();
        if let Some(path) = active.filter(|_| before != active) {
            // A path that was on standby is judged by the faster clock from now on.
            let state = &mut self.paths[path as usize];
            state.heard = state.heard.max(now);
            state.ping_wanted = true;
        }
    }

    /// A packet came over this path.
    pub(super) fn heard(&mut self, path: Path, now: Time) {
        self.peer_heard = self.peer_heard.max(now);
        let state = &mut self.paths[path as usize];
        state.heard = state.heard.max(now);
        if state.suspect {
            self.path_up(path, true, now);
        } else if state.up && !state.proven {
            self.prove(path, now);
        }
    }

    /// The peer is there, though nothing came over this path itself.
    pub(super) fn alive(&mut self, path: Path, now: Time) {
        self.peer_heard = self.peer_heard.max(now);
        let state = &mut self.paths[path as usize];
        state.heard = state.heard.max(now);
    }

    pub(super) fn ping_received(&mut self, path: Path, token: u64, now: Time) {
        let due = now + self.period(path);
        let state = &mut self.paths[path as usize];
        // An answer to a probe says nothing that another answer does not say.
        if token != PROBE || state.pong.is_none() {
            state.pong = Some(token);
        }
        state.ping_due = state.ping_due.max(due);
    }

    pub(super) fn pong_received(&mut self, path: Path, token: u64, now: Time) {
        let state = &mut self.paths[path as usize];
        if state.outstanding == Some(token) {
            state.outstanding = None;
            state.rtt.sample(now.saturating_sub(state.pinged));
        }
    }

    /// The pong that is owed on this path.
    pub(super) fn pong(&self, path: Path) -> Option<u64> {
        self.paths[path as usize].pong
    }

    pub(super) fn pong_sent(&mut self, path: Path) {
        self.paths[path as usize].pong = None;
    }

    pub(super) fn ping_is_wanted(&self, path: Path) -> bool {
        self.paths[path as usize].ping_wanted
    }

    /// A ping with this token is written now.
    pub(super) fn ping_sent(&mut self, path: Path, token: u64, now: Time) {
        self.number += 1;
        let due = now + 2 * self.period(path);
        let state = &mut self.paths[path as usize];
        (state.ping_wanted, state.probed, state.ping_due, state.pinged) = (false, false, due, now);
        state.outstanding = Some(token);
    }

    /// The peer should learn what a ping tells, on the path in use.
    pub(super) fn want_ping(&mut self) {
        if let Some(path) = self.active() {
            self.paths[path as usize].ping_wanted = true;
        }
    }

    /// Whether to ask on the reliable lane, beside the ping on the other, what has arrived there.
    pub(super) fn probe_is_wanted(&self) -> bool {
        let direct = &self.paths[Path::Direct as usize];
        direct.ping_wanted && !direct.probed
    }

    pub(super) fn probe_sent(&mut self) {
        self.paths[Path::Direct as usize].probed = true;
    }

    /// The number of the next ping.
    pub(super) fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Reliable frames were sent on this path.
    pub(super) fn flew(&mut self, path: Path, now: Time) {
        self.paths[path as usize].flew = now;
    }

    fn period(&self, path: Path) -> Duration {
        if self.active() == Some(path) || !self.usable(path) { self.interval() } else { self.interval() * STANDBY }
    }

    fn silence_limit(&self, path: Path) -> Duration {
        if self.active() == Some(path) || !self.usable(path) { self.timeout } else { self.interval() * STANDBY * 3 }
    }

    /// When the next ping on this path is due. With frames in flight it also asks whether the last of them arrived.
    fn ping_due(&self, path: Path, in_flight: bool) -> Time {
        let state = &self.paths[path as usize];
        let interval = self.interval();
        // One that was not answered is repeated sooner: three may be lost before the silence becomes an end.
        let due = if state.outstanding.is_some() { state.pinged + self.period(path) } else { state.ping_due };
        if !in_flight {
            return due;
        }
        let probe = if state.pinged < state.flew {
            let patience = state.rtt.0.map_or(interval, |rtt| 4 * rtt + 2 * super::ACK_DELAY);
            state.flew + patience.clamp((4 * super::ACK_DELAY).min(interval), interval)
        } else {
            state.pinged + interval
        };
        probe.min(due)
    }

    /// Time has passed while this side was asleep: silence is not counted for so long.
    /// What came since counts from when it came, not from later.
    pub(super) fn slept(&mut self, time: Duration, now: Time) {
        self.peer_heard = now.min(self.peer_heard + time);
        for state in &mut self.paths {
            state.heard = now.min(state.heard + time);
            // An answer would measure the sleep.
            state.outstanding = None;
        }
    }

    /// When to look again. `in_flight`: whether frames wait for an acknowledgement, for each path.
    pub(super) fn next_timeout(&self, in_flight: [bool; 2]) -> Option<Time> {
        let mut next =
            self.active().filter(|active| self.has_standby(*active) && self.in_doubt().is_none()).map(|active| {
                let heard = self.paths[active as usize].heard;
                heard + self.timeout / 2
            });
        for path in PATHS {
            let state = &self.paths[path as usize];
            if !state.up || !(path == Path::Direct || state.proven) {
                continue;
            }
            let silence = (!state.suspect).then(|| state.heard + self.silence_limit(path));
            let ping = (!state.ping_wanted).then(|| self.ping_due(path, in_flight[path as usize]));
            next = [next, silence, ping].into_iter().flatten().min();
        }
        next
    }

    fn has_standby(&self, active: Path) -> bool {
        PATHS.iter().any(|path| *path != active && self.usable(*path))
    }

    /// The other path has been asked whether the peer is alive there.
    fn in_doubt(&self) -> Option<()> {
        let active = self.active()?;
        let heard = self.paths[active as usize].heard;
        PATHS
            .iter()
            .filter(|path| **path != active && self.usable(**path))
            .all(|path| {
                let state = &self.paths[*path as usize];
                state.ping_wanted || state.pinged >= heard + self.timeout / 2
            })
            .then_some(())
    }

    /// Lets time pass; call it until it gives nothing. `Some`: nothing comes over this path.
    pub(super) fn advance(&mut self, in_flight: [bool; 2], now: Time) -> Option<Path> {
        if let Some(active) = self.active()
            && now >= self.paths[active as usize].heard + self.timeout / 2
            && self.in_doubt().is_none()
        {
            // Before the silence here becomes an interruption, the other path may tell that only this one is dead.
            for path in PATHS.into_iter().filter(|path| *path != active) {
                self.paths[path as usize].ping_wanted = true;
            }
        }
        for path in PATHS {
            let state = &self.paths[path as usize];
            if !state.up || !(path == Path::Direct || state.proven) {
                continue;
            }
            if !state.suspect && now >= state.heard + self.silence_limit(path) {
                self.suspect(path, now);
                return Some(path);
            }
            if now >= self.ping_due(path, in_flight[path as usize]) {
                self.paths[path as usize].ping_wanted = true;
            }
        }
        None
    }
}
