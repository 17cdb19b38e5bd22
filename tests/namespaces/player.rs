//! The process in a namespace: a relay, or a host or client that sends numbered messages at the rate of a game and
//! reports which messages of the other side arrive.

use std::{
    io::BufRead,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bevy::prelude::*;
use bevy_uhst::{
    EmbeddedRelay,
    prelude::*,
    relay::{RelayConfig, RelayServer},
    test_app::{TestEvent, TestLog, TestNetwork, update_until, wait_for_arrival},
};

use crate::{
    joiners::joiners,
    status::{Delays, Status},
};

/// The messages per second on each channel.
const RATE: f64 = 60.0;
const MESSAGE: usize = 64;
/// The size of a message of a flood, in bytes.
const LARGE: usize = 1 << 20;
/// The address on which a relay listens, alone or embedded in a host.
const RELAY: ([u8; 4], u16) = ([0, 0, 0, 0], 8080);
pub const TELL: Duration = Duration::from_millis(50);

/// The entry point of the processes. It does nothing when it runs as a test.
#[test_log::test]
#[ignore = "the tests start it in a namespace"]
fn player() {
    let setting = |name: &str| std::env::var(format!("BEVY_UHST_TEST_{name}")).ok();
    match setting("ROLE").as_deref() {
        Some("relay") => relay(),
        Some("embedded") => embedded(),
        Some(role) => {
            let paths = match setting("PATHS").as_deref() {
                None => PathPolicy::Automatic,
                Some("direct") => PathPolicy::DirectOnly,
                Some(_) => PathPolicy::RelayOnly,
            };
            let embedded = EmbeddedRelay { bind: RELAY.into(), ..EmbeddedRelay::default() };
            let relay = setting("RELAY").map_or(Relay::Embedded(embedded), Relay::Url);
            if let Some(("joiners", count)) = role.split_once(' ') {
                joiners(count.parse().unwrap(), &relay);
            }
            let network = TestNetwork::loopback().paths(paths);
            Talker::new(network.app(), role == "host", relay, setting("PATIENT").is_some()).run();
        }
        None => {}
    }
}

pub fn tell(status: &Status) {
    println!("@status {}", serde_json::to_string(status).unwrap());
}

fn relay() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _relay =
        runtime.block_on(RelayServer::start(RelayConfig { bind: RELAY.into(), ..RelayConfig::default() })).unwrap();
    tell(&Status { ready: true, ..Status::default() });
    // The relay runs until the test ends.
    for _ in std::io::stdin().lines() {}
}

/// Runs a host with an embedded relay, and a client that joins it on this machine by its short code.
fn embedded() {
    let network = TestNetwork::memory();
    let mut host = network.app();
    host.world_mut().spawn(UhstHost::new("namespaces").relay(Relay::default()));
    let mut client = None;
    loop {
        update_until(&mut [&mut host], TELL, |_| false);
        let ready = TestLog::of(&host).has(|event| matches!(event, TestEvent::Ready(_)));
        if ready && client.is_none() {
            client = Some(network.join_with(UhstClient::join("namespaces").relay(Relay::default())));
        }
        client.iter_mut().for_each(App::update);
        let connected = TestLog::of(&host).count(|event| matches!(event, TestEvent::Connected(_))) as u32;
        let mut hosts = host.world_mut().query::<&UhstHost>();
        let links = hosts.iter(host.world()).flat_map(UhstHost::links).map(ToString::to_string).collect();
        tell(&Status { ready, connected, links, ..Status::default() });
    }
}

/// Creates a message with its number and the time.
fn message(number: u32, size: usize) -> Vec<u8> {
    let sent: u64 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros().try_into().unwrap();
    let mut message = vec![0; size];
    message[..4].copy_from_slice(&number.to_be_bytes());
    message[4..12].copy_from_slice(&sent.to_be_bytes());
    message
}

fn read(message: &[u8]) -> (u32, Duration) {
    let number = u32::from_be_bytes(message[..4].try_into().unwrap());
    let sent = UNIX_EPOCH + Duration::from_micros(u64::from_be_bytes(message[4..12].try_into().unwrap()));
    (number, SystemTime::now().duration_since(sent).unwrap_or_default())
}

fn delays(of: &[Duration]) -> Delays {
    let mut sorted = of.to_vec();
    sorted.sort();
    let at = |part: usize| sorted.get(sorted.len() * part / 100).copied().unwrap_or_default();
    Delays { median: at(50), worst: at(99) }
}

struct Talker {
    app: App,
    is_host: bool,
    relay: Relay,
    /// Whether to join again until it works.
    patient: bool,
    status: Status,
    /// Whether to send on the reliable channel, and on the unreliable one.
    talks: [bool; 2],
    delays: [Vec<Duration>; 2],
    heard: Instant,
    pace: Duration,
}

