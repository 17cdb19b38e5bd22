//! Games on this network, without a code: `cargo run --example find_games -- host Ada` announces one, and
//! `cargo run --example find_games` on any machine of the same network lists what is there and joins the first.

use std::time::Duration;

use bevy::{
    app::{ScheduleRunnerPlugin, TerminalCtrlCHandlerPlugin},
    log::LogPlugin,
    prelude::*,
};
use bevy_uhst::{offline, prelude::*};

const GAME: &str = "find-games example";

fn main() -> AppExit {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0))),
        LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() },
        // Ctrl+C takes the game off everyone's list at once.
        TerminalCtrlCHandlerPlugin,
        UhstPlugin::default(),
    ));
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("host") {
        let name = format!("{}'s game", arguments.next().unwrap_or_else(|| "Someone".to_owned()));
        app.world_mut().spawn((UhstHost::any_id().max_peers(3), UhstAnnouncement::new(GAME, name)));
    } else {
        app.world_mut().spawn(UhstBrowser::new(GAME));
    }
    app.add_systems(Update, (show, join.run_if(offline)))
        .add_observer(|_: On<UhstConnected>| info!("connected"))
        .add_observer(|gone: On<UhstDisconnected>| info!("disconnected: {}", gone.reason))
        .run()
}

/// Each game is an entity, changed in place: its players come and go.
fn show(sessions: Query<&DiscoveredSession, Changed<DiscoveredSession>>) {
    for DiscoveredSession { name, players, max_players, needs_password, .. } in &sessions {
        info!("{name}: {players} of {max_players} players{}", if *needs_password { ", with a password" } else { "" });
    }
}

fn join(found: Query<&DiscoveredSession, Added<DiscoveredSession>>, mut commands: Commands) {
    if let Some(session) = found.iter().find(|session| !session.is_full() && !session.needs_password) {
        info!("joining {}", session.name);
        commands.spawn(UhstClient::from(session.link.clone()));
    }
}
