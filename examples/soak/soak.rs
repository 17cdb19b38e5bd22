//! What happens, and whether what should come of it does.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bevy::prelude::*;
use bevy_uhst::{prelude::*, relay::RelayConfig, test_app::TestEvent};
use fastrand::Rng;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Settings,
    faults::{Seeded, Side},
    ledger::{Flow, LARGEST},
    party::{Known, Node, cut_udp},
    proxy::{HostileRelay, Mode},
    relay::StandaloneRelay,
    stay::{Ending, Phase, Stay},
    watch::{Open, SETTLING, SLACK},
};

/// The time between two frames of all apps, at least.
const FRAME: Duration = Duration::from_millis(5);
/// How long everything that must arrive may take, with all that goes wrong meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long both sides may take to tell an end: longer than a connection waits for a path.
const END_PATIENCE: Duration = Duration::from_secs(45);
/// How long a host goes on with somebody who never came in, and may be asleep.
const LATE: Duration = Duration::from_secs(20);
/// How long it takes until nobody notices that the network was down.
const RECOVERY: Duration = Duration::from_secs(10);
/// In a frame that takes longer, the machine was somewhere else, and what depends on time proves nothing.
const STALL: Duration = Duration::from_millis(400);
/// In a frame that takes longer, heartbeats may have been late, too.
const STARVED: Duration = Duration::from_millis(1500);
const SIZES: [usize; 8] = [0, 1, 12, 64, 1000, 16 << 10, 100 << 10, LARGEST];

/// Panics in the background, which end a task and no more.
static PANICS: AtomicUsize = AtomicUsize::new(0);

pub struct Soak {
    random: Rng,
    seed: u64,
    time: Duration,
    max_players: usize,
    may_cut_udp: bool,
    started: Instant,
    relay: StandaloneRelay,
    /// In front of it, for everyone.
    proxy: HostileRelay,
    _proxy_runtime: Runtime,
    /// When the proxy is honest again.
    honest_at: Option<Instant>,
    /// When it comes back, and whether it then knows its secret.
    relay_back: Option<(Instant, bool)>,
    udp_back: Option<Instant>,
    /// The last moment at which the relay or all direct paths were down or disturbed.
    last_outage: Option<Instant>,
    host: Node,
    players: Vec<Player>,
    stays: BTreeMap<u32, Stay>,
    next_id: u32,
    steps: u64,
    trace: VecDeque<String>,
    counts: BTreeMap<String, u64>,
    watched: Vec<Open>,
    started_frame: Instant,
    starved: Option<Instant>,
}

struct Player {
    node: Node,
    stay: Option<u32>,
}

