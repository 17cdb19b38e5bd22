//! A paused app. Bevy keeps its messages until it runs again.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_replicon::prelude::*;
use bevy_uhst::{prelude::*, test_app::link};
use serde::{Deserialize, Serialize};

use crate::apps::*;

const WINDOW: usize = 1 << 20;
const MESSAGE: usize = 64 << 10;
/// The number of messages, which exceed the receive buffer.
const MESSAGES: u32 = 40;

/// A large message of a client or of the server.
#[derive(Message, Serialize, Deserialize, Clone)]
struct Bulk {
    number: u32,
    padding: String,
}

/// The numbers of the received messages.
#[derive(Resource, Default)]
struct Came(Vec<u32>);

fn came(
    mut from_clients: MessageReader<FromClient<Bulk>>,
    mut from_server: MessageReader<FromServer>,
    mut came: ResMut<Came>,
) {
    came.0.extend(from_clients.read().map(|bulk| bulk.message.number));
    came.0.extend(from_server.read().map(|bulk| bulk.0.number));
}

/// A message of the server. It has its own type, since replicon's host receives its own messages.
#[derive(Message, Serialize, Deserialize, Clone)]
struct FromServer(Bulk);

/// Returns a config with a receive buffer of [`WINDOW`] and a send buffer three times as large.
fn config() -> ConnectionConfig {
    ConnectionConfig {
        max_message: 2 * MESSAGE,
        receive_buffer: WINDOW,
        send_buffer: 3 * WINDOW,
        ..ConnectionConfig::default()
    }
}

fn pair() -> (App, App) {
    let network = Way::Memory.network();
    let new = || {
        app_with(
            &network,
            |replicon| replicon,
            |app| {
                app.add_client_message::<Bulk>(Channel::Ordered)
                    .add_server_message::<FromServer>(Channel::Ordered)
                    .init_resource::<Came>()
                    .add_systems(Update, came);
            },
        )
    };
    let (mut server, mut client) = (new(), new());
    server.world_mut().spawn(UhstHost::new("replicon").connection(config()));
    until(&mut [&mut server], |apps| server_state(apps[0]) == ServerState::Running);
    client.world_mut().spawn(UhstClient::from(link(&server)).connection(config()));
    until(&mut [&mut server, &mut client], |apps| authorized(apps[0]) == 1 && replicating(apps[1]));
    // Both apps run some fixed updates.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        server.update();
        client.update();
    }
    (server, client)
}

fn pause(app: &mut App, paused: bool) {
    let mut time = app.world_mut().resource_mut::<Time<Virtual>>();
    if paused { time.pause() } else { time.unpause() }
}

/// Returns the size of the messages that Bevy keeps, in bytes.
fn kept(app: &App) -> usize {
    let (asked, told) =
        (app.world().resource::<Messages<FromClient<Bulk>>>(), app.world().resource::<Messages<FromServer>>());
    MESSAGE * (asked.len() + told.len())
}

/// Sends a flood to a paused app, and then lets it run again.
fn flood(paused: &mut App, other: &mut App, send: impl Fn(&mut World, Bulk)) {
    pause(paused, true);
    for number in 0..MESSAGES {
        send(other.world_mut(), Bulk { number, padding: "x".repeat(MESSAGE) });
    }
    until(&mut [paused, other], |apps| kept(apps[0]) >= WINDOW / 2);
    // Waits until no message has arrived for a while.
    let (mut most, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        other.update();
        paused.update();
        if kept(paused) > most {
            (most, last) = (kept(paused), Instant::now());
        }
    }
    assert!(most <= WINDOW, "{most} bytes are kept");
    pause(paused, false);
    until(&mut [paused, other], |apps| apps[0].world().resource::<Came>().0.len() == MESSAGES as usize);
    assert!(paused.world().resource::<Came>().0.iter().copied().eq(0..MESSAGES));
}

#[test]
fn a_paused_server_takes_no_more_than_a_window_and_loses_nothing() {
    let (mut server, mut client) = pair();
    flood(&mut server, &mut client, |world, bulk| {
        world.write_message(bulk);
    });
    assert_eq!((clients(&mut server), replicating(&client)), (1, true));
}

#[test]
fn a_paused_client_takes_no_more_than_a_window_loses_nothing_and_is_up_to_date() {
    let (mut server, mut client) = pair();
    let number = server.world_mut().spawn((Replicated, Number(1))).id();
    until(&mut [&mut server, &mut client], |apps| numbers(apps[1]) == [1]);
    flood(&mut client, &mut server, |world, bulk| {
        world.get_mut::<Number>(number).unwrap().0 += 1;
        world.write_message(ToClients { targets: SendTargets::All, message: FromServer(bulk) });
    });
    until(&mut [&mut server, &mut client], |apps| numbers(apps[1]) == [1 + MESSAGES]);
    assert_eq!((clients(&mut server), replicating(&client)), (1, true));
}
