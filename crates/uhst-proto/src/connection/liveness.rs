//! Liveness of paths and of the peer: heartbeats, silence, and round-trip times.
//!
//! A ping requests a pong on the same path. Both show that their sender is alive, so receiving a ping postpones ours,
//! and the sides of an idle connection take turns. The connections of one host ping at common times, so that its process
//! wakes up once for many of them.

use core::time::Duration;

use super::{Path, Timestamp, loss_report::LossReport, path::PerPath, unreliable::UnreliableReceiver};
use crate::protocol::frame::PacketWriter;

/// The period of heartbeats on a standby path, in quarters of the timeout.
const STANDBY: u32 = 16;

/// The smoothed round-trip time. Samples come seconds apart, with heartbeats, so each counts for half: the eighth of
/// RFC 6298 would need most of a minute to show a change.
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
    /// Nothing arrived for too long. The path carries only heartbeats until a packet arrives.
    suspect: bool,
    /// Relay: the resumption is proven. Direct: a packet has arrived.
    proven: bool,
    last_received: Timestamp,
    ping_due: Timestamp,
    ping_wanted: bool,
    /// Direct: a probe was sent on the reliable lane since the last ping became due.
    probed: bool,
    pinged: Timestamp,
    outstanding: Option<u64>,
    pong: Option<u64>,
    rtt: RoundTrip,
    /// When reliable frames were last sent on this path.
    last_sent: Timestamp,
}

#[derive(Debug)]
pub(super) struct Liveness {
    paths: PerPath<PathState>,
    is_client: bool,
    timeout: Duration,
    /// When a packet last arrived from the peer, on any path.
    peer_last_received: Timestamp,
    /// The number of the last ping.
    number: u64,
    /// Pings report losses.
    losses: LossReport,
}

/// The token of a ping that only requests the acknowledgement which travels with its pong.
const PROBE: u64 = 0;

impl Liveness {
    pub(super) fn new(timeout: Duration, is_client: bool, now: Timestamp) -> Self {
        Self {
            paths: Default::default(),
            is_client,
            timeout,
            peer_last_received: now,
            number: 0,
            losses: LossReport::default(),
        }
    }

    /// How long nothing may arrive from the peer before it is interrupted.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets the timeout that both sides agreed on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The unit of shorter waits: a quarter of the timeout.
    pub(super) fn interval(&self) -> Duration {
        self.timeout / 4
    }

    /// The longest time between heartbeats on the path in use. With [`repeat`](Self::repeat), it leaves time for three pings before the path counts as silent.
    fn heartbeat(&self) -> Duration {
        self.timeout * 2 / 5
    }

    pub(super) fn is_up(&self, path: Path) -> bool {
        self.paths[path].up
    }

    /// Whether the path is up, proven and not suspect.
    pub(super) fn usable(&self, path: Path) -> bool {
        let state = &self.paths[path];
        state.up && state.proven && !state.suspect
    }

    /// Whether a path is up but suspect.
    pub(super) fn has_suspect(&self) -> bool {
        self.paths.0.iter().any(|state| state.up && state.suspect)
    }

    /// When the peer counts as silent, unless a packet arrives before.
    pub(super) fn silent_at(&self) -> Timestamp {
        self.peer_last_received + self.timeout
    }

    /// The path in use for messages.
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

    /// Marks a path as suspect: it carries only heartbeats until a packet arrives. Returns `false` if the path is down
    /// or suspect already.
    pub(super) fn suspect(&mut self, path: Path, now: Timestamp) -> bool {
        let before = self.active();
        let state = &mut self.paths[path];
        if !state.up || std::mem::replace(&mut state.suspect, true) {
            return false;
        }
        self.changed(before, now);
        true
    }

    /// Marks a path as proven to lead to the peer.
    pub(super) fn prove(&mut self, path: Path, now: Timestamp) {
        let before = self.active();
        self.paths[path].proven = true;
        self.changed(before, now);
    }

    fn changed(&mut self, before: Option<Path>, now: Timestamp) {
        let active = self.active();
        if let Some(path) = active.filter(|_| before != active) {
            // The path was on standby, where silence may last longer. Its time starts now.
            let state = &mut self.paths[path];
            state.last_received = state.last_received.max(now);
            state.ping_wanted = true;
        }
    }

    /// Records a packet that arrived over this path.
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

    /// Records that the peer is alive, without a packet on this path.
    pub(super) fn alive(&mut self, path: Path, now: Timestamp) {
        self.peer_last_received = self.peer_last_received.max(now);
        let state = &mut self.paths[path];
        state.last_received = state.last_received.max(now);
    }

