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
    /// Taken down by us because nothing came, not by the caller.
    silenced: bool,
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

/// What the passing of time has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This path is down now.
    Silent(Path),
    /// The peer is gone.
    Dead,
}

#[derive(Debug)]
pub(super) struct Liveness {
    paths: [PathState; 2],
    timeout: Duration,
    resume_timeout: Duration,
    /// Since when no path can be used.
    down_since: Option<Time>,
    /// When the peer was heard last, on whatever path, which may be down by now.
    peer_heard: Time,
    token: u64,
}

/// The token of a ping whose answer is wanted for the acknowledgement that comes with it.
pub(super) const PROBE: u64 = 0;

const PATHS: [Path; 2] = [Path::Relay, Path::Direct];

impl Liveness {
    pub(super) fn new(timeout: Duration, resume_timeout: Duration, now: Time) -> Self {
        Self { paths: Default::default(), timeout, resume_timeout, down_since: Some(now), peer_heard: now, token: 0 }
    }

    /// Both sides have agreed on them.
    pub(super) fn set_timeouts(&mut self, timeout: Duration, resume_timeout: Duration) {
        (self.timeout, self.resume_timeout) = (timeout, resume_timeout);
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
        state.up && state.proven
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
        *state = PathState { up: true, proven, heard: now, ping_wanted: true, ping_due: now, ..*state };
        state.silenced = false;
        (state.outstanding, state.pong) = (None, None);
        self.changed(before, now);
    }

    pub(super) fn path_down(&mut self, path: Path, now: Time) {
        let before = self.active();
        let state = &mut self.paths[path as usize];
        (state.up, state.proven, state.silenced) = (false, false, false);
        self.changed(before, now);
    }

    /// It is down until something comes over it. `false`: it was not up.
    pub(super) fn silence(&mut self, path: Path, now: Time) -> bool {
        let before = self.active();
        let state = &mut self.paths[path as usize];
        if !state.up {
            return false;
        }
        (state.up, state.proven, state.silenced) = (false, false, true);
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
        match active {
            None => self.down_since = self.down_since.or(Some(now)),
            Some(path) => {
                self.down_since = None;
                if before != active {
                    // A path that was on standby is judged by the faster clock from now on.
                    let state = &mut self.paths[path as usize];
                    state.heard = state.heard.max(now);
                    state.ping_wanted = true;
                }
            }
        }
    }

    /// A packet came over this path.
    pub(super) fn heard(&mut self, path: Path, now: Time) {
        self.peer_heard = self.peer_heard.max(now);
        let state = &mut self.paths[path as usize];
        state.heard = state.heard.max(now);
        if state.silenced {
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

    /// The token of a ping that is written now.
    pub(super) fn ping_sent(&mut self, path: Path, now: Time) -> u64 {
        self.token += 1;
        let due = now + 2 * self.period(path);
        let state = &mut self.paths[path as usize];
        (state.ping_wanted, state.probed, state.ping_due, state.pinged) = (false, false, due, now);
        state.outstanding = Some(self.token);
        self.token
    }

    /// Whether to ask on the reliable lane, beside the ping on the other, what has arrived there.
    pub(super) fn probe_is_wanted(&self) -> bool {
        let direct = &self.paths[Path::Direct as usize];
        direct.ping_wanted && !direct.probed
    }

    pub(super) fn probe_sent(&mut self) {
        self.paths[Path::Direct as usize].probed = true;
    }

    pub(super) fn next_token(&self) -> u64 {
        self.token + 1
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

    /// When to look again. `in_flight`: whether frames wait for an acknowledgement, for each path.
    pub(super) fn next_timeout(&self, in_flight: [bool; 2]) -> Option<Time> {
        let mut next = match (self.down_since, self.active()) {
            (Some(since), _) => Some(since + self.resume_timeout),
            (None, Some(active)) if self.usable(Path::Relay) => {
                let deadline = self.last_heard() + self.timeout;
                let heard = self.paths[active as usize].heard;
                let standby = PATHS.iter().any(|path| *path != active && self.usable(*path));
                let doubt = heard + self.timeout / 2;
                Some(if standby && self.in_doubt().is_none() { deadline.min(doubt) } else { deadline })
            }
            // Without the relay, silence is the end of the direct path alone.
            _ => None,
        };
        for path in PATHS {
            let state = &self.paths[path as usize];
            if state.up {
                let mut due = state.heard + self.silence_limit(path);
                if !state.ping_wanted && (state.proven || path == Path::Direct) {
                    due = due.min(self.ping_due(path, in_flight[path as usize]));
                }
                if path == Path::Direct || self.usable(path) {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
        }
        next
    }

    fn last_heard(&self) -> Time {
        PATHS
            .iter()
            .filter(|path| self.usable(**path))
            .map(|path| self.paths[*path as usize].heard)
            .fold(self.peer_heard, Time::max)
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

    /// Lets time pass; call it until it gives nothing.
    pub(super) fn advance(&mut self, in_flight: [bool; 2], now: Time) -> Option<Verdict> {
        if let Some(since) = self.down_since {
            if now >= since + self.resume_timeout {
                return Some(Verdict::Dead);
            }
        } else if self.usable(Path::Relay) && now >= self.last_heard() + self.timeout {
            // The relay is there, and the peer answers on no path. Without it, nobody can tell a dead peer from dead
            // paths, and the connection waits.
            return Some(Verdict::Dead);
        }
        if let Some(active) = self.active()
            && now >= self.paths[active as usize].heard + self.timeout / 2
            && self.in_doubt().is_none()
        {
            // Before the silence here becomes the end, the other path may tell that only this one is dead.
            for path in PATHS.into_iter().filter(|path| *path != active) {
                self.paths[path as usize].ping_wanted = true;
            }
        }
        for path in PATHS {
            let state = &self.paths[path as usize];
            if !state.up || !(path == Path::Direct || self.usable(path)) {
                continue;
            }
            if now >= state.heard + self.silence_limit(path) {
                self.silence(path, now);
                return Some(Verdict::Silent(path));
            }
            if now >= self.ping_due(path, in_flight[path as usize]) {
                self.paths[path as usize].ping_wanted = true;
            }
        }
        None
    }
}
