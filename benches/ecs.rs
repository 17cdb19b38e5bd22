//! What the plugin costs a frame. `cargo bench --bench ecs`
//!
//! A frame is timed as a whole: `App::update` on the host, with its peers in another app of this process. Medians. All
//! systems run on one thread: between frames as short as these Bevy's threads sleep, and to wake them takes longer than
//! what is measured.

use std::time::{Duration, Instant};

use bevy::{
    ecs::schedule::{Schedules, SingleThreadedExecutor},
    prelude::*,
};
use bevy_uhst::{
    prelude::*,
    test_app::{TestNetwork, link, update_until},
};

const FRAME: Duration = Duration::from_micros(16_667);

fn main() {
    let mut plain = without_the_plugin();
    for peers in [0, 16, 64] {
        let (mut host, _clients) = session(peers);
        // In turn, so that what the machine does meanwhile meets both.
        let (without, with): (Vec<_>, Vec<_>) =
            (0..20_000).map(|_| (time(|| plain.update()), time(|| host.update()))).unzip();
        let (without, with) = (middle(without), middle(with));
        let cost = micros(with) - micros(without);
        println!("an idle frame, {peers:>2} peers           {:>9.2} µs, {cost:+.2} µs", micros(with));
    }
    messages_in();
    messages_out();
    game();
}

/// Many messages wait for one frame.
fn messages_in() {
    const MESSAGES: usize = 1000;
    let (mut host, mut clients) = session(1);
    let idle = median(500, || time(|| host.update()));
    let mut sent = 0;
    let per_message = median(50, || {
        sent += MESSAGES as u64;
        let world = clients.world_mut();
        let client = world.query::<&UhstClient>().single(world).expect("one client");
        for _ in 0..MESSAGES {
            client.send(&b"0123456789abcdef0123456789abcdef"[..]).expect("room for it");
        }
        all_are_there(&mut host, sent);
        let frame = time(|| host.update());
        let arrived = host.world_mut().resource_mut::<Messages<UhstMessage>>().drain().count();
        assert_eq!(arrived, MESSAGES, "they did not arrive in time");
        frame.saturating_sub(idle) / MESSAGES as u32
    });
    println!("a message in                      {:>9} ns", per_message.as_nanos());
}

/// Waits until so many messages of its peer have come, before the frame begins that is to read them.
fn all_are_there(host: &mut App, messages: u64) {
    let begun = Instant::now();
    let peer = host.world_mut().query::<&UhstPeer>().single(host.world()).expect("one peer");
    while peer.traffic().received_messages < messages {
        assert!(begun.elapsed() < Duration::from_secs(20), "they never arrived");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a system spends in `send` and `broadcast`.
fn messages_out() {
    const MESSAGES: u32 = 100;
    let (mut host, mut clients) = session(64);
    let payload = Payload::from(vec![7; 32]);
    let mut sent = |name: &str, per: u32, send: &dyn Fn(&UhstHost, &UhstPeer)| {
        let cost = median(100, || {
            let world = host.world_mut();
            let (mut hosts, mut peers) = (world.query::<&UhstHost>(), world.query::<&UhstPeer>());
            let session = hosts.single(world).expect("one host");
            let peer = peers.iter(world).next().expect("peers");
            let cost = time(|| (0..MESSAGES).for_each(|_| send(session, peer)));
            std::thread::sleep(Duration::from_millis(10));
            host.update();
            clients.update();
            cost / (MESSAGES * per)
        });
        println!("{name} {:>9} ns", cost.as_nanos());
    };
    sent("a message out, to one peer       ", 1, &|_, peer| {
        peer.send(payload.clone()).expect("room for it");
    });
    sent("a broadcast, to each of 64 peers ", 64, &|host, _| {
        host.broadcast_on(UhstChannel::Unreliable, payload.clone());
    });
}

/// 64 peers send 60 messages a second each, and the host answers all of them in every frame.
///
/// At the pace of a game: a frame after a pause costs more than one of many in a row, whatever it does.
fn game() {
    let mut plain = without_the_plugin();
    let plain = paced(|| {}, || plain.update());
    println!("at 60 Hz, without the plugin      {:>9.2} µs", micros(plain));

    let (mut host, mut clients) = session(64);
    let quiet = paced(|| {}, || host.update());
    println!("at 60 Hz, 64 silent peers         {:>9.2} µs, {}", micros(quiet), share(quiet, plain));

    host.add_systems(Update, |mut messages: MessageReader<UhstMessage>, host: Single<&UhstHost>| {
        let read = messages.read().count();
        host.broadcast_on(UhstChannel::UnreliableSequenced, (read as u64).to_le_bytes());
    });
    let send = || {
        clients.update();
        let world = clients.world_mut();
        for client in world.query::<&UhstClient>().iter(world) {
            client.send_on(UhstChannel::UnreliableSequenced, [0_u8; 32]).expect("room for it");
        }
    };
    let busy = paced(send, || host.update());
    println!("at 60 Hz, 64 peers that all talk  {:>9.2} µs, {}", micros(busy), share(busy, plain));
}

/// The frame in the middle of a period, in which others had time for what comes `before`.
fn paced(mut before: impl FnMut(), mut frame: impl FnMut()) -> Duration {
    let mut next = Instant::now();
    median(300, || {
        next += FRAME;
        before();
        std::thread::sleep(FRAME / 2);
        let cost = time(&mut frame);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        cost
    })
}

fn share(frame: Duration, plain: Duration) -> String {
    let cost = micros(frame) - micros(plain);
    format!("{cost:+.2} µs, {:.2} % of the frame", cost / micros(FRAME) * 100.0)
}

fn without_the_plugin() -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins);
    app.update();
    on_one_thread(&mut app);
    app
}

fn on_one_thread(app: &mut App) {
    for (_, schedule) in app.world_mut().resource_mut::<Schedules>().iter_mut() {
        schedule.set_executor(SingleThreadedExecutor::new());
    }
}

/// A host, and its peers in another app.
fn session(peers: usize) -> (App, App) {
    let network = TestNetwork::memory();
    let mut host = App::new();
    host.add_plugins((MinimalPlugins, UhstPlugin::host("bench").relay(network.relay())));
    let mut clients = App::new();
    clients.add_plugins((MinimalPlugins, UhstPlugin::default().relay(network.relay())));
    let patience = Duration::from_secs(60);
    assert!(update_until(&mut [&mut host], patience, |apps| {
        let world = apps[0].world_mut();
        world.query::<&UhstHost>().iter(world).any(UhstHost::is_ready)
    }));
    for _ in 0..peers {
        clients.world_mut().spawn(UhstClient::from(link(&host)));
    }
    assert!(update_until(&mut [&mut host, &mut clients], patience, |apps| {
        apps.iter_mut().all(|app| {
            let world = app.world_mut();
            world.query::<&UhstPeer>().iter(world).count() == peers
        })
    }));
    on_one_thread(&mut host);
    on_one_thread(&mut clients);
    (host, clients)
}

fn time(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

fn median(times: usize, measure: impl FnMut() -> Duration) -> Duration {
    middle(std::iter::repeat_with(measure).take(times).collect())
}

fn middle(mut measured: Vec<Duration>) -> Duration {
    measured.sort_unstable();
    measured[measured.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
