//! A game of sixteen players over a simulated mobile network. Every client ends with the host's state, and no reliable
//! message is lost.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_replicon::{prelude::*, shared::backend::connected_client::NetworkId};
use bevy_uhst::{
    NetworkConditions, Path, UhstClient,
    test_app::{TestNetwork, link, update_until},
};
use serde::{Deserialize, Serialize};

use super::{
    apps::{Way, authorized, clients, last_path, replicating, server_state},
    support::the_peer,
};

const PLAYERS: usize = 16;
/// The interval of frames and of server ticks.
const FRAME: Duration = Duration::from_millis(33);
/// The least number of frames, also on a slow machine.
const FRAMES: u32 = 100;
/// The limit for the last messages to arrive over this network.
const CALM: Duration = Duration::from_secs(60);

/// A figure, which the host moves in the direction that its player has set.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Figure {
    owner: NetworkId,
    at: Vec2,
    velocity: Vec2,
}

/// The direction of a player. Only the newest one counts.
#[derive(Event, Serialize, Deserialize, Clone, Copy)]
struct Steer(Vec2);

/// The number of a player's shot. None may be lost.
#[derive(Message, Serialize, Deserialize, Clone, Copy)]
struct Shot(u32);

/// The host's report of one shot to all players.
#[derive(Message, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
struct Hit {
    shooter: NetworkId,
    shot: u32,
}

/// The hits that an app has received, in order.
#[derive(Resource, Default)]
struct Hits(Vec<Hit>);

/// Whether the game runs, and what a client has done by itself in the meantime.
#[derive(Resource, Default)]
struct Playing {
    on: bool,
    shots: u32,
    frames: u32,
}

fn app(network: &TestNetwork) -> App {
    super::apps::app_with(
        network,
        |replicon| replicon,
        |app| {
            app.replicate::<Figure>()
                .add_client_event::<Steer>(Channel::Unreliable)
                .add_client_message::<Shot>(Channel::Ordered)
                .add_server_message::<Hit>(Channel::Ordered)
                .init_resource::<Hits>()
                .init_resource::<Playing>()
                .add_observer(enter)
                .add_observer(leave)
                .add_observer(steer)
                .add_systems(
                    Update,
                    (
                        judge.run_if(in_state(ServerState::Running)),
                        step.run_if(in_state(ServerState::Running)).run_if(|playing: Res<Playing>| playing.on),
                        act.run_if(in_state(ClientState::Connected)),
                        |mut hits: MessageReader<Hit>, mut seen: ResMut<Hits>| seen.0.extend(hits.read()),
                    ),
                );
        },
    )
}

/// Spawns a figure for each client.
fn enter(joined: On<Add, AuthorizedClient>, ids: Query<&NetworkId>, mut commands: Commands) -> Result {
    let figure = Figure { owner: *ids.get(joined.entity)?, at: Vec2::ZERO, velocity: Vec2::ZERO };
    commands.spawn((Replicated, figure));
    Ok(())
}

fn leave(
    left: On<Remove, NetworkId>,
    ids: Query<&NetworkId>,
    figures: Query<(Entity, &Figure)>,
    mut commands: Commands,
) {
    let Ok(id) = ids.get(left.entity) else { return };
    for (entity, _) in figures.iter().filter(|(_, figure)| figure.owner == *id) {
        commands.entity(entity).despawn();
    }
}

fn steer(steer: On<FromClient<Steer>>, ids: Query<&NetworkId>, mut figures: Query<&mut Figure>) {
    let Some(id) = steer.client_id.entity().and_then(|client| ids.get(client).ok()) else { return };
    for mut figure in figures.iter_mut().filter(|figure| figure.owner == *id) {
        figure.velocity = steer.0.clamp_length_max(1.0);
    }
}

fn judge(mut shots: MessageReader<FromClient<Shot>>, ids: Query<&NetworkId>, mut hits: MessageWriter<ToClients<Hit>>) {
    for shot in shots.read() {
        let Some(shooter) = shot.client_id.entity().and_then(|client| ids.get(client).ok()) else { continue };
        let hit = Hit { shooter: *shooter, shot: shot.message.0 };
        hits.write(ToClients { targets: SendTargets::All, message: hit });
    }
}

fn step(mut figures: Query<&mut Figure>) {
    for mut figure in figures.iter_mut().filter(|figure| figure.velocity != Vec2::ZERO) {
        let velocity = figure.velocity;
        figure.at += velocity * FRAME.as_secs_f32();
    }
}

