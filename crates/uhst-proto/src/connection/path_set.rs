//! The paths of a connection: which one carries messages, and whether the peer is interrupted.

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;

use super::{
    ConnectionConfig, ConnectionEvent, Interruption, Path, Timestamp,
    liveness::Liveness,
    path::{PathContents, PerPath},
};
use crate::protocol::{EndReason, PathPolicy};

/// How long to wait for the first direct path of a connection that allows only direct paths.
const FIRST_DIRECT: Duration = Duration::from_secs(15);

/// The paths of a connection. Events about them are appended to the queue that a method receives.
#[derive(Debug)]
pub(super) struct PathSet {
    live: Liveness,
    /// The policy of this side; once open, the one that both sides agreed on.
    policy: PathPolicy,
    /// How long an interruption may last.
    resume_timeout: Duration,
    /// The path for messages that the owner knows of. The first is set when the connection opens.
    announced: Option<Path>,
    direct_wait: Option<DirectWait>,
    interrupted: Option<Interrupted>,
}

/// A wait for the first direct path, in a connection that allows no other. It is reported as connected once that path
/// is up.
#[derive(Debug)]
struct DirectWait {
    since: Timestamp,
    /// The metadata of the peer.
    metadata: Bytes,
}

/// An interruption in progress.
#[derive(Debug)]
struct Interrupted {
    since: Timestamp,
    /// When its deadline was last checked. The checks are frequent, so that a late one shows that this side was
    /// suspended.
    checked: Timestamp,
    /// Whether a packet has arrived from the peer since then.
    received: bool,
}

/// Why a connection ends that was waiting for a path.
#[derive(Debug)]
pub(super) enum Expired {
    /// No direct path came up in time. The relay still leads to the peer.
    NoDirectPath(EndReason),
    /// The peer was interrupted for too long.
    TimedOut,
}

impl PathSet {
    pub(super) fn new(config: &ConnectionConfig, is_client: bool, now: Timestamp) -> Self {
        Self {
            live: Liveness::new(config.timeout, is_client, now),
            policy: PathPolicy::default(),
            resume_timeout: config.resume_timeout,
            announced: None,
            direct_wait: None,
            interrupted: None,
        }
    }

    /// Sets which paths this side allows.
    pub(super) fn allow(&mut self, policy: PathPolicy) {
        self.policy = policy;
    }

    pub(super) fn policy(&self) -> PathPolicy {
        self.policy
    }

    /// Applies what both sides agreed on. Returns `false` if the policy of the peer excludes ours; nothing has changed
    /// then.
    #[must_use]
    pub(super) fn agree(&mut self, policy: PathPolicy, (timeout, resume_timeout): (Duration, Duration)) -> bool {
        let Some(policy) = self.policy.with(policy) else { return false };
        self.policy = policy;
        self.resume_timeout = resume_timeout;
        self.live.set_timeout(timeout);
        true
    }

    /// How long nothing may arrive from the peer before it is interrupted.
    pub(super) fn timeout(&self) -> Duration {
        self.live.timeout()
    }

    /// How long an interruption may last.
    pub(super) fn resume_timeout(&self) -> Duration {
        self.resume_timeout
    }

    /// The unit of shorter waits: a quarter of the timeout.
    pub(super) fn interval(&self) -> Duration {
        self.live.interval()
    }

    /// How long a side may be silent while the connection is not open yet.
    pub(super) fn joining_timeout(&self) -> Duration {
        if self.is_up(Path::Relay) { self.timeout() } else { self.resume_timeout }
    }

    pub(super) fn is_up(&self, path: Path) -> bool {
        self.live.is_up(path)
    }

    /// The path in use: the best one that is up, proven and not suspect.
    pub(super) fn active(&self) -> Option<Path> {
        self.live.active()
    }

    /// The path for messages; `None` while the peer is interrupted.
    pub(super) fn message_path(&self) -> Option<Path> {
        self.candidate().filter(|_| self.interrupted.is_none())
    }

    /// The path that messages would take if the peer were not interrupted.
    fn candidate(&self) -> Option<Path> {
        self.live.active().filter(|path| *path == Path::Direct || self.policy != PathPolicy::DirectOnly)
    }

