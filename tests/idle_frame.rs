//! A frame in which nothing arrives allocates nothing, however many peers are connected.

use std::time::{Duration, Instant};

use bevy::{
    ecs::schedule::{Schedules, SingleThreadedExecutor},
    prelude::*,
    time::TimeUpdateStrategy,
};
use bevy_uhst::{
    prelude::*,
    test_app::{TestNetwork, link, update_until},
};

/// The allocator counts by thread, so every system runs on this one.
fn on_one_thread(app: &mut App) {
    for (_, schedule) in app.world_mut().resource_mut::<Schedules>().iter_mut() {
        schedule.set_executor(SingleThreadedExecutor::new());
    }
}

fn allocations(app: &mut App, frames: usize) -> u64 {
    let measured = allocation_counter::measure(|| {
        for _ in 0..frames {
            app.update();
        }
    });
    measured.count_total
}

#[test]
fn an_idle_frame_allocates_nothing() {
    const PEERS: usize = 16;
    let network = TestNetwork::memory();
    let mut host = App::new();
    let plugin = UhstPlugin::host("game").relay(network.relay());
    #[cfg(feature = "discovery")]
    let plugin = plugin.discovery(Discovery::ThisMachine);
    host.add_plugins((MinimalPlugins, plugin));
    // One that finds nothing has nothing to say.
    #[cfg(feature = "discovery")]
    host.world_mut().spawn(UhstBrowser::new("idle frame"));
    on_one_thread(&mut host);
    let ready = |apps: &mut [&mut App]| {
        let world = apps[0].world_mut();
        world.query::<&UhstHost>().iter(world).any(UhstHost::is_ready)
    };
    assert!(update_until(&mut [&mut host], Duration::from_secs(20), ready));

    let mut clients = network.app();
    for _ in 0..PEERS {
        clients.world_mut().spawn(UhstClient::from(link(&host)));
    }
    let all = |apps: &mut [&mut App]| {
        apps.iter_mut().all(|app| {
            let world = app.world_mut();
            world.query::<&UhstPeer>().iter(world).count() == PEERS
        })
    };
    assert!(update_until(&mut [&mut host, &mut clients], Duration::from_secs(20), all));

    // A peer that moves to another path is news, and so is a diagnostic: such frames are not idle.
    #[derive(Resource, Default)]
    struct News(usize);
    host.init_resource::<News>()
        .add_observer(|_: On<UhstPathChanged>, mut news: ResMut<News>| news.0 += 1)
        .add_observer(|_: On<UhstDiagnostic>, mut news: ResMut<News>| news.0 += 1);
    // Bevy allocates when a slow frame has more fixed steps than any before: here each has one.
    let step = host.world().resource::<Time<Fixed>>().timestep();
    host.insert_resource(TimeUpdateStrategy::ManualDuration(step));
    // What Bevy and this plugin do for the first time, a fixed step or a second of diagnostics, may allocate.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1100) {
        host.update();
    }
    // For longer than the period of the diagnostics, which are part of the promise.
    let (mut idle, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_millis(1500) || idle < 1000 {
        let before = host.world().resource::<News>().0;
        let counted = allocations(&mut host, 10);
        if host.world().resource::<News>().0 == before {
            assert_eq!(counted, 0, "allocations in ten frames after {idle} without any");
            idle += 10;
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    // The measure itself works.
    let client = clients.world_mut().query::<&UhstClient>().iter(clients.world()).next().unwrap().send("hello");
    assert_eq!(client, Ok(()));
    let mut counted = 0;
    assert!(update_until(&mut [&mut clients], Duration::from_secs(20), |_| {
        counted += allocations(&mut host, 1);
        counted > 0
    }));
}