    pub(super) fn ping_received(&mut self, path: Path, token: u64, now: Timestamp) {
        self.losses.ping(token);
        let due = self.common_time(now + self.period(path));
        let state = &mut self.paths[path];
        // A pong for a probe carries less than one for an ordinary ping, so it does not replace that one.
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

    /// Counts the losses on the unreliable channels, and requests a ping on the path in use to report a new count.
    pub(super) fn count_losses(&mut self, channels: &[UnreliableReceiver; 2], now: Timestamp) {
        if self.losses.count(channels, now)
            && let Some(path) = self.active()
        {
            self.paths[path].ping_wanted = true;
        }
    }

    /// The fragments on the unreliable channels that the peer missed, as far as it has reported.
    pub(super) fn losses_of_peer(&self) -> u64 {
        self.losses.reported_by_peer()
    }

    /// Writes the heartbeats that are due. Returns whether a pong is among them.
    pub(super) fn write_heartbeats(&mut self, writer: &mut PacketWriter, path: Path, now: Timestamp) -> bool {
        let pong = self.paths[path].pong.filter(|token| writer.pong(*token));
        if pong.is_some() {
            self.paths[path].pong = None;
        }
        if self.paths[path].ping_wanted {
            let token = self.losses.token(self.number + 1);
            if writer.ping(token) {
                self.ping_sent(path, token, now);
            }
        }
        pong.is_some()
    }

    fn ping_sent(&mut self, path: Path, token: u64, now: Timestamp) {
        self.number += 1;
        // The peer's turn is next. If its ping does not come, this side asks again before the silence is long. The host
        // does so first: after two pings that crossed, both would go on at the same time otherwise.
        let repeat = self.repeat(path);
        let due = self.common_time(now + self.period(path) + if self.is_client { repeat } else { repeat / 2 });
        let state = &mut self.paths[path];
        (state.ping_wanted, state.probed, state.ping_due, state.pinged) = (false, false, due, now);
        state.outstanding = Some(token);
    }

    /// Writes a probe on the reliable lane, if one is due in addition to the ping on the unreliable one.
    pub(super) fn write_probe(&mut self, writer: &mut PacketWriter) {
        let direct = &mut self.paths[Path::Direct];
        if direct.ping_wanted && !direct.probed && writer.ping(PROBE) {
            direct.probed = true;
        }
    }

    /// Records that reliable frames were sent on this path.
    pub(super) fn reliable_sent(&mut self, path: Path, now: Timestamp) {
        self.paths[path].last_sent = now;
    }

    /// Whether this path carries heartbeats less often than the path in use.
    fn is_standby(&self, path: Path) -> bool {
        self.active() != Some(path) && self.usable(path)
    }

    fn period(&self, path: Path) -> Duration {
        if self.is_standby(path) { self.interval() * STANDBY } else { self.heartbeat() }
    }

    /// Returns the last common time before `due`. The connections of a host ping at multiples of a tenth of the timeout. A
    /// client pings at any time, since it has one connection.
    fn common_time(&self, due: Timestamp) -> Timestamp {
        let interval = (self.timeout / 10).as_nanos();
        let early = if self.is_client { None } else { due.as_nanos().checked_rem(interval) };
        due - Duration::from_nanos(early.and_then(|early| early.try_into().ok()).unwrap_or(0))
    }

    /// The time after which an unanswered ping is repeated.
    fn repeat(&self, path: Path) -> Duration {
        if self.is_standby(path) { self.period(path) } else { self.interval() }
    }

    fn silence_limit(&self, path: Path) -> Duration {
        if self.is_standby(path) { self.interval() * STANDBY * 3 } else { self.timeout }
    }

    /// When the next ping on this path is due. While frames are in flight, a ping also asks for their acknowledgement.
    fn ping_due(&self, path: Path, in_flight: bool) -> Timestamp {
        let state = &self.paths[path];
        let interval = self.interval();
        let due = if state.outstanding.is_some() { state.pinged + self.repeat(path) } else { state.ping_due };
        if !in_flight {
            return due;
        }
        let probe = if state.pinged < state.last_sent {
            let probe_timeout = state.rtt.0.map_or(interval, |rtt| 4 * rtt + 2 * super::ACK_DELAY);
            state.last_sent + probe_timeout.clamp((4 * super::ACK_DELAY).min(interval), interval)
        } else {
            state.pinged + interval
        };
        probe.min(due)
    }

    /// Excludes a time in which this side was suspended from the peer's silence. Packets that arrived since count from
    /// their arrival.
    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        self.peer_last_received = now.min(self.peer_last_received + time);
        for state in &mut self.paths.0 {
            state.last_received = now.min(state.last_received + time);
            // The answer would measure the suspension.
            state.outstanding = None;
        }
    }

    /// When to call [`advance`](Self::advance) next. `in_flight`: whether frames wait for an acknowledgement, on each
    /// path.
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

    /// Whether the other path was already asked if the peer is alive there.
    fn standby_pinged(&self) -> bool {
        let Some(active) = self.active() else { return false };
        let silent_since = self.paths[active].last_received + self.timeout / 2;
        Path::ALL.into_iter().filter(|path| *path != active && self.usable(*path)).all(|path| {
            let state = &self.paths[path];
            state.ping_wanted || state.pinged >= silent_since
        })
    }

    /// Applies the passing of time. Returns a path that became suspect; call it until it returns `None`.
    pub(super) fn advance(&mut self, in_flight: PerPath<bool>, now: Timestamp) -> Option<Path> {
        if let Some(active) = self.active()
            && now >= self.paths[active].last_received + self.timeout / 2
            && !self.standby_pinged()
        {
            // A ping on the other path can show that only this path is dead, before the silence becomes an
            // interruption.
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
