//! Which paths are alive, and how far the peer is: heartbeats and silence.
//!
//! A ping asks for a pong on the same path, and either tells that its sender is alive. So one side's ping serves both:
//! who receives one puts off his own, and on an idle connection the two take turns.

use core::time::Duration;

use super::{Path, Timestamp, path::PerPath};

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
    last_received: Timestamp,
    ping_due: Timestamp,
    ping_wanted: bool,
    /// Direct: the reliable lane was asked, too, since a ping was wanted.
    probed: bool,
    pinged: Timestamp,
    outstanding: Option<u64>,
    pong: Option<u64>,
    rtt: RoundTrip,
    /// When reliable frames were last sent here.
    last_sent: Timestamp,
}

#[derive(Debug)]
pub(super) struct Liveness {
    paths: PerPath<PathState>,
    timeout: Duration,
    /// When something came from the peer last, on whatever path.
    peer_last_received: Timestamp,
    /// Of the last ping.
    number: u64,
}

/// The token of a ping whose answer is wanted for the acknowledgement that comes with it.
pub(super) const PROBE: u64 = 0;

impl Liveness {
    pub(super) fn new(timeout: Duration, now: Timestamp) -> Self {
        Self { paths: Default::default(), timeout, peer_last_received: now, number: 0 }
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
        self.paths[path].up
    }

    /// Whether it leads to the peer, as far as we know.
    pub(super) fn usable(&self, path: Path) -> bool {
        let state = &self.paths[path];
        state.up && state.proven && !state.suspect
    }

    /// Whether a path is up that nothing comes over.
    pub(super) fn has_suspect(&self) -> bool {
        self.paths.0.iter().any(|state| state.up && state.suspect)
    }

    /// When the peer is silent, unless something comes before.
    pub(super) fn silent_at(&self) -> Timestamp {
        self.peer_last_received + self.timeout
    }

    /// The path for messages.
    pub(super) fn active(&self) -> Option<Path> {
        [Path::Direct, Path::Relay].into_iter().find(|path| self.usable(*path))
    }

    pub(super) fn rtt(&self, path: Path) -> Option<Duration> {
        self.paths[path].rtt.0
    }

    pub(super) fn path_up(&mut self, path: Path, proven: bool, now: Timestamp) {
        let before = self.active();
        let state = &mut self.paths[path];
        *state = PathState {
            up: true,
            suspect: false,
            proven,
            last_received: now,
            ping_wanted: true,
            ping_due: now,
            ..*state
        };
        (state.outstanding, state.pong) = (None, None);
        self.changed(before, now);
    }

    pub(super) fn path_down(&mut self, path: Path, now: Timestamp) {
        let before = self.active();
        let state = &mut self.paths[path];
        (state.up, state.proven, state.suspect) = (false, false, false);
        self.changed(before, now);
    }

    /// It carries heartbeats only, until something comes over it. `false`: it is not up, or suspect already.
    pub(super) fn suspect(&mut self, path: Path, now: Timestamp) -> bool {
        let before = self.active();
        let state = &mut self.paths[path];
        if !state.up || std::mem::replace(&mut state.suspect, true) {
            return false;
        }
        self.changed(before, now);
        true
    }

    /// The relay path leads to the peer itself.
    pub(super) fn prove(&mut self, path: Path, now: Timestamp) {
        let before = self.active();
        self.paths[path].proven = true;
        self.changed(before, now);
    }

    fn changed(&mut self, before: Option<Path>, now: Timestamp) {
        let active = self.active();
        if let Some(path) = active.filter(|_| before != active) {
            // A path that was on standby is judged by the faster clock from now on.
            let state = &mut self.paths[path];
            state.last_received = state.last_received.max(now);
            state.ping_wanted = true;
        }
    }

    /// A packet came over this path.
    pub(super) fn received(&mut self, path: Path, now: Timestamp) {
        self.peer_last_received = self.peer_last_received.max(now);
        let state = &mut self.paths[path];
        state.last_received = state.last_received.max(now);
        if state.suspect {
            self.path_up(path, true, now);
        } else if state.up && !state.proven {
            self.prove(path, now);
        }
    }

    /// The peer is there, though nothing came over this path itself.
    pub(super) fn alive(&mut self, path: Path, now: Timestamp) {
        self.peer_last_received = self.peer_last_received.max(now);
        let state = &mut self.paths[path];
        state.last_received = state.last_received.max(now);
    }

    pub(super) fn ping_received(&mut self, path: Path, token: u64, now: Timestamp) {
        let due = now + self.period(path);
        let state = &mut self.paths[path];
        // An answer to a probe says nothing that another answer does not say.
        if token != PROBE || state.pong.is_none() {
            state.pong = Some(token);
        }
        state.ping_due = state.ping_due.max(due);
    }

    pub(super) fn pong_received(&mut self, path: Path, token: u64, now: Timestamp) {
        let state = &mut self.paths[path];
        if state.outstanding == Some(token) {
            state.outstanding = None;
            state.rtt.sample(now.saturating_sub(state.pinged));
        }
    }

    /// The pong that is owed on this path.
    pub(super) fn pong(&self, path: Path) -> Option<u64> {
        self.paths[path].pong
    }

