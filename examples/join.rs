//! A client that joins by a code or a link, says hello and prints what it hears.
//! `cargo run --example join -- CODE-OR-LINK`; without one it joins `echo_host` on this machine.

use std::time::Duration;

use bevy::{
    app::{ScheduleRunnerPlugin, TerminalCtrlCHandlerPlugin},
    log::LogPlugin,
    prelude::*,
};
use bevy_uhst::prelude::*;

fn main() -> AppExit {
    let code_or_link = std::env::args().nth(1).unwrap_or_else(|| "echo".to_owned());
    App::new()
        .add_plugins((
            MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0))),
            // The WebRTC library logs its every stumble on the way to a direct path.
            LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() },
            // Ctrl+C leaves at once instead of falling silent.
            TerminalCtrlCHandlerPlugin,
            UhstPlugin::join(code_or_link),
        ))
        .add_observer(say_hello)
        .add_observer(|change: On<UhstPathChanged>| info!("messages now go this way: {:?}", change.path))
        .add_observer(stop)
        .add_systems(Update, listen)
        .run()
}

/// On a client, the one peer is the host.
fn say_hello(connected: On<UhstConnected>, peers: Query<&UhstPeer>) -> Result {
    info!("connected");
    peers.get(connected.entity)?.send("hello")?;
    Ok(())
}

fn listen(mut messages: MessageReader<UhstMessage>) {
    for message in messages.read() {
        match message.payload.as_text() {
            Some(text) => info!("heard “{text}”"),
            None => info!("heard {} bytes", message.payload.len()),
        }
    }
}

/// Comes exactly once, whether we were connected or not.
fn stop(ended: On<UhstEnded>, mut exit: MessageWriter<AppExit>) {
    info!("over: {}", ended.reason);
    exit.write(AppExit::Success);
}
