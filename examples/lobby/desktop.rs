//! The lobby as a program: in a window or in the terminal, with a relay of its own and the games on this network.

use bevy::prelude::*;
use bevy_uhst::prelude::*;
use clap::Parser;

use crate::{
    args::{Cli, Command, HostArgs, View},
    demo, nearby, phone, terminal,
    window::{self, Typed},
};

/// Runs what the command line asks for.
pub fn run() -> AppExit {
    let cli = Cli::parse();
    if matches!(cli.command, Some(Command::Demo)) {
        return demo::run();
    }
    if cli.view.terminal {
        return terminal::run(cli);
    }
    if !has_screen() {
        println!("There is no screen here, so the lobby runs in the terminal.");
        return terminal::run(cli);
    }
    let typed = Typed::from(&cli.command);
    window::run(cli, typed)
}

fn has_screen() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// The network, with the games around us.
pub fn network(view: &View) -> impl Plugin + use<> {
    let discovery = if view.this_machine { Discovery::ThisMachine } else { Discovery::LocalNetwork };
    let network = view.network.into();
    move |app: &mut App| {
        app.add_plugins((UhstPlugin::default().conditions(network).discovery(discovery), nearby::plugin));
    }
}

/// The element that shows the game. A window needs none.
pub fn canvas() -> Option<String> {
    None
}

/// Whether a keyboard on the screen may cover a part of the window: never.
pub const fn is_typing() -> bool {
    false
}

/// Adds what only this platform needs to the lobby's window: nothing.
pub fn window(_: &mut App) {}

/// The relay of a lobby that is opened here: in this game, unless the command line names another.
///
/// # Errors
///
/// What is wrong with the folder of the web build, in a person's words.
pub fn relay(args: &HostArgs) -> Result<Relay, String> {
    if let Some(url) = &args.relay {
        return Ok(Relay::Url(url.clone()));
    }
    let mut relay = match &args.web {
        Some(folder) => EmbeddedRelay::default().web_app(folder).map_err(|error| error.to_string())?,
        None => EmbeddedRelay { web_files: phone::page(), ..default() },
    };
    if let Some(port) = args.port {
        (relay.bind, relay.port_attempts) = (([0, 0, 0, 0], port).into(), 1);
    }
    Ok(Relay::Embedded(relay))
}
