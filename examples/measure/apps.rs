//! Real apps over loopback: a host with an embedded relay, and clients.

use std::time::Duration;

use bevy::{
    app::SubApp,
    ecs::schedule::{Schedules, SingleThreadedExecutor},
    prelude::*,
};
use bevy_uhst::{
    prelude::*,
    test_app::{link, update_until},
};

use crate::report::Outcome;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A host that listens, without a log: it would hold every message.
pub fn host(paths: PathPolicy) -> Outcome<App> {
    let mut app = app(paths);
    app.world_mut().spawn(UhstHost::new("measure"));
    let ready = |app: &mut App| app.world_mut().query::<&UhstHost>().iter(app.world()).any(UhstHost::is_ready);
    update_until(&mut [&mut app], PATIENCE, |apps| ready(apps[0]))
        .then_some(app)
        .ok_or("the host does not listen".into())
}

/// A client of this host, on its way.
pub fn join(host: &App, paths: PathPolicy) -> App {
    let mut app = app(paths);
    app.world_mut().spawn(UhstClient::from(link(host)));
    app
}

/// Clients of this host, on their way, in one app: what an app and its threads cost is not theirs.
pub fn join_all(host: &App, paths: PathPolicy, count: usize) -> App {
    let mut app = app(paths);
    for _ in 0..count {
        app.world_mut().spawn(UhstClient::from(link(host)));
    }
    app
}

/// An app without a session.
pub fn app(paths: PathPolicy) -> App {
    let bind = ([127, 0, 0, 1], 0).into();
    let relay = Relay::Embedded(EmbeddedRelay { bind, port_attempts: 1, ..EmbeddedRelay::default() });
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, UhstPlugin::default().relay(relay).paths(paths).ice_servers([])));
    app.init_schedule(Update);
    // Bevy's threads sleep and wake between frames as short as these, which costs more than what is measured.
    for (_, schedule) in app.world_mut().resource_mut::<Schedules>().iter_mut() {
        schedule.set_executor(SingleThreadedExecutor::new());
    }
    app
}

/// What of an app can go to another thread: all but its runner.
pub fn pack(mut app: App) -> SubApp {
    std::mem::take(app.main_mut())
}

/// The app again.
pub fn unpack(packed: SubApp) -> App {
    let mut app = App::empty();
    *app.main_mut() = packed;
    app
}

/// The peers of an app.
pub fn peers(app: &mut App) -> Vec<Entity> {
    app.world_mut().query_filtered::<Entity, With<UhstPeer>>().iter(app.world()).collect()
}

/// Whether so many peers are connected this way.
pub fn has_peers(app: &mut App, count: usize, path: Path) -> bool {
    app.world_mut().query::<&UhstPeer>().iter(app.world()).filter(|peer| peer.path() == path).count() == count
}

/// A host and a client that are connected this way.
pub fn pair(path: Path) -> Outcome<(App, App)> {
    let paths = if path == Path::Direct { PathPolicy::Automatic } else { PathPolicy::RelayOnly };
    let mut host = host(paths)?;
    let mut client = join(&host, paths);
    let connected = update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
        apps.iter_mut().all(|app| has_peers(app, 1, path))
    });
    if connected { Ok((host, client)) } else { Err("the apps did not connect".into()) }
}

/// Tells everyone goodbye.
pub fn leave(app: &mut App) {
    app.world_mut().write_message(AppExit::Success);
    app.update();
}
