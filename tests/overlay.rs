//! The overlay: one key shows what the network does, and hides it without a trace.

mod support;

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
use support::PATIENCE;

const KEY: KeyCode = KeyCode::F3;

/// A host with the overlay and a client that goes by a name, connected. No window: nodes and texts are there without.
fn session() -> (App, App) {
    let network = TestNetwork::memory();
    let mut host = App::new();
    host.add_plugins((MinimalPlugins, UhstPlugin::host("game").relay(network.relay()), UhstOverlayPlugin::default()))
        .init_resource::<ButtonInput<KeyCode>>()
        .add_observer(|connected: On<UhstConnected>, mut commands: Commands| {
            commands.entity(connected.entity).insert(Name::new("Ben"));
        });
    let ready = |apps: &mut [&mut App]| {
        let world = apps[0].world_mut();
        world.query::<&UhstHost>().iter(world).any(UhstHost::is_ready)
    };
    assert!(update_until(&mut [&mut host], PATIENCE, ready));
    let mut client = network.join_with(UhstClient::from(link(&host)));
    let connected = |apps: &mut [&mut App]| {
        apps.iter_mut().all(|app| {
            let world = app.world_mut();
            world.query::<&UhstPeer>().iter(world).any(|peer| peer.rtt().is_some())
        })
    };
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, connected));
    (host, client)
}

fn press(app: &mut App) {
    app.world_mut().resource_mut::<ButtonInput<KeyCode>>().press(KEY);
    app.update();
    let mut keys = app.world_mut().resource_mut::<ButtonInput<KeyCode>>();
    keys.release(KEY);
    keys.clear();
}

fn nodes(app: &mut App) -> usize {
    app.world_mut().query::<&Node>().iter(app.world()).count()
}

fn texts(app: &mut App) -> Vec<String> {
    app.world_mut().query::<&Text>().iter(app.world()).map(|text| text.0.clone()).collect()
}

fn shows(app: &mut App, words: &str) -> bool {
    texts(app).iter().any(|text| text.contains(words))
}

#[test_log::test]
fn the_key_shows_the_numbers_of_each_peer() {
    let (mut host, mut client) = session();
    assert_eq!(nodes(&mut host), 0);
    press(&mut host);
    // In the very frame of the key: also what happened before.
    for words in
        ["host game", "1 of ", "Ben", "relay", " ms", "lost     0/s", "queue", "game is ready", "Ben connected"]
    {
        assert!(shows(&mut host, words), "no \"{words}\" in {:?}", texts(&mut host));
    }

    // A second later, how much came.
    let flow = |apps: &mut [&mut App]| {
        let world = apps[1].world_mut();
        let _ = world.query::<&UhstClient>().single(world).unwrap().send(vec![0; 4000]);
        // How fast depends on the machine: only the heartbeats' plain "B/s" will not do.
        texts(apps[0]).iter().any(|text| text.starts_with("in ") && (text.contains("kB/s") || text.contains("MB/s")))
    };
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, flow), "{:?}", texts(&mut host));
    let mut nodes = host.world_mut().query::<&Node>();
    let bars = nodes.iter(host.world()).filter(|node| {
        node.position_type == PositionType::Absolute && matches!(node.height, Val::Px(height) if height > 0.0)
    });
    assert!(bars.count() >= 2, "the graph has no bars");
}

#[test_log::test]
fn it_follows_who_comes_and_goes() {
    let (mut host, mut client) = session();
    press(&mut host);
    client.world_mut().query::<&UhstClient>().single(client.world()).unwrap().leave();
    let gone = |apps: &mut [&mut App]| shows(apps[0], "0 of ");
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, gone), "{:?}", texts(&mut host));
    assert!(
        shows(&mut host, "Ben is gone: the other side left") && !shows(&mut host, "queue"),
        "{:?}",
        texts(&mut host)
    );

    let session = host.world_mut().query_filtered::<Entity, With<UhstHost>>().single(host.world()).unwrap();
    host.world_mut().despawn(session);
    let over = |apps: &mut [&mut App]| shows(apps[0], "no session");
    assert!(update_until(&mut [&mut host], PATIENCE, over), "{:?}", texts(&mut host));
}

#[test_log::test]
fn the_key_or_the_game_hides_it_without_a_trace() {
    let (mut host, _client) = session();
    let before = host.world().entities().count_spawned();
    press(&mut host);
    assert!(nodes(&mut host) > 60);
    press(&mut host);
    assert_eq!((nodes(&mut host), host.world().entities().count_spawned()), (0, before));

    host.world_mut().resource_mut::<UhstOverlay>().shown = true;
    host.update();
    assert!(nodes(&mut host) > 60);
    host.world_mut().resource_mut::<UhstOverlay>().shown = false;
    host.update();
    assert_eq!((nodes(&mut host), host.world().entities().count_spawned()), (0, before));
}

#[test]
fn hidden_it_costs_no_allocation() {
    let (mut host, _client) = session();
    press(&mut host);
    press(&mut host);
    #[derive(Resource, Default)]
    struct News(usize);
    host.init_resource::<News>()
        .add_observer(|_: On<UhstPathChanged>, mut news: ResMut<News>| news.0 += 1)
        .add_observer(|_: On<UhstDiagnostic>, mut news: ResMut<News>| news.0 += 1);
    // The allocator counts by thread.
    for (_, schedule) in host.world_mut().resource_mut::<Schedules>().iter_mut() {
        schedule.set_executor(SingleThreadedExecutor::new());
    }
    // Bevy allocates when a slow frame has more fixed steps than any before: here each has one.
    let step = host.world().resource::<Time<Fixed>>().timestep();
    host.insert_resource(TimeUpdateStrategy::ManualDuration(step));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1100) {
        host.update();
    }
    let mut idle = 0;
    while idle < 1000 {
        let before = host.world().resource::<News>().0;
        let counted = allocation_counter::measure(|| host.update()).count_total;
        if host.world().resource::<News>().0 == before {
            assert_eq!(counted, 0, "allocations in a frame after {idle} without any");
            idle += 1;
        }
    }
    // The measure itself works: shown, it has something to write.
    let counted = allocation_counter::measure(|| press(&mut host)).count_total;
    assert!(counted > 0);
}
