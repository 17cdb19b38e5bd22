//! What happens at random: players come, send and end, and the network gets worse and better.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::prelude::*;

use super::{Player, STALL, Soak};
use crate::{
    faults::{Seeded, Side},
    ledger::{Flow, LARGEST},
    party::{Node, cut_udp},
    proxy::Mode,
    stay::{Ending, Phase, Stay},
};

const SIZES: [usize; 8] = [0, 1, 12, 64, 1000, 16 << 10, 100 << 10, LARGEST];

impl Soak {
    pub(super) fn step(&mut self) -> Result<(), String> {
        match self.random.u32(..1000) {
            0..300 => self.join(),
            300..440 => {
                let ending = Ending::ALL[self.random.usize(..Ending::ALL.len())];
                if let Some(id) = self.someone() {
                    if self.random.u8(..4) == 0 { self.end(id, ending, false)? } else { self.drain(id, ending) }
                }
            }
            440..470 => self.kill(),
            470..580 => {
                let time = Duration::from_millis(self.random.u64(500..6000));
                if let Some(index) = self.some_player() {
                    self.happens("sleeps", format!("player {:?} for {time:?}", self.players[index].stay));
                    self.players[index].node.sleep(time);
                }
            }
            580..610 => {
                let time = Duration::from_millis(self.random.u64(500..5000));
                self.happens("sleeps", format!("the host for {time:?}"));
                self.host.sleep(time);
            }
            610..825 => self.flood(),
            825..850 => self.disturb_relay(),
            850..862 => self.kill_relay(),
            862..874 if self.may_cut_udp && self.udp_back.is_none() => {
                let time = Duration::from_millis(self.random.u64(1000..8000));
                self.happens("cuts of UDP", format!("for {time:?}"));
                self.outage();
                cut_udp(true);
                self.udp_back = Some(Instant::now() + time);
            }
            874..890 => {
                let conditions = NetworkConditions { loss: 1.0, ..NetworkConditions::PERFECT };
                if let Some(id) = self.someone() {
                    self.happens("blackouts", format!("for {id}"));
                    self.worsen(id, conditions);
                }
            }
            890..930 => {
                let presets = [NetworkConditions::HOME_WIFI, NetworkConditions::MOBILE, NetworkConditions::TERRIBLE];
                let preset = self.random.usize(..presets.len());
                if let Some(id) = self.someone() {
                    self.happens("worse networks", format!("preset {preset} for {id}"));
                    self.worsen(id, presets[preset]);
                }
            }
            _ => self.mend_networks(),
        }
        Ok(())
    }

    /// Lets a new player join, or one who has left.
    fn join(&mut self) {
        let free: Vec<usize> = (0..self.players.len()).filter(|index| self.players[*index].stay.is_none()).collect();
        let index = if !free.is_empty() && self.random.bool() {
            free[self.random.usize(..free.len())]
        } else if self.players.len() < self.max_players {
            self.players.push(Player { node: Node::new(), stay: None });
            self.players.len() - 1
        } else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        let paths = if self.random.u8(..4) == 0 { PathPolicy::RelayOnly } else { PathPolicy::Automatic };
        let client = UhstClient::join("soak")
            .relay(Relay::Url(self.proxy.url(Side::Client)))
            .paths(paths)
            .metadata(id.to_be_bytes().to_vec());
        self.happens("joins", format!("{id}, {paths:?}"));
        let player = &mut self.players[index];
        let session = player.node.app.world_mut().spawn(client).id();
        player.stay = Some(id);
        self.stays.insert(id, Stay::new(id, session));
    }

    pub(super) fn drain(&mut self, id: u32, ending: Ending) {
        self.say(format!("{id} is to end: {ending:?}"));
        if let Some(stay) = self.stays.get_mut(&id) {
            stay.enter(Phase::Draining(ending));
        }
    }

    /// Ends a connection now. If it is `drained`, all has arrived, and a few last messages must arrive, too.
    pub(super) fn end(&mut self, id: u32, ending: Ending, drained: bool) -> Result<(), String> {
        let calm = !self.is_rough();
        let Some(index) = self.players.iter().position(|player| player.stay == Some(id)) else { return Ok(()) };
        let Some(stay) = self.stays.get_mut(&id) else { return Ok(()) };
        stay.strict = drained && calm && !stay.blackout && !stay.worse;
        let strict = stay.strict;
        if drained {
            self.send(id, ending.is_by_host(), UhstChannel::Reliable, 100, 10);
        }
        if let Some(stay) = self.stays.get_mut(&id) {
            stay.enter(Phase::Over(ending));
        }
        self.carry_out(index, id, ending)?;
        let what = match (drained, strict) {
            (true, true) => "ends with all delivered",
            (true, false) => "ends with all delivered but the last words",
            (false, _) => "ends in the middle",
        };
        self.happens(what, format!("{id}: {ending:?}"));
        Ok(())
    }

