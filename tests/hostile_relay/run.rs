//! One run: a host and its clients send messages through a hostile relay. All of them must have arrived once the relay is
//! honest again.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::support::PATIENCE;
use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    relay::RelayConfig,
    test_app::{TestEvent, TestLog, record},
};
use fastrand::Rng;
use tokio::runtime::Handle;

use crate::{
    faults::{Faults, Side, millis},
    ledger::Flow,
    proxy::{HostileRelay, Mode, Way},
    support::{NpmRelay, StandaloneRelay},
};

/// The frame time of all apps.
const FRAME: Duration = Duration::from_millis(16);
/// How long a client with a typed code waits for a host that its relay does not know.
const HOST_MISSING: Duration = Duration::from_secs(2);
/// The interval of messages on each channel and each way.
const PACE: Duration = Duration::from_millis(50);
const CHANNELS: [UhstChannel; 3] = [UhstChannel::Reliable, UhstChannel::ReliableUnordered, UhstChannel::Unreliable];

/// A relay behind the proxy.
pub enum AnyRelay {
    Ours(StandaloneRelay),
    Original(NpmRelay),
}

impl AnyRelay {
    pub fn address(&self) -> &str {
        match self {
            AnyRelay::Ours(relay) => relay.address(),
            AnyRelay::Original(relay) => relay.address(),
        }
    }

    fn kill(&mut self) {
        match self {
            AnyRelay::Ours(relay) => relay.kill(),
            AnyRelay::Original(relay) => relay.kill(),
        }
    }

    /// Restarts the relay. `known`: with its former secret, if it has one.
    fn restart(&mut self, known: bool) {
        match self {
            AnyRelay::Ours(relay) => {
                let secret = known.then(|| "a secret that is kept".to_owned());
                relay.restart(RelayConfig { secret, ..RelayConfig::default() });
            }
            AnyRelay::Original(relay) => relay.restart(),
        }
    }
}

/// An event that concerns all requests of a side, or the relay itself.
#[derive(Clone, Debug)]
pub enum Happening {
    Hold(Side, Vec<Way>, Duration),
    /// All streams are cut.
    Cut,
    /// The relay is gone for this time, and then knows its secret or not.
    Restart(Duration, bool),
}

/// The plan of a run.
pub struct Plan {
    /// The seed of the sizes of messages.
    pub seed: u64,
    pub paths: PathPolicy,
    pub clients: usize,
    /// Whether the relay is hostile before the host listens and while clients join, too.
    pub from_the_start: bool,
    /// How long the relay is hostile.
    pub hostile: Duration,
    /// The events, by the time since the relay has become hostile.
    pub happenings: Vec<(Duration, Happening)>,
}

impl Plan {
    /// Creates a plan with one client that is connected before anything happens.
    pub fn calm(paths: PathPolicy, hostile: Duration) -> Self {
        Plan { seed: 0, paths, clients: 1, from_the_start: false, hostile, happenings: Vec::new() }
    }

    pub fn seeded(seed: u64, paths: PathPolicy) -> Self {
        let mut random = Rng::with_seed(!seed);
        let hostile = Duration::from_millis(random.u64(3000..5500));
        let mut happenings = Vec::new();
        for _ in 0..random.usize(..4) {
            let side = if random.bool() { Side::Host } else { Side::Client };
            let ways = [vec![Way::Up], vec![Way::Down], vec![Way::Up, Way::Down]];
            let hold = Happening::Hold(side, ways[random.usize(..3)].clone(), millis(&mut random, 3500));
            happenings.push((millis(&mut random, 3000), hold));
        }
        if random.u8(..10) < 3 {
            let restart = Happening::Restart(millis(&mut random, 2000), random.bool());
            happenings.push((millis(&mut random, 3000), restart));
        }
        happenings.sort_by_key(|(at, _)| *at);
        let (clients, from_the_start) = (random.usize(1..3), random.u8(..10) < 7);
        Plan { seed, paths, clients, from_the_start, hostile, happenings }
    }
}

/// A client, with the messages sent both ways.
struct Guest {
    app: App,
    id: String,
    number: u32,
    connected: bool,
    up: Flow,
    down: Flow,
    /// Its peer at the host.
    peer: Option<Entity>,
}

/// The apps of a run.
struct Party<'a> {
    host: App,
    guests: Vec<Guest>,
    proxy: &'a HostileRelay,
    random: Rng,
    talk_at: Instant,
}

