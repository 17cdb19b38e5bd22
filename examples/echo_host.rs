//! A host that says everything back to everyone. Start it, then `cargo run --example join` on the same machine, or
//! `cargo run --example join -- LINK` on another one.

use std::time::Duration;

use bevy::{
    app::{ScheduleRunnerPlugin, TerminalCtrlCHandlerPlugin},
    log::LogPlugin,
    prelude::*,
};
use bevy_uhst::prelude::*;

fn main() -> AppExit {
    App::new()
        .add_plugins((
            // No window, sixty updates a second.
            MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0))),
            // The WebRTC library logs its every stumble on the way to a direct path.
            LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() },
            // Ctrl+C leaves at once instead of falling silent.
            TerminalCtrlCHandlerPlugin,
            UhstPlugin::host("echo"),
        ))
        .add_observer(show_links)
        .add_observer(|joined: On<UhstConnected>| info!("{} joined", joined.entity))
        .add_observer(|gone: On<UhstDisconnected>| info!("{} is gone: {}", gone.entity, gone.reason))
        .add_observer(stop)
        .add_systems(Update, echo)
        .run()
}

fn show_links(ready: On<UhstReady>) {
    info!("this machine joins by the code {}", ready.id);
    for link in &ready.links {
        info!("other machines join by {link}");
    }
}

fn echo(mut messages: MessageReader<UhstMessage>, host: Single<&UhstHost>) {
    for message in messages.read() {
        host.broadcast(message.payload.clone());
    }
}

fn stop(ended: On<UhstEnded>, mut exit: MessageWriter<AppExit>) {
    info!("over: {}", ended.reason);
    exit.write(if ended.reason == EndReason::EndedLocally { AppExit::Success } else { AppExit::error() });
}
