//! What a typed message costs beside an untyped one of the same bytes. `cargo bench --bench typed`
//!
//! Everything runs on one thread: the app's systems by a single-threaded executor, and the network on a runtime that
//! only goes on while it is waited for. The ways take turns, and what is compared are medians. The untyped ones: `raw`
//! never looks at the bytes, `own` writes and reads them by `postcard`, as the typed one does.

use std::{
    hint::black_box,
    ops::Range,
    time::{Duration, Instant},
};

use bevy::{
    ecs::{
        schedule::{Schedules, SingleThreadedExecutor},
        system::SystemState,
    },
    prelude::*,
    time::TimeUpdateStrategy,
};
use bevy_uhst::{
    TypedMessage,
    prelude::*,
    test_app::{TestNetwork, link},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

const MESSAGES: u32 = 1000;
const ROUNDS: usize = 300;
/// How many parts of the rounds are looked at alone, to tell what is noise.
const PARTS: usize = 5;
const FRAME: Duration = Duration::from_micros(16_667);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Resource, Clone, Copy, PartialEq, Debug)]
enum Way {
    Raw,
    Own,
    Typed,
}

const WAYS: [Way; 3] = [Way::Raw, Way::Own, Way::Typed];

/// 4 bytes.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Step {
    direction: u8,
    buttons: [u8; 3],
}

/// 32 bytes.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Figure {
    position: [f32; 3],
    velocity: [f32; 3],
    facing: [f32; 2],
}

/// 200 bytes.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Crowd([[f32; 5]; 10]);

/// 1000 bytes.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Swarm([Crowd; 5]);

fn main() {
    compare(Step { direction: 3, buttons: [1, 0, 1] });
    compare(Figure { position: [1.0, 2.0, 3.0], velocity: [0.1, 0.2, 0.3], facing: [0.6, 0.8] });
    compare(Crowd([[0.5; 5]; 10]));
    compare(Swarm([Crowd([[0.5; 5]; 10]); 5]));
}

fn compare<T: TypedMessage>(value: T) {
    let mut pair = Pair::new::<T>();
    let bytes = postcard::to_stdvec(&value).expect("it can be written");
    let mut idle = Vec::new();
    let (mut incoming, mut outgoing) = <[[Vec<Duration>; 3]; 2]>::default().into();
    for round in 0..ROUNDS {
        idle.push(pair.frames());
        for turn in 0..WAYS.len() {
            let way = (round + turn) % WAYS.len();
            incoming[way].push(pair.receive(WAYS[way], &bytes, &value));
            outgoing[way].push(pair.send(WAYS[way], &bytes, &value));
        }
    }
    let idle = median(&idle);
    show(&format!("{:>4} bytes in, read in a system", bytes.len()), &incoming, idle);
    show(&format!("{:>4} bytes out, to one peer", bytes.len()), &outgoing, Duration::ZERO);
}

/// A host and a client, connected.
struct Pair {
    runtime: Runtime,
    host: App,
    client: App,
    /// The host's peer.
    peer: Entity,
}