    /// Ends the connection of the player at this index in the given way.
    fn carry_out(&mut self, index: usize, id: u32, ending: Ending) -> Result<(), String> {
        let (player, Some(stay)) = (&mut self.players[index], self.stays.get_mut(&id)) else { return Ok(()) };
        let session = stay.session;
        let (node, peer) =
            if ending.is_by_host() { (&mut self.host, stay.host.peer) } else { (&mut player.node, stay.client.peer) };
        match ending {
            Ending::Leave => {
                if let Some(client) = node.app.world().get::<UhstClient>(session) {
                    client.leave();
                }
            }
            Ending::Kick => {
                if let Some(peer) = node.peer(peer) {
                    peer.kick("enough").unwrap();
                }
            }
            Ending::Disconnect | Ending::HostDisconnects => {
                if let Some(peer) = node.peer(peer) {
                    peer.disconnect();
                }
            }
            Ending::Despawn => {
                node.app.world_mut().despawn(session);
            }
            Ending::DespawnPeer | Ending::HostDespawnsPeer => {
                if let Some(peer) = peer {
                    node.app.world_mut().despawn(peer);
                }
            }
            Ending::Exit => {
                let since = Instant::now();
                player.node.app.world_mut().write_message(AppExit::Success);
                let events = player.node.update();
                // An exit that takes this long has waited for goodbyes, which may be missing.
                if since.elapsed() > STALL {
                    stay.strict = false;
                }
                for event in events {
                    stay.tell_client(&event).map_err(|why| format!("client {id}: {why}"))?;
                }
                self.players.swap_remove(index);
            }
        }
        Ok(())
    }

    fn kill(&mut self) {
        let Some(id) = self.someone() else { return };
        self.happens("killed", id.to_string());
        self.players.retain(|player| player.stay != Some(id));
        if let Some(stay) = self.stays.get_mut(&id) {
            stay.enter(Phase::Killed);
        }
    }

    fn kill_relay(&mut self) {
        if self.relay_back.is_some() {
            return;
        }
        let time = Duration::from_millis(self.random.u64(0..8000));
        let known = self.random.bool();
        self.happens("relay restarts", format!("in {time:?}, with its secret: {known}"));
        self.outage();
        self.relay.kill();
        self.relay_back = Some((Instant::now() + time, known));
    }

    /// Makes the proxy hostile for a while: it loses, doubles, refuses and delays requests, and cuts streams.
    fn disturb_relay(&mut self) {
        if self.honest_at.is_some() {
            return;
        }
        let time = Duration::from_millis(self.random.u64(1000..8000));
        let seed = self.random.u64(..);
        self.happens("hostile relays", format!("for {time:?}, seed {seed}"));
        self.outage();
        self.proxy.set_faults(Seeded::new(seed));
        self.proxy.set(Mode::Hostile);
        self.honest_at = Some(Instant::now() + time);
    }

    /// Sends from one side until the queue is full.
    fn flood(&mut self) {
        let Some(id) = self.someone() else { return };
        let by_host = self.random.bool();
        let channel = UhstChannel::ALL[self.random.usize(..4)];
        let size = SIZES[self.random.usize(..SIZES.len())];
        let sent = self.send(id, by_host, channel, size, 20_000);
        let way = if by_host { "to" } else { "by" };
        self.happens("floods", format!("{way} {id}: {sent} of {size} bytes, {channel:?}"));
    }

    /// Sends a few messages each way on every connection.
    pub(super) fn talk(&mut self) {
        let playing: Vec<u32> = self.playing().collect();
        for id in playing {
            for by_host in [false, true] {
                let channel = UhstChannel::ALL[self.random.usize(..4)];
                let size = SIZES[self.random.usize(..6)];
                let most = self.random.usize(..4);
                self.send(id, by_host, channel, size, most);
            }
        }
    }

    fn send(&mut self, id: u32, by_host: bool, channel: UhstChannel, size: usize, most: usize) -> usize {
        let Some(stay) = self.stays.get_mut(&id) else { return 0 };
        let Some(player) = self.players.iter().find(|player| player.stay == Some(id)) else { return 0 };
        let (node, told, flow) = if by_host {
            (&self.host, &stay.host, &mut stay.to_client)
        } else {
            (&player.node, &stay.client, &mut stay.to_host)
        };
        let Some(peer) = node.peer(told.peer) else { return 0 };
        let mut sent = 0;
        while sent < most && send(peer, flow, channel, size) {
            sent += 1;
        }
        *self.counts.entry(format!("sent {channel:?}")).or_default() += sent as u64;
        if most > 0 && sent < most {
            self.count("full queues");
        }
        sent
    }
}

/// Sends a message, and returns whether the queue took it.
fn send(peer: &UhstPeer, flow: &mut Flow, channel: UhstChannel, size: usize) -> bool {
    let message = flow.next(channel, size);
    let size = message.len();
    let taken = peer.send_on(channel, message).is_ok();
    if taken {
        flow.accepted(channel, size);
    }
    taken
}