    pub(super) fn pong_sent(&mut self, path: Path) {
        self.paths[path].pong = None;
    }

    pub(super) fn ping_is_wanted(&self, path: Path) -> bool {
        self.paths[path].ping_wanted
    }

    /// A ping with this token is written now.
    pub(super) fn ping_sent(&mut self, path: Path, token: u64, now: Timestamp) {
        self.number += 1;
        let due = now + 2 * self.period(path);
        let state = &mut self.paths[path];
        (state.ping_wanted, state.probed, state.ping_due, state.pinged) = (false, false, due, now);
        state.outstanding = Some(token);
    }

    /// The peer should learn what a ping tells, on the path in use.
    pub(super) fn want_ping(&mut self) {
        if let Some(path) = self.active() {
            self.paths[path].ping_wanted = true;
        }
    }

    /// Whether to ask on the reliable lane, beside the ping on the other, what has arrived there.
    pub(super) fn probe_is_wanted(&self) -> bool {
        let direct = &self.paths[Path::Direct];
        direct.ping_wanted && !direct.probed
    }

    pub(super) fn probe_sent(&mut self) {
        self.paths[Path::Direct].probed = true;
    }

    /// The number of the next ping.
    pub(super) fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Reliable frames were sent on this path.
    pub(super) fn reliable_sent(&mut self, path: Path, now: Timestamp) {
        self.paths[path].last_sent = now;
    }

    fn period(&self, path: Path) -> Duration {
        if self.active() == Some(path) || !self.usable(path) { self.interval() } else { self.interval() * STANDBY }
    }

    fn silence_limit(&self, path: Path) -> Duration {
        if self.active() == Some(path) || !self.usable(path) { self.timeout } else { self.interval() * STANDBY * 3 }
    }

    /// When the next ping on this path is due. With frames in flight it also asks whether the last of them arrived.
    fn ping_due(&self, path: Path, in_flight: bool) -> Timestamp {
        let state = &self.paths[path];
        let interval = self.interval();
        // One that was not answered is repeated sooner: three may be lost before the silence becomes an end.
        let due = if state.outstanding.is_some() { state.pinged + self.period(path) } else { state.ping_due };
        if !in_flight {
            return due;
        }
        let probe = if state.pinged < state.last_sent {
            let patience = state.rtt.0.map_or(interval, |rtt| 4 * rtt + 2 * super::ACK_DELAY);
            state.last_sent + patience.clamp((4 * super::ACK_DELAY).min(interval), interval)
        } else {
            state.pinged + interval
        };
        probe.min(due)
    }

    /// Time has passed while this side was asleep: silence is not counted for so long.
    /// What came since counts from when it came, not from later.
    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        self.peer_last_received = now.min(self.peer_last_received + time);
        for state in &mut self.paths.0 {
            state.last_received = now.min(state.last_received + time);
            // An answer would measure the sleep.
            state.outstanding = None;
        }
    }

    /// When to look again. `in_flight`: whether frames wait for an acknowledgement, for each path.
    pub(super) fn next_timeout(&self, in_flight: PerPath<bool>) -> Option<Timestamp> {
        let mut next =
            self.active().filter(|active| self.has_standby(*active) && !self.standby_pinged()).map(|active| {
                let last_received = self.paths[active].last_received;
                last_received + self.timeout / 2
            });
        for path in Path::ALL {
            let state = &self.paths[path];
            if !state.up || !(path == Path::Direct || state.proven) {
                continue;
            }
            let silence = (!state.suspect).then(|| state.last_received + self.silence_limit(path));
            let ping = (!state.ping_wanted).then(|| self.ping_due(path, in_flight[path]));
            next = [next, silence, ping].into_iter().flatten().min();
        }
        next
    }

    fn has_standby(&self, active: Path) -> bool {
        Path::ALL.iter().any(|path| *path != active && self.usable(*path))
    }

    /// Whether a ping on the other path has asked if the peer is alive there.
    fn standby_pinged(&self) -> bool {
        let Some(active) = self.active() else { return false };
        let silent_since = self.paths[active].last_received + self.timeout / 2;
        Path::ALL.into_iter().filter(|path| *path != active && self.usable(*path)).all(|path| {
            let state = &self.paths[path];
            state.ping_wanted || state.pinged >= silent_since
        })
    }

    /// Lets time pass; call it until it gives nothing. `Some`: nothing comes over this path.
    pub(super) fn advance(&mut self, in_flight: PerPath<bool>, now: Timestamp) -> Option<Path> {
        if let Some(active) = self.active()
            && now >= self.paths[active].last_received + self.timeout / 2
            && !self.standby_pinged()
        {
            // Before the silence here becomes an interruption, the other path may tell that only this one is dead.
            for path in Path::ALL.into_iter().filter(|path| *path != active) {
                self.paths[path].ping_wanted = true;
            }
        }
        for path in Path::ALL {
            let state = &self.paths[path];
            if !state.up || !(path == Path::Direct || state.proven) {
                continue;
            }
            if !state.suspect && now >= state.last_received + self.silence_limit(path) {
                self.suspect(path, now);
                return Some(path);
            }
            if now >= self.ping_due(path, in_flight[path]) {
                self.paths[path].ping_wanted = true;
            }
        }
        None
    }
}