    /// The path that the owner knows to carry messages, and its round-trip time.
    pub(super) fn reported(&self) -> Option<(Path, Option<Duration>)> {
        let path = self.message_path().filter(|_| self.announced.is_some())?;
        Some((path, self.live.rtt(path)))
    }

    /// What a path carries now. Signals prefer the relay, because they serve to replace the direct path.
    pub(super) fn contents(&self, path: Path) -> PathContents {
        let signals = if self.live.usable(Path::Relay) { Some(Path::Relay) } else { self.live.active() };
        PathContents { signals: signals == Some(path), messages: self.message_path() == Some(path) }
    }

    /// Whether a message that arrived over this path violates the policy.
    pub(super) fn forbids_messages(&self, path: Path) -> bool {
        path == Path::Relay && self.policy == PathPolicy::DirectOnly
    }

    /// Records that a path leads to the peer. `unproven`: another host may be at its end, until a packet shows that it
    /// is the peer.
    pub(super) fn up(&mut self, path: Path, unproven: bool, now: Timestamp) {
        // A path that is replaced by one of the same kind needs no new proof.
        let proven = !unproven && (path == Path::Relay || self.live.usable(path));
        self.live.path_up(path, proven, now);
        if path == Path::Direct {
            // The peer itself set up its encryption.
            self.received_from_peer(path, now);
        }
    }

    /// Records that a path of a connection that is not open is up.
    pub(super) fn up_unopened(&mut self, path: Path, now: Timestamp) {
        self.live.path_up(path, true, now);
    }

    /// Records that the relay path leads to the peer itself, which has resumed.
    pub(super) fn resumed(&mut self, now: Timestamp) {
        self.live.path_up(Path::Relay, true, now);
        self.received_from_peer(Path::Relay, now);
    }

    pub(super) fn down(&mut self, path: Path, now: Timestamp) {
        self.live.path_down(path, now);
    }

    /// Marks a path as suspect. Returns `false` if it is down or suspect already.
    pub(super) fn suspect(&mut self, path: Path, now: Timestamp) -> bool {
        self.live.suspect(path, now)
    }

    /// Records a packet of the open connection that arrived over this path.
    pub(super) fn received(&mut self, path: Path, now: Timestamp) {
        self.live.received(path, now);
        self.received_from_peer(path, now);
    }

    fn received_from_peer(&mut self, path: Path, now: Timestamp) {
        self.live.alive(path, now);
        if let Some(interrupted) = &mut self.interrupted {
            interrupted.received = true;
        }
    }

    /// Records that the peer is alive and coming back, without a packet of the open connection.
    pub(super) fn alive(&mut self, path: Path, now: Timestamp) {
        self.live.alive(path, now);
    }

    /// The heartbeats and loss reports.
    pub(super) fn heartbeats(&mut self) -> &mut Liveness {
        &mut self.live
    }

    /// The fragments on the unreliable channels that the peer missed, as far as it has reported.
    pub(super) fn losses_of_peer(&self) -> u64 {
        self.live.losses_of_peer()
    }

    /// Opens the connection on the relay path. `metadata` is that of the peer.
    pub(super) fn open(&mut self, metadata: Bytes, now: Timestamp, events: &mut VecDeque<ConnectionEvent>) {
        if self.is_up(Path::Relay) {
            self.live.path_up(Path::Relay, true, now);
        }
        self.live.alive(Path::Relay, now);
        self.announced = Some(Path::Relay);
        if self.policy == PathPolicy::DirectOnly {
            self.direct_wait = Some(DirectWait { since: now, metadata });
        } else {
            events.push_back(ConnectionEvent::Connected { metadata });
        }
    }

    /// Reports a change of the path for messages of an open connection, and the start and end of an interruption.
    pub(super) fn report_changes(&mut self, now: Timestamp, events: &mut VecDeque<ConnectionEvent>) {
        if self.candidate().is_some()
            && let Some(wait) = self.direct_wait.take()
        {
            events.push_back(ConnectionEvent::Connected { metadata: wait.metadata });
        }
        self.report_interruption(now, events);
        let Some(path) = self.message_path() else { return };
        if self.announced != Some(path) {
            self.announced = Some(path);
            events.push_back(ConnectionEvent::PathChanged(path));
        }
    }

