//! Apps over loopback: a host with an embedded relay, and its clients.

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

/// Creates a host that listens. It has no event log, which would keep every message.
pub fn host(paths: PathPolicy) -> Outcome<App> {
    let mut app = app(paths);
    app.world_mut().spawn(UhstHost::new("measure"));
    let ready = |app: &mut App| app.world_mut().query::<&UhstHost>().iter(app.world()).any(UhstHost::is_ready);
    update_until(&mut [&mut app], PATIENCE, |apps| ready(apps[0]))
        .then_some(app)
        .ok_or("the host does not listen".into())
}

/// Creates a client that is joining this host.
pub fn join(host: &App, paths: PathPolicy) -> App {
    let mut app = app(paths);
    app.world_mut().spawn(UhstClient::from(link(host)));
    app
}

/// Creates clients that are joining this host. They share one app, so that the cost of an app and its threads is counted
/// once.
pub fn join_all(host: &App, paths: PathPolicy, count: usize) -> App {
    let mut app = app(paths);
    for _ in 0..count {
        app.world_mut().spawn(UhstClient::from(link(host)));
    }
    app
}

/// Creates an app without a session.
pub fn app(paths: PathPolicy) -> App {
    let bind = ([127, 0, 0, 1], 0).into();
    // The floors host on the same relay.
    let relay =
        Relay::Embedded(EmbeddedRelay { bind, port_attempts: 1, other_hosts: true, ..EmbeddedRelay::default() });
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, UhstPlugin::default().relay(relay).paths(paths).ice_servers([])));
    app.init_schedule(Update);
    on_one_thread(&mut app);
    app
}

/// Runs the systems of an app on the thread that updates it. With short frames, the sleeping and waking of Bevy's threads
/// would cost more than the work that is measured.
pub fn on_one_thread(app: &mut App) {
    for (_, schedule) in app.world_mut().resource_mut::<Schedules>().iter_mut() {
        schedule.set_executor(SingleThreadedExecutor::new());
    }
}

/// Converts an app into the part that may move to another thread: all but its runner.
pub fn pack(mut app: App) -> SubApp {
    std::mem::take(app.main_mut())
}

/// Converts the part back into an app.
pub fn unpack(packed: SubApp) -> App {
    let mut app = App::empty();
    *app.main_mut() = packed;
    app
}

/// Returns the peers of an app.
pub fn peers(app: &mut App) -> Vec<Entity> {
    app.world_mut().query_filtered::<Entity, With<UhstPeer>>().iter(app.world()).collect()
}

/// Returns whether this number of peers is connected over this path.
pub fn has_peers(app: &mut App, count: usize, path: Path) -> bool {
    app.world_mut().query::<&UhstPeer>().iter(app.world()).filter(|peer| peer.path() == path).count() == count
}

/// Creates a host and a client that are connected over this path.
pub fn pair(path: Path) -> Outcome<(App, App)> {
    let paths = if path == Path::Direct { PathPolicy::Automatic } else { PathPolicy::RelayOnly };
    let mut host = host(paths)?;
    let mut client = join(&host, paths);
    let connected = update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
        apps.iter_mut().all(|app| has_peers(app, 1, path))
    });
    if connected { Ok((host, client)) } else { Err("the apps did not connect".into()) }
}

/// Leaves all sessions of an app.
pub fn leave(app: &mut App) {
    app.world_mut().write_message(AppExit::Success);
    app.update();
}
