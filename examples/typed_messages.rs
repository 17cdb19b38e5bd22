//! Typed messages, and a host that plays along: everyone rolls dice, and the host counts.
//! `cargo run --example typed_messages`, then `cargo run --example typed_messages -- LINK` with a link it shows.

use std::time::Duration;

use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*, time::common_conditions::on_timer};
use bevy_uhst::prelude::*;
use serde::{Deserialize, Serialize};

/// From each player to the host.
#[derive(Serialize, Deserialize)]
struct Roll(u32);

/// From the host to all players.
#[derive(Serialize, Deserialize)]
struct Total(u32);

fn main() -> AppExit {
    App::new()
        .add_plugins(MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(Duration::from_millis(16))))
        .add_plugins(LogPlugin { filter: "webrtc=off,rtc=off".into(), ..default() })
        // Only the same version may join: raise it with every change to a message.
        .add_plugins(UhstPlugin::default().version("1"))
        .add_uhst_message::<Roll>(UhstChannel::Reliable)
        .add_uhst_message::<Total>(UhstChannel::Reliable)
        .add_systems(Startup, start)
        .add_observer(|ready: On<UhstReady>| ready.links.iter().for_each(|link| info!("join by {link}")))
        .add_observer(|end: On<UhstEnded>| info!("over: {}", end.reason))
        .add_systems(Update, (roll.run_if(connected).run_if(on_timer(Duration::from_secs(1))), count, show))
        .run()
}

fn start(mut commands: Commands) {
    if let Some(link) = std::env::args().nth(1) {
        commands.spawn(UhstClient::join(link));
    } else {
        let host = commands.spawn(UhstHost::any_id()).id();
        // The player at this machine is a client like all others.
        commands.spawn(LocalClientOf(host));
    }
}

fn roll(time: Res<Time>, sender: UhstSender<Roll>) -> Result {
    Ok(sender.to_host(&Roll(time.elapsed().subsec_nanos() % 6 + 1))?)
}

/// Only a host receives a `Roll`, and a client a `Total`: the same systems run everywhere.
fn count(mut rolls: MessageReader<FromPeer<Roll>>, mut total: Local<u32>, sender: UhstSender<Total>) {
    for roll in rolls.read() {
        info!("{} rolled {}", roll.peer, roll.0);
        *total += roll.0;
        sender.broadcast(&Total(*total));
    }
}

fn show(mut totals: MessageReader<FromPeer<Total>>) {
    totals.read().for_each(|total| info!("{} in all", total.0));
}
