//! A host without a player: it counts in fixed steps and tells everyone, and says goodbye when it is told to stop:
//! on Ctrl+C, and on the SIGTERM that `docker stop` and systemd send.
//! `cargo run --example headless_server -- [RELAY-URL]`; without one it starts a relay of its own.
//!
//! Each run has a new id and a new identity, so a link is good for one run. A server whose links stay good hosts under a
//! fixed id with `UhstHost::new`, and saves the bytes of its `UhstIdentity` in a file that only its owner can read.

use std::time::Duration;

use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*};
use bevy_uhst::prelude::*;

fn main() -> AppExit {
    let relay = std::env::args().nth(1).map(Relay::Url).unwrap_or_default();
    App::new()
        .add_plugins((
            MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 30.0))),
            // The WebRTC library logs its every stumble on the way to a direct path.
            LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() },
            // Signals become an `AppExit`, at which every peer is told that the host left.
            UhstPlugin::default().relay(relay).exit_on_signals(),
        ))
        .insert_resource(Time::<Fixed>::from_hz(10.0))
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn(UhstHost::any_id().max_peers(32));
        })
        .add_observer(|ready: On<UhstReady>| {
            info!("join with {}", ready.links.first().map_or(ready.id.clone(), JoinLink::to_string));
        })
        .add_observer(|ended: On<UhstEnded>, mut exit: MessageWriter<AppExit>| {
            info!("over: {}", ended.reason);
            exit.write(if ended.reason == EndReason::EndedLocally { AppExit::Success } else { AppExit::error() });
        })
        .add_systems(FixedUpdate, count)
        .run()
}

/// A state that is sent again and again need not arrive every time, as long as it never goes back.
fn count(mut steps: Local<u64>, host: Option<Single<&UhstHost>>) {
    let Some(host) = host else { return };
    *steps += 1;
    host.broadcast_on(UhstChannel::UnreliableSequenced, format!("step {steps}", steps = *steps));
}