impl Talker {
    fn new(app: App, is_host: bool, relay: Relay, patient: bool) -> Self {
        let status = Status { silent: true, ..Status::default() };
        let (talks, delays, heard) = ([false; 2], Default::default(), Instant::now());
        let pace = Duration::from_secs_f64(1.0 / RATE);
        let mut talker = Talker { app, is_host, relay, patient, status, talks, delays, heard, pace };
        talker.begin();
        talker
    }

    fn begin(&mut self) {
        let relay = self.relay.clone();
        if self.is_host {
            self.app.world_mut().spawn(UhstHost::new("namespaces").max_peers(64).relay(relay));
        } else {
            self.app.world_mut().spawn(UhstClient::join("namespaces").relay(relay));
        }
    }

    fn run(mut self) {
        let (sender, commands) = mpsc::channel();
        thread::spawn(move || {
            std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let (mut send_at, mut tell_at) = (Instant::now(), Instant::now());
        loop {
            wait_for_arrival(&self.app, send_at.saturating_duration_since(Instant::now()));
            self.app.update();
            let events = std::mem::take(&mut self.app.world_mut().resource_mut::<TestLog>().0);
            for event in events {
                self.event(event);
            }
            self.status.gap = self.status.gap.max(self.heard.elapsed());
            if Instant::now() >= send_at {
                send_at += self.pace;
                self.send();
            }
            if Instant::now() >= tell_at {
                tell_at += TELL;
                [self.status.reliable, self.status.unreliable] =
                    self.delays.each_ref().map(|delays| self::delays(delays));
                tell(&self.status);
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.command(&command),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn command(&mut self, command: &str) {
        match command {
            "talk" => self.talks = [true; 2],
            "talk reliable" => self.talks = [true, false],
            "talk unreliable" => self.talks = [false, true],
            "silent" => self.talks = [false; 2],
            "reset" => {
                self.delays = Default::default();
                self.heard = Instant::now();
                self.status.gap = Duration::ZERO;
            }
            "leave" => self.leave(),
            other => match other.split_once(' ') {
                Some(("rate", rate)) => self.pace = Duration::from_secs_f64(1.0 / rate.parse::<f64>().unwrap()),
                Some(("flood", messages)) => self.flood(messages.parse().unwrap()),
                _ => panic!("{other}?"),
            },
        }
        self.status.silent = self.talks == [false; 2];
    }

    fn leave(&mut self) {
        let world = self.app.world_mut();
        world.query::<&UhstHost>().iter(world).for_each(UhstHost::leave);
        world.query::<&UhstClient>().iter(world).for_each(UhstClient::leave);
    }

    /// Queues this many large messages at once.
    fn flood(&mut self, messages: u32) {
        let world = self.app.world_mut();
        let peer = world.query::<&UhstPeer>().single(world).unwrap();
        for _ in 0..messages {
            peer.send(message(self.status.sent.reliable, LARGE)).unwrap();
            self.status.sent.reliable += 1;
        }
    }

    fn send(&mut self) {
        let world = self.app.world_mut();
        let peers: Vec<_> = world.query::<&UhstPeer>().iter(world).collect();
        let Some(peer) = peers.first() else { return };
        self.status.rtt = peer.rtt().unwrap_or_default();
        let Status { sent, .. } = &mut self.status;
        for (channel, talks, count) in [
            (UhstChannel::Reliable, self.talks[0], &mut sent.reliable),
            (UhstChannel::Unreliable, self.talks[1], &mut sent.unreliable),
        ] {
            let message = message(*count, MESSAGE);
            // A host sends the message to all of its peers.
            let sent = |peer: &&&UhstPeer| peer.send_on(channel, message.clone()).is_ok();
            if talks && peers.iter().filter(sent).count() > 0 {
                *count += 1;
            }
        }
    }

    fn event(&mut self, event: TestEvent) {
        match event {
            TestEvent::Message(message) => {
                let (number, delay) = read(message.payload.as_bytes());
                let received = &mut self.status.received;
                if message.channel == UhstChannel::Reliable {
                    self.status.broken |= number != received.reliable;
                    received.reliable += 1;
                    self.delays[0].push(delay);
                    self.heard = Instant::now();
                } else {
                    received.unreliable += 1;
                    self.delays[1].push(delay);
                }
                return;
            }
            TestEvent::Ready(_) => self.status.ready = true,
            TestEvent::Connected(_) => self.status.connected += 1,
            TestEvent::Interrupted(_) => self.status.interrupted += 1,
            TestEvent::Resumed(_) => self.status.resumed += 1,
            TestEvent::Disconnected(ref event) => {
                self.status.disconnected += 1;
                self.status.reason = Some(event.reason.to_string());
            }
            TestEvent::PathChanged(ref event) => self.status.direct = event.path == Path::Direct,
            TestEvent::Ended(_) if self.patient => {
                thread::sleep(Duration::from_millis(200));
                self.begin();
            }
            TestEvent::Ended(ref event) => {
                self.status.ended += 1;
                self.status.no_direct_path = matches!(event.reason, EndReason::NoDirectPath(_));
            }
            _ => {}
        }
        println!("@event {event:?}");
    }
}