fn act(mut playing: ResMut<Playing>, mut shots: MessageWriter<Shot>, mut commands: Commands) {
    if !playing.on {
        return;
    }
    playing.frames += 1;
    commands.client_trigger(Steer(Vec2::from_angle(playing.frames as f32 / 10.0)));
    if playing.frames.is_multiple_of(15) {
        shots.write(Shot(playing.shots));
        playing.shots += 1;
    }
}

fn figures(app: &mut App) -> Vec<Figure> {
    let mut figures: Vec<_> = app.world_mut().query::<&Figure>().iter(app.world()).copied().collect();
    figures.sort_by_key(|figure| figure.owner);
    figures
}

/// Runs a game of sixteen clients, each on a mobile network, for this time. Then compares the states of all apps.
fn play(way: Way, time: Duration) {
    let network = way.network();
    let mut host = app(&network);
    super::apps::host(&mut host);
    let mut players: Vec<App> = (0..PLAYERS).map(|_| app(&network)).collect();
    for player in &mut players {
        player.world_mut().spawn(UhstClient::from(link(&host)).conditions(NetworkConditions::MOBILE));
    }
    let mut apps: Vec<&mut App> = std::iter::once(&mut host).chain(&mut players).collect();
    let ready = update_until(&mut apps, CALM, |apps| {
        let direct = |app: &App| way != Way::Direct || last_path(app) == Some(Path::Direct);
        authorized(apps[0]) == PLAYERS && apps[1..].iter().all(|app| replicating(app) && direct(app))
    });
    assert!(ready, "{} players have joined", authorized(apps[0]));

    for app in &mut apps {
        app.world_mut().resource_mut::<Playing>().on = true;
    }
    let until = Instant::now() + time;
    let mut frames = 0;
    while Instant::now() < until || frames < FRAMES {
        frames += 1;
        let frame = Instant::now() + FRAME;
        for app in &mut apps {
            app.update();
        }
        // A frame lasts in real time, since the network runs in real time.
        std::thread::sleep(frame.saturating_duration_since(Instant::now()));
    }
    for app in &mut apps {
        app.world_mut().resource_mut::<Playing>().on = false;
    }
    let shots: Vec<u32> = apps[1..].iter().map(|app| app.world().resource::<Playing>().shots).collect();
    let all = shots.iter().sum::<u32>() as usize;
    let calm = update_until(&mut apps, CALM, |apps| {
        let truth = figures(apps[0]);
        apps.iter_mut().all(|app| app.world().resource::<Hits>().0.len() >= all && figures(app) == truth)
    });

    let heard: Vec<usize> = apps.iter().map(|app| app.world().resource::<Hits>().0.len()).collect();
    assert!(calm, "the apps have received {heard:?} of {all} hits");
    let truth = figures(apps[0]);
    assert_eq!((truth.len(), clients(apps[0]), server_state(apps[0])), (PLAYERS, PLAYERS, ServerState::Running));
    let moved = truth.iter().filter(|figure| figure.at != Vec2::ZERO).count();
    assert_eq!(moved, PLAYERS);
    let order = apps[0].world().resource::<Hits>().0.clone();
    for (app, shots) in apps[1..].iter_mut().zip(shots) {
        assert_eq!(figures(app), truth);
        // All apps receive the hits in the same order.
        assert_eq!(app.world().resource::<Hits>().0, order);
        let me = the_peer(app);
        let me = *app.world().get::<NetworkId>(me).unwrap();
        let mine = order.iter().filter(|hit| hit.shooter == me).map(|hit| hit.shot);
        assert!(shots > 0);
        assert!(mine.eq(0..shots), "{me:?} shot {shots} times: {order:?}");
    }
}

#[test_log::test]
fn sixteen_players_end_with_the_hosts_state() {
    play(Way::Memory, Duration::from_secs(5));
}

/// On direct paths, unreliable messages are lost.
#[test_log::test]
fn sixteen_players_with_direct_paths_end_with_the_hosts_state() {
    play(Way::Direct, Duration::from_secs(10));
}

#[test_log::test]
#[ignore = "takes five minutes"]
fn sixteen_players_end_with_the_hosts_state_after_five_minutes() {
    play(Way::Direct, Duration::from_secs(300));
}