/// Plays a plan, and returns the time from the honesty of the relay until everything had arrived.
///
/// # Errors
///
/// The broken promise, with the trace.
pub fn play(runtime: &Handle, relay: &mut AnyRelay, plan: &Plan, faults: impl Faults) -> Result<Duration, String> {
    let proxy = HostileRelay::start(runtime, relay.address(), faults);
    let result = Party::play(runtime, &proxy, relay, plan);
    result.map_err(|why| {
        proxy.note(format_args!("FAILED: {why}"));
        format!("{why}\n  {}", proxy.trace().join("\n  "))
    })
}

impl<'a> Party<'a> {
    fn play(runtime: &Handle, proxy: &'a HostileRelay, relay: &mut AnyRelay, plan: &Plan) -> Result<Duration, String> {
        // A relay may take a moment to miss the host of an earlier run.
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let id = format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed));
        let app = |client: Option<u32>| {
            let mut app = App::new();
            let plugin = UhstPlugin::default().ice_servers([]).paths(plan.paths).runtime(runtime.clone());
            app.add_plugins((MinimalPlugins, plugin));
            record(&mut app);
            match client {
                None => app.world_mut().spawn(UhstHost::new(id.clone()).relay(Relay::Url(proxy.url(Side::Host)))),
                Some(client) => app.world_mut().spawn(joiner(proxy, &id, client)),
            };
            app
        };
        let joining = if matches!(relay, AnyRelay::Original(_)) { Mode::Joining } else { Mode::Hostile };
        proxy.set(if plan.from_the_start { joining } else { Mode::Honest });
        let mut party = Party {
            host: app(None),
            guests: Vec::new(),
            proxy,
            random: Rng::with_seed(plan.seed),
            talk_at: Instant::now(),
        };
        let ready = |party: &mut Self| {
            Ok(party.host.world_mut().query::<&UhstHost>().single(party.host.world()).is_ok_and(UhstHost::is_ready))
        };
        party.frames_until(PATIENCE, "the host does not listen", ready)?;
        for client in 0..plan.clients as u32 {
            let (up, down) = (Flow::new(2 * client), Flow::new(2 * client + 1));
            let app = app(Some(client));
            party.guests.push(Guest { app, id: id.clone(), number: client, connected: false, up, down, peer: None });
        }
        if !plan.from_the_start || joining == Mode::Joining {
            party.frames_until(PATIENCE, "not connected", |party| Ok(party.is_connected()))?;
        }
        let disturbed = party.disturbed(relay, plan);
        if disturbed.is_err() {
            // For the next run: it may be gone.
            relay.restart(true);
        }
        disturbed?;
        proxy.set(Mode::Honest);
        let calm = Instant::now();
        party.frames_until(
            PATIENCE,
            "not all has arrived",
            |party| Ok(party.is_connected() && party.missing() == 0),
        )?;
        let took = calm.elapsed();
        // It goes on.
        party.talk();
        party.frames_until(PATIENCE, "what is sent afterwards does not arrive", |party| Ok(party.missing() == 0))?;
        Ok(took)
    }

    fn disturbed(&mut self, relay: &mut AnyRelay, plan: &Plan) -> Result<(), String> {
        self.proxy.set(Mode::Hostile);
        let mut happenings = plan.happenings.iter().peekable();
        let mut back: Option<(Instant, bool)> = None;
        let begun = Instant::now();
        self.frames_until(PATIENCE, "not connected", |party| {
            if party.talk_at <= Instant::now() {
                party.talk_at = Instant::now() + PACE;
                party.talk();
            }
            if let Some((_, happening)) = happenings.next_if(|(at, _)| *at <= begun.elapsed()) {
                match happening {
                    Happening::Hold(side, ways, time) => party.proxy.hold(*side, ways, *time),
                    Happening::Cut => party.proxy.cut_all(),
                    Happening::Restart(time, known) => {
                        party.proxy.note(format_args!("the relay is gone for {time:?}, knows its secret: {known}"));
                        relay.kill();
                        back = Some((Instant::now() + *time, *known));
                    }
                }
            }
            if let Some((_, known)) = back.take_if(|(at, _)| *at <= Instant::now()) {
                relay.restart(known);
                party.proxy.note("the relay is back");
            }
            Ok(begun.elapsed() >= plan.hostile && back.is_none() && happenings.peek().is_none())
        })
    }

    fn is_connected(&self) -> bool {
        self.guests.iter().all(|guest| guest.connected && guest.peer.is_some())
    }

    /// Returns the number of reliable messages that have not arrived.
    fn missing(&self) -> u64 {
        self.guests.iter().map(|guest| guest.up.missing() + guest.down.missing()).sum()
    }

    /// Updates all apps until a condition holds.
    fn frames_until(
        &mut self,
        patience: Duration,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let begun = Instant::now();
        while !done(self)? {
            if begun.elapsed() > patience {
                let missing: Vec<_> =
                    self.guests.iter().map(|guest| [guest.up.missing(), guest.down.missing()]).collect();
                return Err(format!("{what} after {patience:?}; missing up and down: {missing:?}"));
            }
            self.frame()?;
            std::thread::sleep(FRAME);
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), String> {
        self.host.update();
        for event in events(&mut self.host) {
            self.host_event(&event).map_err(|why| format!("host: {why}"))?;
        }
        for guest in &mut self.guests {
            guest.app.update();
            for event in events(&mut guest.app) {
                guest.event(&event, self.proxy).map_err(|why| format!("client {}: {why}", guest.number))?;
            }
        }
        Ok(())
    }

    fn host_event(&mut self, event: &TestEvent) -> Result<(), String> {
        match event {
            TestEvent::Message(message) => {
                let guest = self.guests.iter_mut().find(|guest| guest.peer == Some(message.peer));
                return guest.ok_or("a message of nobody")?.up.arrived(message.channel, message.payload.as_bytes());
            }
            TestEvent::Connected(connected) => {
                let peer = self.host.world().get::<UhstPeer>(connected.entity).ok_or("no peer")?;
                let index = peer.metadata().as_ref().try_into().map(u32::from_be_bytes).map_err(|_| "whose is it?")?;
                let before = self.guests[index as usize].peer.replace(connected.entity);
                if before.is_some() {
                    return Err(format!("client {index} connected twice"));
                }
            }
            _ => {}
        }
        note(event, self.proxy, "host".to_owned())
    }

    /// Sends one message each way on each channel.
    fn talk(&mut self) {
        for guest in &mut self.guests {
            let client = guest.app.world_mut().query::<&UhstPeer>().single(guest.app.world()).ok();
            let at_host = guest.peer.and_then(|peer| self.host.world().get::<UhstPeer>(peer));
            for (peer, flow) in [(client, &mut guest.up), (at_host, &mut guest.down)] {
                let Some(peer) = peer else { continue };
                for channel in CHANNELS {
                    let size = if self.random.u8(..50) == 0 { 40_000 } else { self.random.usize(..300) };
                    if peer.send_on(channel, flow.next(channel, size)).is_ok() {
                        flow.accepted(channel, size);
                    }
                }
            }
        }
    }
}

