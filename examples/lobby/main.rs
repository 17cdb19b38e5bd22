//! A lobby for a game without a server: one player hosts, the others join with a code or a link, chat, get ready,
//! play a short round together and come back.
//!
//! ```text
//! cargo run --example lobby                       a window, or the terminal where there is no screen
//! cargo run --example lobby -- host --name Ada
//! cargo run --example lobby -- join 483920 --name Ben
//! cargo run --example lobby -- join 483920 --network mobile
//! cargo run --example lobby -- demo               a host and three players in one process
//! cargo run --example lobby -- host --web DIR     friends play in their browsers, by the link: see docs/guide/browser.md
//! ```
//!
//! Where to read on: `words.rs` is what players and host say to each other, `rules.rs` what the host makes of it,
//! `table.rs` what everyone sees, `game.rs` brings them together over the network, `nearby.rs` finds the games next door.
//! The rest is for the eye.

mod args;
mod autopilot;
mod game;
mod intent;
mod qr;
mod rules;
mod table;
mod window;
mod words;

#[cfg(target_family = "wasm")]
mod browser;
#[cfg(not(target_family = "wasm"))]
mod demo;
#[cfg(not(target_family = "wasm"))]
mod desktop;
#[cfg(not(target_family = "wasm"))]
mod nearby;
#[cfg(not(target_family = "wasm"))]
mod phone;
#[cfg(not(target_family = "wasm"))]
mod terminal;

#[cfg(target_family = "wasm")]
use browser as platform;
#[cfg(not(target_family = "wasm"))]
use desktop as platform;

use args::{Cli, Command, View};
use bevy::prelude::*;
use intent::Intent;
use table::{News, Table};

fn main() -> AppExit {
    platform::run()
}

/// Without the WebRTC library, which logs its every stumble on the way to a direct path.
const LOG_FILTER: &str = "wgpu=error,naga=warn,webrtc=off,rtc=off";

/// Adds what every view has: the lobby, and what the command line asks for.
fn add_lobby(app: &mut App, cli: &Cli) {
    app.add_plugins((platform::network(&cli.view), game::plugin));
    let first = match cli.command.clone() {
        Some(Command::Host(args)) => Some(Intent::Host(args)),
        Some(Command::Join(args)) => Some(Intent::Join(args)),
        Some(Command::Demo) | None => None,
    };
    app.add_systems(Startup, move |mut intents: MessageWriter<Intent>| {
        intents.write_batch(first.clone());
    });
    app.insert_resource(cli.view.clone());
    if cli.view.exit_when_full {
        app.add_systems(Update, exit_when_full.after(game::LobbySystems));
    }
    if cli.view.autoplay {
        app.add_plugins(autopilot::rounds);
    }
}

/// Leaves a while after the lobby became full. The host, with whom the lobby ends, leaves last: by then every other process
/// has seen that too, and taken its picture. In a round, it leaves in the middle. Fails when the lobby ends before that.
fn exit_when_full(
    mut news: MessageReader<News>,
    view: Res<View>,
    table: Res<Table>,
    mut due: Local<Option<Timer>>,
    time: Res<Time>,
    mut exit: MessageWriter<AppExit>,
) {
    for news in news.read() {
        if let News::Ended { why } = news
            && due.is_none()
        {
            eprintln!("{why}");
            exit.write(AppExit::error());
        }
        *due = view.exit(news).or(due.take());
    }
    let is_due = due.as_mut().is_some_and(|timer| timer.tick(time.delta()).is_finished());
    let is_needed = table.is_host() && table.players.len() > 1 && !view.autoplay;
    if is_due && !is_needed {
        exit.write(AppExit::Success);
    }
}
