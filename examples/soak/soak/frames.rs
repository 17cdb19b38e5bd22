//! The frames of all apps. Their events are checked and recorded.

use std::{sync::atomic::Ordering, time::Instant};

use bevy_uhst::{prelude::*, test_app::TestEvent};

use super::{END_PATIENCE, FRAME, LATE, PANICS, PATIENCE, RECOVERY, STALL, STARVED, Soak, secret};
use crate::{
    party::{Known, cut_udp},
    proxy::Mode,
    stay::Phase,
};

impl Soak {
    /// Updates all apps that are awake once.
    pub(super) fn frame(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let took = now.duration_since(self.started_frame);
        self.started_frame = now;
        if took > STALL {
            self.count("stalls");
            self.nobody_is_strict();
        }
        if took > STARVED {
            self.count("starved");
            self.starved = Some(now);
        }
        if PANICS.load(Ordering::Relaxed) > 0 {
            return Err("a task panicked".to_owned());
        }
        self.restore();
        if self.host.is_awake() {
            for event in self.host.update() {
                self.host_event(&event)?;
            }
        }
        for index in 0..self.players.len() {
            if self.players[index].node.is_awake() {
                self.update_player(index)?;
            }
        }
        self.go_on()?;
        std::thread::sleep(FRAME.saturating_sub(now.elapsed()));
        Ok(())
    }

    fn restore(&mut self) {
        let now = Instant::now();
        if let Some((_, known)) = self.relay_back.filter(|(at, _)| now >= *at) {
            self.relay.restart(secret(known));
            self.relay_back = None;
            self.last_outage = Some(now);
            self.say("the relay is back");
        }
        if self.honest_at.is_some_and(|at| now >= at) {
            self.proxy.set(Mode::Honest);
            self.honest_at = None;
            self.last_outage = Some(now);
        }
        if self.udp_back.is_some_and(|at| now >= at) {
            cut_udp(false);
            self.udp_back = None;
            self.last_outage = Some(now);
            self.say("UDP is back");
        }
    }

    fn host_event(&mut self, event: &TestEvent) -> Result<(), String> {
        let peer = match event {
            TestEvent::Message(message) => message.peer,
            TestEvent::Connected(event) => event.entity,
            TestEvent::Disconnected(event) => event.entity,
            TestEvent::PathChanged(event) => event.entity,
            TestEvent::Diagnostic(event) => {
                self.say(format!("host: {}", event.text));
                return Ok(());
            }
            TestEvent::Ended(event) => return Err(format!("the host's session ended: {}", event.reason)),
            _ => return Ok(()),
        };
        let known = &mut self.host.app.world_mut().resource_mut::<Known>().0;
        let ended = matches!(event, TestEvent::Disconnected(_));
        let id = if ended { known.remove(&peer) } else { known.get(&peer).copied() };
        let Some(id) = id else {
            return Err(format!("the host was told of {peer}, which is not connected: {event:?}"));
        };
        self.note(id, "host", event);
        let stay = self.stays.get_mut(&id).ok_or(format!("the host was told of {id} after its end: {event:?}"))?;
        stay.tell_host(event).map_err(|why| format!("host, of {id}: {why}"))
    }

    fn update_player(&mut self, index: usize) -> Result<(), String> {
        for event in self.players[index].node.update() {
            let Some(id) = self.players[index].stay else {
                return Err(format!("a client was told after its end: {event:?}"));
            };
            if let TestEvent::Diagnostic(event) = &event {
                self.say(format!("client {id}: {}", event.text));
                continue;
            }
            self.note(id, "client", &event);
            if let Some(stay) = self.stays.get_mut(&id) {
                stay.tell_client(&event).map_err(|why| format!("client {id}: {why}"))?;
            }
        }
        Ok(())
    }

    fn note(&mut self, id: u32, side: &str, event: &TestEvent) {
        match event {
            TestEvent::Message(message) => {
                *self.counts.entry(format!("received {:?}", message.channel)).or_default() += 1;
            }
            TestEvent::PathChanged(event) => {
                self.count(if event.path == Path::Direct { "paths to direct" } else { "paths to relay" });
                self.say(format!("{side} {id}: {:?}", event.path));
            }
            TestEvent::Connected(_) => {
                self.count(if side == "host" { "connected, host" } else { "connected, client" });
                self.say(format!("{side} {id}: connected"));
            }
            TestEvent::Disconnected(event) => {
                *self.counts.entry(format!("disconnected, {side}: {}", kind(&event.reason))).or_default() += 1;
                self.say(format!("{side} {id}: disconnected: {}", event.reason));
            }
            TestEvent::Ended(event) => {
                *self.counts.entry(format!("sessions ended: {}", kind(&event.reason))).or_default() += 1;
                self.say(format!("{side} {id}: ended: {}", event.reason));
            }
            _ => {}
        }
    }

    /// Ends the sessions that are drained, and removes those that are over.
    fn go_on(&mut self) -> Result<(), String> {
        let ids: Vec<u32> = self.stays.keys().copied().collect();
        for id in ids {
            let Some(stay) = self.stays.get(&id) else { continue };
            if let Phase::Draining(ending) = stay.phase
                && stay.is_open()
            {
                let (up, down) = (stay.to_host.missing(), stay.to_client.missing());
                if up + down == 0 {
                    self.end(id, ending, true)?;
                } else if stay.since.elapsed() > PATIENCE {
                    return Err(format!("{id}: {up} messages to the host and {down} to the client do not arrive"));
                }
                continue;
            }
            let killed = stay.phase == Phase::Killed;
            let Some(over) = stay.over_since() else {
                if stay.client.peer.is_none() && stay.begun.elapsed() > PATIENCE {
                    return Err(format!("{id} neither joins nor ends"));
                }
                continue;
            };
            let host_is_over = match stay.host.peer {
                // The host may yet report a client that had given up by then.
                None => over.elapsed() > LATE,
                Some(_) => stay.host.disconnected.is_some(),
            };
            if host_is_over && (stay.ended.is_some() || killed) {
                self.forget(id)?;
            } else if over.elapsed() > END_PATIENCE {
                return Err(format!("{id}: one side has not heard of the end"));
            }
        }
        Ok(())
    }

    fn forget(&mut self, id: u32) -> Result<(), String> {
        let Some(stay) = self.stays.remove(&id) else { return Ok(()) };
        let outage = self.was_out_since(stay.begun);
        let heard = stay.over.unwrap_or(stay.since);
        let starved = self.starved.is_some_and(|at| at + RECOVERY > heard);
        stay.check_end(outage, starved).map_err(|why| format!("{id}: {why}"))?;
        if let Some(index) = self.players.iter().position(|player| player.stay == Some(id)) {
            self.players[index].stay = None;
            if self.random.bool() {
                self.players.swap_remove(index);
            }
        }
        Ok(())
    }
}

/// Returns the text of a reason without its details.
fn kind(reason: &EndReason) -> String {
    let words = reason.to_string();
    words.split(':').next().unwrap_or_default().to_owned()
}