impl Guest {
    fn event(&mut self, event: &TestEvent, proxy: &HostileRelay) -> Result<(), String> {
        match event {
            TestEvent::Message(message) => {
                return self.down.arrived(message.channel, message.payload.as_bytes());
            }
            TestEvent::Connected(_) => self.connected = true,
            // The relay has known no host for that long. The player joins again.
            TestEvent::Ended(event)
                if event.reason == EndReason::NoSuchHost
                    && !self.connected
                    && self.peer.is_none()
                    && proxy.host_missing() >= HOST_MISSING =>
            {
                proxy.note(format_args!("client {}: joins again", self.number));
                self.app.world_mut().spawn(joiner(proxy, &self.id, self.number));
                return Ok(());
            }
            _ => {}
        }
        note(event, proxy, format!("client {}", self.number))
    }
}

fn joiner(proxy: &HostileRelay, id: &str, number: u32) -> UhstClient {
    UhstClient::join(id).relay(Relay::Url(proxy.url(Side::Client))).metadata(number.to_be_bytes().to_vec())
}

fn events(app: &mut App) -> Vec<TestEvent> {
    std::mem::take(&mut app.world_mut().resource_mut::<TestLog>().0)
}

/// Checks that no session has ended.
fn note(event: &TestEvent, proxy: &HostileRelay, whose: String) -> Result<(), String> {
    let (end, what) = match event {
        TestEvent::Disconnected(event) => (true, format!("disconnected: {}", event.reason)),
        TestEvent::Ended(event) => (true, format!("ended: {}", event.reason)),
        TestEvent::Diagnostic(event) => (false, event.text.clone()),
        TestEvent::PathChanged(event) => (false, format!("{:?}", event.path)),
        TestEvent::Connected(_) => (false, "connected".to_owned()),
        other => (false, format!("{other:?}")),
    };
    proxy.note(format_args!("{whose}: {what}"));
    if end { Err(what) } else { Ok(()) }
}
