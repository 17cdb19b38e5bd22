//! A request to join that the game decides on. One app holds all three sessions here, a host and two clients: a
//! session is an entity, and there may be many. Only the client that knows the version of the game is let in.

use std::time::Duration;

use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*};
use bevy_uhst::prelude::*;

const VERSION: &str = "my-game 2";

fn main() -> AppExit {
    App::new()
        .add_plugins((
            MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0))),
            // The WebRTC library logs its every stumble on the way to a direct path.
            LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() },
            UhstPlugin::default(),
        ))
        .add_systems(Startup, |mut commands: Commands| {
            let host = UhstHost::any_id().admission(Admission::Ask);
            commands.spawn(host).observe(decide).observe(send_two_players);
        })
        .run()
}

/// The metadata is what the joiner says of itself. It may lie, so check everything that matters.
fn decide(request: On<UhstJoinRequest>) {
    // A game that asks its player would keep `request.responder()` and answer later.
    if &request.metadata[..] == VERSION.as_bytes() {
        request.accept();
    } else {
        request.refuse(format!("you need {VERSION}"));
    }
}

fn send_two_players(ready: On<UhstReady>, mut commands: Commands) {
    let Some(link) = ready.links.first() else { return };
    for version in ["my-game 1", VERSION] {
        let client = UhstClient::from(link.clone()).metadata(version);
        commands
            .spawn(client)
            .observe(move |_: On<UhstReady>| info!("{version}: found the host"))
            .observe(move |ended: On<UhstEnded>| info!("{version}: {}", ended.reason));
    }
    commands.add_observer(|joined: On<UhstConnected>| info!("{} is connected", joined.entity));
}
