//! One client's session with the host, seen from both sides.

use std::time::Instant;

use bevy::prelude::*;
use bevy_uhst::{prelude::*, test_app::TestEvent};

use crate::ledger::Flow;

/// The events that one side had of a connection.
#[derive(Default)]
pub struct Told {
    pub peer: Option<Entity>,
    pub disconnected: Option<EndReason>,
}

/// A session from the spawn of a `UhstClient` until both sides have reported its end.
pub struct Stay {
    pub id: u32,
    pub session: Entity,
    pub begun: Instant,
    pub to_host: Flow,
    pub to_client: Flow,
    pub host: Told,
    pub client: Told,
    pub ended: Option<EndReason>,
    pub phase: Phase,
    /// The beginning of the phase.
    pub since: Instant,
    /// The time at which a side first reported an end.
    pub over: Option<Instant>,
    /// Whether its network was cut, so that it may time out.
    pub blackout: bool,
    /// Whether its network is worse than perfect.
    pub worse: bool,
    /// Whether its network was ever so slow that a full buffer keeps later packets away for about 30 s.
    pub slow: bool,
    /// Whether everything sent before the end must arrive.
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Playing,
    /// Nothing more is sent. Once all has arrived, the session ends in this way.
    Draining(Ending),
    Over(Ending),
    /// The client was killed, without a goodbye.
    Killed,
}

/// The ways to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Leave,
    Despawn,
    DespawnPeer,
    Disconnect,
    Exit,
    Kick,
    HostDisconnects,
    HostDespawnsPeer,
}

impl Ending {
    pub const ALL: [Ending; 8] = [
        Ending::Leave,
        Ending::Despawn,
        Ending::DespawnPeer,
        Ending::Disconnect,
        Ending::Exit,
        Ending::Kick,
        Ending::HostDisconnects,
        Ending::HostDespawnsPeer,
    ];

    pub fn is_by_host(self) -> bool {
        matches!(self, Ending::Kick | Ending::HostDisconnects | Ending::HostDespawnsPeer)
    }

    /// Returns whether this reason fits the end, for the side that ended the session or for the other one.
    fn allows(self, reason: &EndReason, ended_it: bool) -> bool {
        match reason {
            EndReason::Left => !ended_it,
            EndReason::EndedLocally => ended_it,
            EndReason::Kicked(_) => self == Ending::Kick,
            _ => false,
        }
    }
}

impl Stay {
    pub fn new(id: u32, session: Entity) -> Self {
        Stay {
            id,
            session,
            begun: Instant::now(),
            to_host: Flow::new(2 * id),
            to_client: Flow::new(2 * id + 1),
            host: Told::default(),
            client: Told::default(),
            ended: None,
            phase: Phase::Playing,
            since: Instant::now(),
            over: None,
            blackout: false,
            worse: false,
            slow: false,
            strict: false,
        }
    }

    pub fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, Instant::now());
    }

    /// Returns whether both sides are connected, and neither has reported an end.
    pub fn is_open(&self) -> bool {
        let open = |told: &Told| told.peer.is_some() && told.disconnected.is_none();
        self.phase != Phase::Killed && self.ended.is_none() && open(&self.host) && open(&self.client)
    }

    /// Returns the time since which the end is on its way to both sides.
    pub fn over_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Over(_) | Phase::Killed => Some(self.since),
            Phase::Playing | Phase::Draining(_) => self.over,
        }
    }

    fn note_end(&mut self, event: &TestEvent) {
        if matches!(event, TestEvent::Disconnected(_) | TestEvent::Ended(_)) {
            self.over.get_or_insert_with(Instant::now);
        }
    }

    /// Processes an event of the client's app.
    pub fn tell_client(&mut self, event: &TestEvent) -> Result<(), String> {
        if self.ended.is_some() {
            return Err(format!("told after the end of the session: {event:?}"));
        }
        self.note_end(event);
        match event {
            TestEvent::Ended(event) => {
                if self.client.peer.is_some() && self.client.disconnected.is_none() {
                    return Err("the session ended before its peer".to_owned());
                }
                self.ended = Some(event.reason.clone());
            }
            TestEvent::Message(message) => {
                self.client.check(message.peer)?;
                self.to_client.arrived(message.channel, message.payload.as_bytes())?;
            }
            event => self.client.tell(event)?,
        }
        Ok(())
    }

    /// Processes an event of the host's app.
    pub fn tell_host(&mut self, event: &TestEvent) -> Result<(), String> {
        match event {
            TestEvent::Message(message) => {
                self.host.check(message.peer)?;
                self.to_host.arrived(message.channel, message.payload.as_bytes())
            }
            event => {
                self.note_end(event);
                self.host.tell(event)
            }
        }
    }

    /// Checks that the reasons fit the way in which the session ended. `outage`: the network was down since it began.
    /// `starved`: this process hardly ran before the end, so that silence proves nothing.
    pub fn check_end(&self, outage: bool, starved: bool) -> Result<(), String> {
        // A client that times out while the relay is down reports the relay instead.
        let timed_out = |reason: &EndReason| {
            matches!(reason, EndReason::TimedOut) || (outage && matches!(reason, EndReason::RelayUnreachable(_)))
        };
        let fits = |side: &str, reason: &EndReason| match self.phase {
            _ if (self.blackout || starved || outage && self.slow)
                && (timed_out(reason) || matches!(reason, EndReason::Left | EndReason::EndedLocally)) =>
            {
                true
            }
            Phase::Killed => timed_out(reason),
            Phase::Over(ending) => {
                ending.allows(reason, (side == "host") == ending.is_by_host()) || (!self.strict && timed_out(reason))
            }
            Phase::Playing | Phase::Draining(_) => false,
        };
        let never = self.client.peer.is_none();
        // The client never connected, or it gave up before the host's answer arrived.
        let joining = never && (outage || starved);
        for (side, reason) in
            [("host", &self.host.disconnected), ("client", &self.client.disconnected), ("session", &self.ended)]
        {
            if let Some(reason) = reason
                && !fits(side, reason)
                && !joining
            {
                return Err(format!("the {side} ended though {:?}: {reason}", self.phase));
            }
        }
        if self.strict && self.to_host.missing() + self.to_client.missing() > 0 {
            let (up, down) = (self.to_host.missing(), self.to_client.missing());
            return Err(format!("{:?}: {up} messages to the host and {down} to the client were lost", self.phase));
        }
        Ok(())
    }
}

impl Told {
    fn check(&self, peer: Entity) -> Result<(), String> {
        if self.peer != Some(peer) || self.disconnected.is_some() {
            return Err(format!("told of {peer}, which is not connected"));
        }
        Ok(())
    }

    fn tell(&mut self, event: &TestEvent) -> Result<(), String> {
        match event {
            TestEvent::Connected(event) => {
                let before = self.peer.replace(event.entity);
                if before.is_some() {
                    return Err("connected twice".to_owned());
                }
            }
            TestEvent::Disconnected(event) => {
                self.check(event.entity)?;
                self.disconnected = Some(event.reason.clone());
            }
            TestEvent::PathChanged(event) => self.check(event.entity)?,
            _ => {}
        }
        Ok(())
    }
}
