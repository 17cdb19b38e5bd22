//! A paused app: Bevy drops no messages until the next fixed step, and peers must not fill the memory.

mod support;

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, TestNetwork, update_until},
};
use support::PATIENCE;
use uhst_proto::connection::MESSAGE_OVERHEAD;

const WINDOW: usize = 1 << 20;
const MESSAGE: usize = 64 << 10;

#[derive(serde::Serialize, serde::Deserialize)]
struct Chunk(Vec<u8>);

fn network_config() -> ConnectionConfig {
    ConnectionConfig { max_message: 2 * MESSAGE, send_buffer: WINDOW, receive_buffer: WINDOW, ..Default::default() }
}

/// The number of messages that were read in `Update`.
#[derive(Resource, Default)]
struct Read(usize);

fn app(network: &TestNetwork) -> App {
    let mut app = App::new();
    let plugin = UhstPlugin::default().relay(network.relay()).connection(network_config()).paths(PathPolicy::RelayOnly);
    app.add_plugins((MinimalPlugins, plugin)).add_uhst_message::<Chunk>(UhstChannel::Reliable).init_resource::<Read>();
    app.add_systems(
        Update,
        |mut texts: MessageReader<UhstMessage>, mut chunks: MessageReader<FromPeer<Chunk>>, mut read: ResMut<Read>| {
            read.0 += texts.read().count() + chunks.read().count();
        },
    );
    bevy_uhst::test_app::record(&mut app);
    app
}

/// A host and a client, connected, in apps that have made fixed steps.
fn pair() -> (App, App) {
    let network = TestNetwork::memory();
    let (mut host, mut client) = (app(&network), app(&network));
    host.world_mut().spawn(UhstHost::new("game"));
    let connected = |event: &TestEvent| matches!(event, TestEvent::Connected(_));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| {
        TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_)))
    }));
    client.world_mut().spawn(UhstClient::join("game"));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
        apps.iter().all(|app| TestLog::of(app).has(connected))
    }));
    // No log of what is to be counted, and fixed steps before the pause.
    host.world_mut().remove_resource::<TestLog>();
    host.insert_resource(TestLog::default());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        host.update();
    }
    (host, client)
}

fn pause(app: &mut App, paused: bool) {
    let mut time = app.world_mut().resource_mut::<Time<Virtual>>();
    if paused { time.pause() } else { time.unpause() }
}

/// Bytes of messages that Bevy keeps.
fn kept(app: &mut App) -> usize {
    let world = app.world_mut();
    // The log is the test's own.
    world.resource_mut::<TestLog>().0.clear();
    let bytes = world.resource::<Messages<UhstMessage>>();
    let chunks = world.resource::<Messages<FromPeer<Chunk>>>();
    let (mut of_bytes, mut of_chunks) = (bytes.get_cursor(), chunks.get_cursor());
    let lens = of_bytes.read(bytes).map(|message| message.payload.len());
    lens.chain(of_chunks.read(chunks).map(|message| message.0.len())).map(|len| len + MESSAGE_OVERHEAD).sum()
}

/// Sends until the queue has been full for a while. Returns the number of messages sent.
fn flood(host: &mut App, client: &mut App, send: &dyn Fn(&mut App) -> Result<(), SendError>) -> usize {
    let (mut sent, mut largest, mut last) = (0, 0, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        match send(client) {
            Ok(()) => (sent, last) = (sent + 1, Instant::now()),
            Err(SendError::QueueFull { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        client.update();
        host.update();
        largest = largest.max(kept(host));
    }
    assert!(largest <= WINDOW, "{largest} bytes are kept");
    assert!(largest >= WINDOW / 2, "no more than {largest} bytes ever came");
    sent
}

fn send_bytes(app: &mut App) -> Result<(), SendError> {
    let world = app.world_mut();
    world.query::<&UhstClient>().single(world).expect("one client").send(vec![7; MESSAGE])
}

fn send_typed(app: &mut App) -> Result<(), SendError> {
    use bevy::ecs::system::RunSystemOnce;
    let send = |sender: UhstSender<Chunk>| sender.to_host(&Chunk(vec![7; MESSAGE]));
    app.world_mut().run_system_once(send).expect("it runs")
}

#[test_log::test]
fn a_flood_into_a_paused_app_stays_in_the_window_and_arrives_afterwards() {
    for send in [send_bytes, send_typed] {
        let (mut host, mut client) = pair();
        pause(&mut host, true);
        let sent = flood(&mut host, &mut client, &send);
        // Both buffers are full.
        assert!(sent * MESSAGE > WINDOW);
        pause(&mut host, false);
        let all =
            update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps[0].world().resource::<Read>().0 == sent);
        assert!(all, "{} of {sent} arrived", host.world().resource::<Read>().0);
    }
}

#[test_log::test]
fn a_paused_app_that_drains_its_messages_goes_on() {
    let (mut host, mut client) = pair();
    pause(&mut host, true);
    let (mut sent, mut drained) = (0, 0);
    let begun = Instant::now();
    while drained * MESSAGE < 4 * WINDOW {
        sent += usize::from(send_bytes(&mut client).is_ok());
        client.update();
        host.update();
        drained += host.world_mut().resource_mut::<Messages<UhstMessage>>().drain().count();
        assert!(begun.elapsed() < PATIENCE, "{drained} of {sent} arrived");
    }
}

#[test_log::test]
fn an_unread_rest_of_peers_that_left_keeps_their_places() {
    let network = TestNetwork::memory();
    let mut host = app(&network);
    host.world_mut().spawn(UhstHost::new("game").max_peers(1));
    let ready = |event: &TestEvent| matches!(event, TestEvent::Ready(_));
    assert!(update_until(&mut [&mut host], PATIENCE, |apps| TestLog::of(apps[0]).has(ready)));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        host.update();
    }
    pause(&mut host, true);
    let visit = |host: &mut App| {
        let mut client = app(&network);
        client.world_mut().spawn(UhstClient::join("game"));
        let begun = |event: &TestEvent| matches!(event, TestEvent::Connected(_) | TestEvent::Ended(_));
        assert!(update_until(&mut [host, &mut client], PATIENCE, |apps| TestLog::of(apps[1]).has(begun)));
        if TestLog::of(&client).has(|event| matches!(event, TestEvent::Ended(_))) {
            return false;
        }
        send_bytes(&mut client).expect("room for it");
        drop(client);
        let gone = |event: &TestEvent| matches!(event, TestEvent::Disconnected(_));
        assert!(update_until(&mut [host], PATIENCE, |apps| TestLog::of(apps[0]).has(gone)));
        host.world_mut().resource_mut::<TestLog>().0.clear();
        true
    };
    assert!(visit(&mut host), "the first finds a place");
    assert!(!visit(&mut host), "its messages still take memory");
    pause(&mut host, false);
    let begun = Instant::now();
    while !visit(&mut host) {
        assert!(begun.elapsed() < PATIENCE, "the place is never free again");
    }
}