impl Pair {
    fn new<T: TypedMessage>() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let network = TestNetwork::memory();
        let app = |plugin: UhstPlugin| {
            let mut app = App::new();
            let plugin = plugin.relay(network.relay()).paths(PathPolicy::RelayOnly).runtime(runtime.handle().clone());
            app.add_plugins((MinimalPlugins, plugin))
                // Messages are dropped at the pace of fixed updates: one in each frame.
                .insert_resource(TimeUpdateStrategy::ManualDuration(FRAME))
                .add_uhst_message::<T>(UhstChannel::Reliable);
            app
        };
        let mut host = app(UhstPlugin::host("bench"));
        let read_raw = |mut messages: MessageReader<UhstMessage>| {
            for message in messages.read() {
                black_box(message.payload.as_bytes());
            }
        };
        let read_own = |mut messages: MessageReader<UhstMessage>| {
            for message in messages.read() {
                black_box(postcard::from_bytes::<T>(message.payload.as_bytes()).expect("what was sent"));
            }
        };
        let read_typed = |mut messages: MessageReader<FromPeer<T>>| {
            for message in messages.read() {
                black_box(&message.message);
            }
        };
        host.insert_resource(Way::Raw).add_systems(
            Update,
            (
                read_raw.run_if(resource_equals(Way::Raw)),
                read_own.run_if(resource_equals(Way::Own)),
                read_typed.run_if(resource_equals(Way::Typed)),
            ),
        );
        let mut client = app(UhstPlugin::default());
        let begun = Instant::now();
        let wait = |apps: &mut [&mut App], condition: &dyn Fn(&mut World) -> bool| {
            while !apps.iter_mut().all(|app| condition(app.world_mut())) {
                assert!(begun.elapsed() < PATIENCE, "not connected in time");
                drive(&runtime);
                apps.iter_mut().for_each(|app| app.update());
            }
        };
        wait(&mut [&mut host], &|world| world.query::<&UhstHost>().iter(world).any(UhstHost::is_ready));
        client.world_mut().spawn(UhstClient::from(link(&host)));
        wait(&mut [&mut host, &mut client], &|world| world.query::<&UhstPeer>().iter(world).count() == 1);
        for app in [&mut host, &mut client] {
            for (_, schedule) in app.world_mut().resource_mut::<Schedules>().iter_mut() {
                schedule.set_executor(SingleThreadedExecutor::new());
            }
        }
        let peer = host.world_mut().query_filtered::<Entity, With<UhstPeer>>().single(host.world()).expect("one peer");
        Pair { runtime, host, client, peer }
    }

    /// The frame that reads what has arrived, and those in which the last of it is dropped.
    fn frames(&mut self) -> Duration {
        time(|| (0..3).for_each(|_| self.host.update()))
    }

    /// Many messages wait for one frame of the host.
    fn receive<T: TypedMessage>(&mut self, way: Way, bytes: &[u8], value: &T) -> Duration {
        let expected = received(&mut self.host) + u64::from(MESSAGES);
        send::<T, UhstClient>(self.client.world_mut(), |sender, clients| match way {
            Way::Raw | Way::Own => clients.iter().try_for_each(|client| client.send(bytes)),
            Way::Typed => sender.to_host(black_box(value)),
        });
        self.host.insert_resource(way);
        self.deliver(|pair| received(&mut pair.host) == expected);
        let cost = self.frames();
        let world = self.host.world_mut();
        let left = (world.resource::<Messages<UhstMessage>>().len(), world.resource::<Messages<FromPeer<T>>>().len());
        assert_eq!(left, (0, 0), "some are dropped later");
        cost
    }

    /// What a system of the host spends in sending.
    fn send<T: TypedMessage>(&mut self, way: Way, bytes: &[u8], value: &T) -> Duration {
        let expected = received(&mut self.client) + u64::from(MESSAGES);
        let mut buffer = [0; 1024];
        let peer = self.peer;
        let cost = send::<T, UhstPeer>(self.host.world_mut(), |sender, peers| match way {
            Way::Raw => peers.get(peer).expect("connected").send(black_box(bytes)),
            Way::Own => {
                let bytes: &[u8] = postcard::to_slice(black_box(value), &mut buffer).expect("there is room");
                peers.get(peer).expect("connected").send(bytes)
            }
            Way::Typed => sender.to(peer, black_box(value)),
        });
        self.deliver(|pair| received(&mut pair.client) == expected);
        self.client.update();
        cost
    }

    /// Lets the network do its work.
    fn deliver(&mut self, is_done: impl Fn(&mut Self) -> bool) {
        let begun = Instant::now();
        while !is_done(self) {
            assert!(begun.elapsed() < PATIENCE, "they never arrived");
            drive(&self.runtime);
        }
    }
}

fn drive(runtime: &Runtime) {
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
}

/// As many times as there are messages; what that takes.
fn send<T: TypedMessage, C: Component>(
    world: &mut World,
    mut message: impl FnMut(&UhstSender<T>, &Query<&C>) -> Result<(), SendError>,
) -> Duration {
    let mut state: SystemState<(UhstSender<T>, Query<&C>)> = SystemState::new(world);
    let (sender, query) = state.get(world).expect("valid");
    time(|| (0..MESSAGES).for_each(|_| message(&sender, &query).expect("room for it")))
}

/// How many messages this app's peer has sent us.
fn received(app: &mut App) -> u64 {
    let world = app.world_mut();
    world.query::<&UhstPeer>().single(world).expect("one peer").traffic().received_messages
}

/// A line for people: what a message costs on each way, and how many times the others the typed one costs; with what
/// parts of the rounds alone would have said.
fn show(what: &str, ways: &[Vec<Duration>; 3], idle: Duration) {
    let cost = |way: Way, rounds: Range<usize>| {
        median(&ways[way as usize][rounds]).saturating_sub(idle).as_secs_f64() * 1e9 / f64::from(MESSAGES)
    };
    let times = |other: Way| {
        let ratio = |rounds: Range<usize>| cost(Way::Typed, rounds.clone()) / cost(other, rounds);
        let parts = (0..PARTS).map(|part| ratio(part * ROUNDS / PARTS..(part + 1) * ROUNDS / PARTS));
        let (low, high) = parts.fold((f64::MAX, 0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
        format!("{:.2} times {other:?} ({low:.2} to {high:.2})", ratio(0..ROUNDS))
    };
    let [raw, own, typed] = WAYS.map(|way| cost(way, 0..ROUNDS));
    println!("{what}: Raw {raw:.0} ns, Own {own:.0} ns, Typed {typed:.0} ns: {}, {}", times(Way::Raw), times(Way::Own));
}

fn time(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

fn median(measured: &[Duration]) -> Duration {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