    /// Reports the start or end of an interruption of an open connection. A path that comes up does not end one: a
    /// packet must arrive from the peer.
    pub(super) fn report_interruption(&mut self, now: Timestamp, events: &mut VecDeque<ConnectionEvent>) {
        // Before the peer is reported as connected, it cannot be interrupted.
        if self.direct_wait.is_some() {
            return;
        }
        match (self.interruption(now), &self.interrupted) {
            (Some(reason), None) => {
                self.interrupted = Some(Interrupted { since: now, checked: now, received: false });
                events.push_back(ConnectionEvent::Interrupted(reason));
            }
            (None, Some(Interrupted { received: true, .. })) => {
                self.interrupted = None;
                events.push_back(ConnectionEvent::Resumed);
            }
            _ => {}
        }
    }

    /// Why the peer is to be interrupted now.
    fn interruption(&self, now: Timestamp) -> Option<Interruption> {
        if self.candidate().is_none() {
            Some(if self.live.has_suspect() { Interruption::Silent } else { Interruption::NoPath })
        } else {
            (now >= self.live.silent_at()).then_some(Interruption::Silent)
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    /// When an interruption ends the connection, unless a packet arrives from the peer.
    pub(super) fn interruption_deadline(&self) -> Option<Timestamp> {
        self.interrupted.as_ref().map(|interrupted| interrupted.since + self.resume_timeout)
    }

    /// When the wait for the first direct path ends.
    fn direct_deadline(&self) -> Option<Timestamp> {
        self.direct_wait.as_ref().map(|wait| wait.since + self.first_direct())
    }

    fn first_direct(&self) -> Duration {
        self.resume_timeout.min(FIRST_DIRECT)
    }

    /// Stops waiting, because the connection is closing. Messages that were sent before may use whichever path comes
    /// up.
    pub(super) fn stop_waiting(&mut self) {
        (self.direct_wait, self.interrupted) = (None, None);
    }

    /// Returns why the connection ends now, if a wait for a path has lasted too long.
    pub(super) fn expired(&mut self, now: Timestamp) -> Option<Expired> {
        let none_within = |time| EndReason::NoDirectPath(format!("none was found within {time:?}"));
        if self.direct_deadline().is_some_and(|deadline| now >= deadline) {
            return Some(Expired::NoDirectPath(none_within(self.first_direct())));
        }
        if let Some(interrupted) = &mut self.interrupted {
            interrupted.checked = now;
        }
        if self.interruption_deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let relay_lives = self.live.usable(Path::Relay) && now < self.live.silent_at();
        Some(if self.policy == PathPolicy::DirectOnly && relay_lives {
            Expired::NoDirectPath(none_within(self.resume_timeout))
        } else {
            Expired::TimedOut
        })
    }

    /// When to call [`advance`](Self::advance) next. `in_flight`: whether frames wait for an acknowledgement, on each
    /// path.
    pub(super) fn next_timeout(&self, in_flight: PerPath<bool>) -> Option<Timestamp> {
        self.live.next_timeout(in_flight)
    }

    /// When to call [`report_interruption`](Self::report_interruption) and [`expired`](Self::expired) next for an open
    /// connection.
    pub(super) fn next_check(&self) -> Option<Timestamp> {
        match (&self.direct_wait, &self.interrupted) {
            (Some(_), _) => self.direct_deadline(),
            (None, None) => Some(self.live.silent_at()),
            (None, Some(interrupted)) => {
                let check = interrupted.checked + self.interval();
                self.interruption_deadline().map(|deadline| deadline.min(check))
            }
        }
    }

    /// Applies the passing of time. Returns a path that became suspect; call it until it returns `None`.
    #[must_use]
    pub(super) fn advance(&mut self, in_flight: PerPath<bool>, now: Timestamp) -> Option<Path> {
        self.live.advance(in_flight, now)
    }

    /// Excludes a time in which this side was suspended from all deadlines.
    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        self.live.slept(time, now);
        if let Some(interrupted) = &mut self.interrupted {
            interrupted.since = now.min(interrupted.since + time);
            interrupted.checked = now.min(interrupted.checked + time);
        }
        if let Some(wait) = &mut self.direct_wait {
            wait.since = now.min(wait.since + time);
        }
    }
}