impl Soak {
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            hook(panic);
        }));
        let relay = StandaloneRelay::start_with(secret(true));
        let mut host = Node::new();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let proxy = HostileRelay::start(runtime.handle(), relay.address(), Seeded::new(seed));
        host.app.world_mut().spawn(UhstHost::new("soak").relay(Relay::Url(proxy.url(Side::Host))));
        Soak {
            random: Rng::with_seed(seed),
            seed,
            time: Duration::from_secs_f64(settings.minutes.clamp(0.1, 10_000.0) * 60.0),
            max_players: settings.players.clamp(1, 32),
            may_cut_udp: settings.cut_udp,
            started: Instant::now(),
            relay,
            proxy,
            _proxy_runtime: runtime,
            honest_at: None,
            relay_back: None,
            udp_back: None,
            last_outage: None,
            host,
            players: Vec::new(),
            stays: BTreeMap::new(),
            next_id: 1,
            steps: 0,
            trace: VecDeque::new(),
            counts: BTreeMap::new(),
            watched: Vec::new(),
            started_frame: Instant::now(),
            starved: None,
        }
    }

    pub fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter()
    }

    /// What happened, in one line.
    pub fn line(&self, result: &str) -> String {
        let open = |open: &Open| json!({ "tasks": open.tasks, "sockets": open.sockets, "threads": open.threads, "memory_kb": open.memory });
        json!({
            "soak": result,
            "seed": self.seed,
            "seconds": self.started.elapsed().as_secs(),
            "steps": self.steps,
            "happened": self.counts,
            "allowed_kb": SLACK,
            "first": self.watched.first().map(open),
            "last": self.watched.last().map(open),
            "memory_kb": self.watched.iter().map(|open| open.memory).collect::<Vec<_>>(),
        })
        .to_string()
    }

    pub fn run(&mut self) -> Result<(), String> {
        self.host_is_ready()?;
        let part = (self.time / 6).clamp(Duration::from_secs(30).min(self.time / 2), Duration::from_secs(300));
        let mut left = self.time;
        while !left.is_zero() {
            let part = part.min(left);
            left -= part;
            self.play(part)?;
            self.take_a_break()?;
        }
        self.host_leaves()
    }

    fn host_is_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if self.host.update().iter().any(|event| matches!(event, TestEvent::Ready(_))) {
                return Ok(());
            }
            std::thread::sleep(FRAME);
        }
        Err("the host does not listen".to_owned())
    }

    /// Does something at random every now and then.
    fn play(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        let mut next = Instant::now();
        let mut talk = Instant::now();
        while Instant::now() < until {
            if Instant::now() >= next {
                self.steps += 1;
                self.step()?;
                next = Instant::now() + Duration::from_millis(self.random.u64(50..500));
            }
            if Instant::now() >= talk {
                self.talk();
                talk = Instant::now() + Duration::from_millis(50);
            }
            self.frame()?;
        }
        Ok(())
    }

    /// Everybody leaves, and nothing of it stays.
    fn take_a_break(&mut self) -> Result<(), String> {
        self.say("everybody leaves");
        self.host.asleep_until = Instant::now();
        for player in &mut self.players {
            player.node.asleep_until = Instant::now();
        }
        self.relay_back = self.relay_back.map(|(_, known)| (Instant::now(), known));
        self.udp_back = self.udp_back.map(|_| Instant::now());
        self.honest_at = self.honest_at.map(|_| Instant::now());
        let playing = |stay: &&Stay| stay.phase == Phase::Playing && stay.ended.is_none();
        let playing: Vec<u32> = self.stays.values().filter(playing).map(|stay| stay.id).collect();
        for id in playing {
            self.worsen(id, NetworkConditions::PERFECT);
            self.drain(id, Ending::Leave);
        }
        let deadline = Instant::now() + PATIENCE + END_PATIENCE;
        while !self.stays.is_empty() {
            if Instant::now() > deadline {
                return Err(format!("{} sessions do not end", self.stays.len()));
            }
            // Nobody who was on his way in when the break began stays.
            let late: Vec<u32> = self
                .stays
                .values()
                .filter(|stay| stay.phase == Phase::Playing && stay.is_open())
                .map(|stay| stay.id)
                .collect();
            for id in late {
                self.drain(id, Ending::Leave);
            }
            self.frame()?;
        }
        self.players.clear();
        let known = self.host.app.world().resource::<Known>().0.len();
        let peers = self.host.app.world_mut().query::<&UhstPeer>().iter(self.host.app.world()).count();
        if known + peers > 0 {
            return Err(format!("{peers} peers are left, {known} of them not ended"));
        }
        let open = self.settle()?;
        eprintln!("soak: {} s: {open:?}", self.started.elapsed().as_secs());
        self.watched.push(open);
        Ok(())
    }

    /// What is open when it does not get less any more.
    fn settle(&mut self) -> Result<Open, String> {
        let first = self.watched.first().copied();
        let settled = Instant::now() + SETTLING;
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            self.frame()?;
            let open = Open::now(self.host.tasks() + self.relay.tasks());
            match first {
                None if Instant::now() >= settled => return Ok(open),
                Some(first) if open.is_within(&first) => {
                    if open.memory > first.memory + SLACK {
                        return Err(format!("memory has grown: {open:?}, it was {first:?}"));
                    }
                    return Ok(open);
                }
                Some(first) if Instant::now() >= deadline => {
                    return Err(format!("left open: {open:?}, it was {first:?}"));
                }
                _ => {}
            }
        }
    }

    fn host_leaves(&mut self) -> Result<(), String> {
        let host = self
            .host
            .app
            .world_mut()
            .query::<&UhstHost>()
            .single(self.host.app.world())
            .map_err(|error| error.to_string())?;
        host.leave();
        let deadline = Instant::now() + END_PATIENCE;
        let mut ends = 0;
        while ends == 0 && Instant::now() < deadline {
            ends += self.host.update().iter().filter(|event| matches!(event, TestEvent::Ended(_))).count();
            std::thread::sleep(FRAME);
        }
        if ends == 1 { Ok(()) } else { Err(format!("the host's session ended {ends} times")) }
    }

    fn step(&mut self) -> Result<(), String> {
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
            _ => {
                let worse: Vec<u32> = self.stays.values().filter(|stay| stay.worse).map(|stay| stay.id).collect();
                for id in worse {
                    self.say(format!("a perfect network for {id}"));
                    self.worsen(id, NetworkConditions::PERFECT);
                }
            }
        }
        Ok(())
    }

    /// Someone new, or one who was here before.
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

    fn drain(&mut self, id: u32, ending: Ending) {
        self.say(format!("{id} is to end: {ending:?}"));
        if let Some(stay) = self.stays.get_mut(&id) {
            stay.enter(Phase::Draining(ending));
        }
    }

    /// Ends a connection now. `drained`: all has arrived, so that a few last words must, too.
    fn end(&mut self, id: u32, ending: Ending, drained: bool) -> Result<(), String> {
        let calm = !self.is_rough();
        let Some(index) = self.players.iter().position(|player| player.stay == Some(id)) else { return Ok(()) };
        let Some(stay) = self.stays.get_mut(&id) else { return Ok(()) };
        stay.strict = drained && calm && !stay.blackout && !stay.worse;
        let (by_host, strict) = (ending.is_by_host(), stay.strict);
        let player = &mut self.players[index];
        if drained {
            let (node, told, flow) = if by_host {
                (&self.host, &stay.host, &mut stay.to_client)
            } else {
                (&player.node, &stay.client, &mut stay.to_host)
            };
            if let Some(peer) = node.peer(told.peer) {
                for _ in 0..10 {
                    send(peer, flow, UhstChannel::Reliable, 100);
                }
            }
        }
        stay.enter(Phase::Over(ending));
        let session = stay.session;
        let (node, peer) =
            if by_host { (&mut self.host, stay.host.peer) } else { (&mut player.node, stay.client.peer) };
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
                // It waits half a second at most: past it, its goodbye may not be said.
                if since.elapsed() > STALL {
                    stay.strict = false;
                }
                for event in events {
                    stay.tell_client(&event).map_err(|why| format!("client {id}: {why}"))?;
                }
                self.players.swap_remove(index);
            }
        }
        let what = match (drained, strict) {
            (true, true) => "ends with all delivered",
            (true, false) => "ends with all delivered but the last words",
            (false, _) => "ends in the middle",
        };
        self.happens(what, format!("{id}: {ending:?}"));
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

    /// Requests are lost, doubled, refused and delayed, and streams are cut, for a while.
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

    /// Sends until the queue is full.
    fn flood(&mut self) {
        let Some(id) = self.someone() else { return };
        let by_host = self.random.bool();
        let channel = UhstChannel::ALL[self.random.usize(..4)];
        let size = SIZES[self.random.usize(..SIZES.len())];
        let sent = self.send(id, by_host, channel, size, 20_000);
        let way = if by_host { "to" } else { "by" };
        self.happens("floods", format!("{way} {id}: {sent} of {size} bytes, {channel:?}"));
    }

    /// A few words each way, on every connection.
    fn talk(&mut self) {
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

    /// Lets all who are awake have one frame.
    fn frame(&mut self) -> Result<(), String> {
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

    /// Ends those who are drained, and forgets those who are over.
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
                // It may yet hear of somebody who had given up by then.
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

    fn playing(&self) -> impl Iterator<Item = u32> {
        self.stays.values().filter(|stay| stay.phase == Phase::Playing && stay.is_open()).map(|stay| stay.id)
    }

    /// Chooses among those who play.
    fn someone(&mut self) -> Option<u32> {
        let playing: Vec<u32> = self.playing().collect();
        (!playing.is_empty()).then(|| playing[self.random.usize(..playing.len())])
    }

    fn some_player(&mut self) -> Option<usize> {
        (!self.players.is_empty()).then(|| self.random.usize(..self.players.len()))
    }

    /// Makes the network of one player worse, or perfect again.
    fn worsen(&mut self, id: u32, conditions: NetworkConditions) {
        let Some(stay) = self.stays.get_mut(&id) else { return };
        stay.worse = !conditions.is_perfect();
        stay.blackout |= conditions.loss >= 1.0;
        let Some(player) = self.players.iter().find(|player| player.stay == Some(id)) else { return };
        if let Some(client) = player.node.app.world().get::<UhstClient>(stay.session) {
            client.set_conditions(conditions);
        }
    }

    fn outage(&mut self) {
        self.last_outage = Some(Instant::now());
        self.nobody_is_strict();
    }

    fn nobody_is_strict(&mut self) {
        for stay in self.stays.values_mut() {
            stay.strict = false;
        }
    }

    /// Whether the network is down, for everyone.
    fn is_out(&self) -> bool {
        self.relay_back.is_some() || self.udp_back.is_some() || self.honest_at.is_some()
    }

    /// Whether the network was down since then, or shortly before.
    fn was_out_since(&self, then: Instant) -> bool {
        self.is_out() || self.last_outage.is_some_and(|at| at + RECOVERY > then)
    }

    /// Whether the network was just down, for everyone.
    fn is_rough(&self) -> bool {
        self.is_out() || self.last_outage.is_some_and(|at| at.elapsed() < RECOVERY)
    }

    fn say(&mut self, what: impl Into<String>) {
        const STEPS: usize = 50;
        if self.trace.len() == STEPS {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:.3} s: {}", self.started.elapsed().as_secs_f64(), what.into()));
    }

    fn happens(&mut self, what: &str, how: String) {
        self.count(what);
        self.say(format!("{what}: {how}"));
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }
}

/// A reason without its details.
fn kind(reason: &EndReason) -> String {
    let words = reason.to_string();
    words.split(':').next().unwrap_or_default().to_owned()
}

/// Whether it was taken.
fn send(peer: &UhstPeer, flow: &mut Flow, channel: UhstChannel, size: usize) -> bool {
    let message = flow.next(channel, size);
    let size = message.len();
    let taken = peer.send_on(channel, message).is_ok();
    if taken {
        flow.accepted(channel, size);
    }
    taken
}

fn secret(known: bool) -> RelayConfig {
    RelayConfig { secret: known.then(|| "a secret that is kept".to_owned()), ..RelayConfig::default() }
}
