//! The lobby in a window, in Bevy's own UI.

mod arena;
mod banner;
mod chat;
mod fields;
#[cfg(not(target_family = "wasm"))]
mod games;
mod invite;
mod lobby_page;
mod players;
mod screenshot;
mod shape;
mod start_page;
mod stick;
mod theme;
mod widgets;

use bevy::{
    input_focus::tab_navigation::{TabGroup, TabNavigationPlugin},
    log::LogPlugin,
    prelude::*,
    window::WindowResolution,
};
#[cfg(feature = "overlay")]
use bevy_uhst::prelude::UhstOverlayPlugin;

#[cfg(target_family = "wasm")]
pub use self::fields::{Field, Submit};
use self::shape::Shape;
pub use self::start_page::Typed;
use super::{
    args::{Cli, Command},
    autopilot,
    game::LobbySystems,
    platform,
};

/// Runs the lobby in a window until the player closes it, which leaves the lobby. `typed` is what the fields of the start
/// page hold at first.
pub fn run(cli: Cli, typed: Typed) -> AppExit {
    let mut app = App::new();
    let size = Shape::Wide.size();
    // The browser decides on the size of a page.
    let smallest = WindowResizeConstraints { min_width: 960.0, min_height: 640.0, ..default() };
    let limits = if cfg!(target_family = "wasm") { default() } else { smallest };
    let window = Window {
        title: "Lobby".to_owned(),
        resolution: WindowResolution::new(size.x, size.y),
        // In a browser, the game fills the page.
        canvas: platform::canvas(),
        fit_canvas_to_parent: true,
        resize_constraints: limits,
        ..default()
    };
    app.add_plugins((
        DefaultPlugins
            .set(WindowPlugin { primary_window: Some(window), ..default() })
            .set(LogPlugin { filter: crate::LOG_FILTER.into(), ..default() }),
        TabNavigationPlugin,
    ))
    .insert_resource(ClearColor(theme::BACKGROUND))
    .init_resource::<theme::Theme>()
    .insert_resource(typed)
    .add_systems(Startup, |mut commands: Commands| {
        commands.spawn(Camera2d);
    })
    .configure_sets(Update, WindowSystems.after(LobbySystems));
    super::add_lobby(&mut app, &cli);
    app.add_plugins((
        shape::plugin,
        widgets::plugin,
        fields::plugin,
        start_page::plugin,
        lobby_page::plugin,
        invite::plugin,
        players::plugin,
        chat::plugin,
        arena::plugin,
        stick::plugin,
        banner::plugin,
        platform::window,
    ));
    #[cfg(feature = "overlay")]
    app.add_plugins(UhstOverlayPlugin { shown: cli.view.overlay, ..default() });
    if cli.view.autoplay {
        app.add_plugins(autopilot::plugin);
    }
    if let Some(file) = cli.view.screenshot {
        app.add_plugins(screenshot::plugin(file));
    }
    #[cfg(not(target_family = "wasm"))]
    {
        app.add_plugins(games::plugin);
        if let Some(file) = cli.view.screenshot_games {
            app.add_plugins(games::picture(file));
        }
    }
    app.run()
}

/// The systems that update the screen from the table.
#[derive(SystemSet, Clone, Debug, PartialEq, Eq, Hash)]
struct WindowSystems;

/// The root of a page: it fills the window, has a gradient from the top, and a tab order of its own.
fn page() -> impl Bundle {
    (
        Node { width: percent(100), height: percent(100), flex_direction: FlexDirection::Column, ..default() },
        BackgroundGradient::from(RadialGradient {
            position: UiPosition::TOP,
            shape: RadialGradientShape::FarthestCorner,
            stops: vec![ColorStop::percent(theme::GLOW, 0), ColorStop::percent(theme::BACKGROUND, 75)],
            ..default()
        }),
        TabGroup::default(),
    )
}

impl From<&Option<Command>> for Typed {
    fn from(command: &Option<Command>) -> Self {
        match command.clone() {
            Some(Command::Host(host)) => Typed {
                name: host.name.clone(),
                password: host.password.clone().unwrap_or_default(),
                host: Some(host),
                ..default()
            },
            Some(Command::Join(join)) => Typed {
                name: join.name,
                code: join.code,
                password: join.password.unwrap_or_default(),
                relay: join.relay,
                ..default()
            },
            Some(Command::Demo) | None => default(),
        }
    }
}
