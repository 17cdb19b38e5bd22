//! Runs the soak, and checks the network, the ends and the memory.

mod frames;
mod steps;

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
    party::{Known, Node},
    proxy::HostileRelay,
    relay::StandaloneRelay,
    stay::{Ending, Phase, Stay},
    watch::{Open, SETTLING, SLACK},
};

/// The shortest time between two frames of all apps.
const FRAME: Duration = Duration::from_millis(5);
/// The longest time until everything has arrived, whatever goes wrong meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest time until both sides report an end: longer than a side delivers what it sent before, and the other one then
/// waits for a path.
const END_PATIENCE: Duration = Duration::from_secs(80);
/// How long a host keeps a client that never connected and may be asleep.
const LATE: Duration = Duration::from_secs(20);
/// How long an outage of the network has effects after its end.
const RECOVERY: Duration = Duration::from_secs(10);
/// After a frame longer than this, checks that depend on time are skipped, since the machine was busy.
const STALL: Duration = Duration::from_millis(400);
/// In a frame longer than this, heartbeats may have been late, too.
const STARVED: Duration = Duration::from_millis(1500);

/// The number of panics in the background. Such a panic ends only its task.
static PANICS: AtomicUsize = AtomicUsize::new(0);

pub struct Soak {
    random: Rng,
    seed: u64,
    time: Duration,
    max_players: usize,
    may_cut_udp: bool,
    started: Instant,
    relay: StandaloneRelay,
    /// The proxy in front of the relay, for all sides.
    proxy: HostileRelay,
    _proxy_runtime: Runtime,
    /// The time at which the proxy becomes honest again.
    honest_at: Option<Instant>,
    /// The time at which the relay comes back, and whether it keeps its secret.
    relay_back: Option<(Instant, bool)>,
    udp_back: Option<Instant>,
    /// The last time at which the relay or all direct paths were down or disturbed.
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

    /// Returns the result as a line of JSON.
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

    /// Takes random steps for this time.
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

    /// Lets everybody leave, and checks that nothing is left open.
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
        self.mend_networks();
        for id in playing {
            self.drain(id, Ending::Leave);
        }
        let deadline = Instant::now() + PATIENCE + END_PATIENCE;
        while !self.stays.is_empty() {
            if Instant::now() > deadline {
                return Err(format!("{} sessions do not end", self.stays.len()));
            }
            // Clients that were joining when the break began leave, too.
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

    /// Waits until the number of open things no longer falls, and returns it.
    fn settle(&mut self) -> Result<Open, String> {
        let first = self.watched.first().copied();
        let settled = Instant::now() + SETTLING;
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            self.frame()?;
            let open = Open::now(self.host.tasks() + self.relay.tasks());
            match first {
                None if Instant::now() >= settled => return Ok(open),
                Some(first) if open.is_within(&first) => return Ok(open),
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

    fn playing(&self) -> impl Iterator<Item = u32> {
        self.stays.values().filter(|stay| stay.phase == Phase::Playing && stay.is_open()).map(|stay| stay.id)
    }

    /// Chooses one of the connected players.
    fn someone(&mut self) -> Option<u32> {
        let playing: Vec<u32> = self.playing().collect();
        (!playing.is_empty()).then(|| playing[self.random.usize(..playing.len())])
    }

    fn some_player(&mut self) -> Option<usize> {
        (!self.players.is_empty()).then(|| self.random.usize(..self.players.len()))
    }

    /// Sets the network conditions of one player.
    fn worsen(&mut self, id: u32, conditions: NetworkConditions) {
        let Some(stay) = self.stays.get_mut(&id) else { return };
        stay.worse = !conditions.is_perfect();
        stay.blackout |= conditions.loss >= 1.0;
        stay.slow |= conditions.bandwidth.is_some_and(|bandwidth| bandwidth < 100_000);
        let Some(player) = self.players.iter().find(|player| player.stay == Some(id)) else { return };
        if let Some(client) = player.node.app.world().get::<UhstClient>(stay.session) {
            client.set_conditions(conditions);
        }
    }

    /// Makes all networks of players perfect.
    fn mend_networks(&mut self) {
        let worse: Vec<u32> = self.stays.values().filter(|stay| stay.worse).map(|stay| stay.id).collect();
        for id in worse {
            self.say(format!("a perfect network for {id}"));
            self.worsen(id, NetworkConditions::PERFECT);
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

    /// Returns whether the network is down for everyone.
    fn is_out(&self) -> bool {
        self.relay_back.is_some() || self.udp_back.is_some() || self.honest_at.is_some()
    }

    /// Returns whether the network was down since then, or shortly before.
    fn was_out_since(&self, then: Instant) -> bool {
        self.is_out() || self.last_outage.is_some_and(|at| at + RECOVERY > then)
    }

    /// Returns whether the network is down for everyone, or was so shortly before.
    fn is_rough(&self) -> bool {
        self.is_out() || self.last_outage.is_some_and(|at| at.elapsed() < RECOVERY)
    }

    fn say(&mut self, what: impl Into<String>) {
        const STEPS: usize = 500;
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

fn secret(known: bool) -> RelayConfig {
    RelayConfig { secret: known.then(|| "a secret that is kept".to_owned()), ..RelayConfig::default() }
}
