//! A game on a network that gets worse: an echo, and how long it takes. Needs nothing else.
//!
//! ```text
//! cargo run --example bad_network
//! ```

use std::time::Duration;

use bevy::{
    app::{ScheduleRunnerPlugin, TerminalCtrlCHandlerPlugin},
    log::LogPlugin,
    prelude::*,
    time::common_conditions::on_timer,
};
use bevy_uhst::prelude::*;

/// What is tried, one after the other.
const WEATHER: [(&str, NetworkConditions); 4] = [
    ("as it is", NetworkConditions::PERFECT),
    ("home Wi-Fi", NetworkConditions::HOME_WIFI),
    ("mobile", NetworkConditions::MOBILE),
    ("terrible", NetworkConditions::TERRIBLE),
];

fn main() -> AppExit {
    let relay = Relay::Memory(MemoryRelay::default());
    App::new()
        .add_plugins((
            MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0))),
            LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() },
            TerminalCtrlCHandlerPlugin,
            UhstPlugin::default().relay(relay),
        ))
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn(UhstHost::new("weather")).observe(|_: On<UhstReady>, mut commands: Commands| {
                commands.spawn(UhstClient::join("weather"));
            });
        })
        .add_systems(Update, change.run_if(on_timer(Duration::from_secs(6))))
        .run()
}

fn change(
    client: Single<&UhstClient>,
    peers: Query<&UhstPeer>,
    mut next: Local<usize>,
    mut exit: MessageWriter<AppExit>,
) {
    let rtt = client.host().and_then(|host| peers.get(host).ok()?.rtt()).unwrap_or_default();
    match next.checked_sub(1) {
        Some(last) => println!("{:12} {:4} ms there and back", WEATHER[last].0, rtt.as_millis()),
        None => println!("six seconds each:"),
    }
    match WEATHER.get(*next) {
        Some((_, conditions)) => client.set_conditions(*conditions),
        None => drop(exit.write(AppExit::Success)),
    }
    *next += 1;
}
