//! Sparks in an arena, replicated: players say where they go, the host moves everyone and says who caught the star.
//!
//! ```text
//! cargo run --features replicon --example replicon               hosts, in a window or in the terminal
//! cargo run --features replicon --example replicon -- join LINK  plays along; LINK is what the host prints
//! cargo run --features replicon --example replicon -- demo       a host and two players in one process
//! ```
//!
//! Arrow keys steer. With `--auto`, and in the terminal, figures chase the star on their own.

#[path = "../lobby/window/theme.rs"]
#[expect(dead_code, reason = "the lobby uses all of it")]
mod theme;
mod window;

use std::{path::PathBuf, time::Duration};

use bevy::{
    app::{ScheduleRunnerPlugin, TerminalCtrlCHandlerPlugin},
    log::LogPlugin,
    prelude::*,
    state::app::StatesPlugin,
};
use bevy_replicon::{prelude::*, shared::backend::connected_client::NetworkId};
use bevy_uhst::{
    replicon::RepliconUhstPlugins,
    test_app::{TestNetwork, link, update_until},
    *,
};
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

/// Units from the middle of the arena to its edges.
const EDGE: Vec2 = Vec2::new(420.0, 240.0);
/// Units per second.
const SPEED: f32 = 160.0;
const REACH: f32 = 24.0;

#[derive(Parser, Resource, Default)]
struct Cli {
    #[command(subcommand)]
    command: Option<Role>,
    /// Lines instead of a window.
    #[arg(long, global = true)]
    terminal: bool,
    /// The figure chases the star on its own.
    #[arg(long, global = true)]
    auto: bool,
    /// Saves a picture of the window with at least two figures, then leaves.
    #[arg(long, global = true)]
    screenshot: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Role {
    Join { link: String },
    Demo,
}

fn main() -> AppExit {
    let mut cli = Cli::parse();
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    cli.terminal |= cfg!(target_os = "linux") && !screen;
    if matches!(cli.command, Some(Role::Demo)) {
        return demo();
    }
    let mut app = App::new();
    // The WebRTC library logs its every stumble on the way to a direct path.
    let log = LogPlugin { filter: "wgpu=error,naga=warn,webrtc=off,rtc=off".into(), ..default() };
    if cli.terminal {
        cli.auto = true;
        let frames = ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0));
        app.add_plugins((MinimalPlugins.set(frames), log, StatesPlugin, TerminalCtrlCHandlerPlugin));
    } else {
        app.add_plugins((DefaultPlugins.set(log), window::plugin));
    }
    app.add_plugins((UhstPlugin::default(), game))
        .add_observer(|ready: On<UhstReady>| ready.links.iter().for_each(|link| info!("join by {link}")))
        .add_observer(|ended: On<UhstEnded>, mut exit: MessageWriter<AppExit>| {
            info!("over: {}", ended.reason);
            exit.write(AppExit::Success);
        });
    match &cli.command {
        Some(Role::Join { link }) => app.world_mut().spawn(UhstClient::join(link)),
        _ => app.world_mut().spawn(UhstHost::any_id()),
    };
    app.insert_resource(cli).run()
}

// What is replicated, and one event each way.

/// A player's figure. The host's own has no owner.
#[derive(Component, Serialize, Deserialize, Clone, Copy, Default)]
struct Figure {
    owner: Option<NetworkId>,
    at: Vec2,
    heading: Vec2,
    caught: u32,
}

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Star(Vec2);

/// Where a player wants to go, from a client to the host. A host's own goes to itself.
#[derive(Event, Serialize, Deserialize)]
struct Steer(Vec2);

/// Who caught the star, from the host to everyone, itself included.
#[derive(Event, Serialize, Deserialize)]
struct Caught(Option<NetworkId>);

// The rules, which are the host's.

/// How often this player was told that somebody caught a star.
#[derive(Resource, Default)]
struct Told(u32);

fn game(app: &mut App) {
    app.add_plugins((RepliconPlugins, RepliconUhstPlugins))
        .init_resource::<Told>()
        .replicate::<Figure>()
        .replicate::<Star>()
        .add_client_event::<Steer>(Channel::Ordered)
        .add_server_event::<Caught>(Channel::Ordered)
        .add_observer(join)
        .add_observer(part)
        .add_observer(steer)
        .add_observer(tell)
        .add_systems(OnEnter(ServerState::Running), |mut commands: Commands| {
            commands.spawn((Replicated, Star(EDGE / 2.0)));
            commands.spawn((Replicated, Figure::default()));
        })
        .add_systems(FixedUpdate, play.run_if(in_state(ServerState::Running)))
        .add_systems(Update, chase.run_if(|cli: Res<Cli>| cli.auto));
}

fn join(joined: On<Add, AuthorizedClient>, ids: Query<&NetworkId>, mut commands: Commands) -> Result {
    commands.spawn((Replicated, Figure { owner: Some(*ids.get(joined.entity)?), ..default() }));
    Ok(())
}

/// On the host, a client's number goes with the client.
fn part(
    left: On<Remove, NetworkId>,
    ids: Query<&NetworkId>,
    figures: Query<(Entity, &Figure), With<Replicated>>,
    mut commands: Commands,
) {
    let Ok(id) = ids.get(left.entity) else { return };
    for (entity, _) in figures.iter().filter(|(_, figure)| figure.owner == Some(*id)) {
        commands.entity(entity).despawn();
    }
}

fn steer(steer: On<FromClient<Steer>>, ids: Query<&NetworkId>, mut figures: Query<&mut Figure>) {
    let owner = steer.client_id.entity().and_then(|client| ids.get(client).ok().copied());
    // Anyone can send anything: no figure is faster than the others.
    let wish = if steer.0.is_finite() { steer.0.clamp_length_max(1.0) } else { Vec2::ZERO };
    for mut figure in figures.iter_mut().filter(|figure| figure.owner == owner) {
        figure.heading = wish;
    }
}

fn play(time: Res<Time>, mut star: Single<&mut Star>, mut figures: Query<&mut Figure>, mut commands: Commands) {
    for mut figure in figures.iter_mut().filter(|figure| figure.heading != Vec2::ZERO) {
        let step = figure.heading * SPEED * time.delta_secs();
        figure.at = (figure.at + step).clamp(-EDGE, EDGE);
        if figure.at.distance(star.0) < REACH {
            figure.caught += 1;
            // Far from here, and never twice in the same place.
            star.0 = -Vec2::from_angle(star.0.to_angle() + 1.0) * EDGE * 0.8;
            commands.server_trigger(ToClients { targets: SendTargets::All, message: Caught(figure.owner) });
        }
    }
}

// What every player does.

fn tell(caught: On<Caught>, mut told: ResMut<Told>) {
    told.0 += 1;
    let who = caught.0.map_or("the host".to_owned(), |id| format!("player {:04x}", id.get() >> 48));
    info!("{who} caught the star");
}

type OfHost = (With<UhstPeer>, Without<ConnectedClient>);
fn chase(
    mut last: Local<Vec2>,
    star: Option<Single<&Star>>,
    figures: Query<&Figure>,
    me: Option<Single<&NetworkId, OfHost>>,
    mut commands: Commands,
) {
    // On a client, the number of the connection is on the host's entity, and says which figure is ours.
    let me = me.map(|id| **id);
    let (Some(star), Some(figure)) = (star, figures.iter().find(|figure| figure.owner == me)) else { return };
    let wish = (star.0 - figure.at).normalize_or_zero();
    if wish.distance(*last) > 0.1 {
        *last = wish;
        commands.client_trigger(Steer(wish));
    }
}

// The demo.

/// A host and two players, over a relay on this machine. Panics if a step does not happen.
fn demo() -> AppExit {
    let network = TestNetwork::loopback();
    let mut apps: Vec<App> = std::iter::repeat_with(|| {
        let mut app = network.app();
        app.insert_resource(Cli { auto: true, ..default() }).add_plugins((StatesPlugin, game));
        app.finish();
        app.cleanup();
        app
    })
    .take(3)
    .collect();
    apps[0].world_mut().spawn(UhstHost::any_id());
    step(&mut apps[..1], "the host opens an arena", |app| figures(app).len() == 1);
    for player in 1..3 {
        let link = link(&apps[0]);
        apps[player].world_mut().spawn(UhstClient::from(link));
    }
    step(&mut apps, "everyone sees three figures", |app| figures(app).len() == 3);
    step(&mut apps, "everyone sees all of them walk", |app| figures(app).iter().all(|figure| figure.at != Vec2::ZERO));
    step(&mut apps, "everyone is told of three stars", |app| app.world().resource::<Told>().0 >= 3);
    apps[2].world_mut().write_message(AppExit::Success);
    apps[2].update();
    step(&mut apps[..2], "one leaves, and its figure with it", |app| figures(app).len() == 2);
    println!("Every step happened.");
    AppExit::Success
}

fn step(apps: &mut [App], what: &str, done: fn(&mut App) -> bool) {
    let mut apps: Vec<_> = apps.iter_mut().collect();
    let happened = update_until(&mut apps, Duration::from_secs(60), |apps| apps.iter_mut().all(|app| done(app)));
    assert!(happened, "this did not happen within a minute: {what}");
    println!("{what}");
}

fn figures(app: &mut App) -> Vec<Figure> {
    app.world_mut().query::<&Figure>().iter(app.world()).copied().collect()
}
