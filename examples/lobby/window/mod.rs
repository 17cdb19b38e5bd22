//! The lobby in a window, in Bevy's own UI.

mod arena;
mod banner;
mod chat;
mod fields;
mod games;
mod invite;
mod lobby_page;
mod players;
mod screenshot;
mod start_page;
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

use super::{
    args::{Cli, Command},
    autopilot,
    game::LobbySystems,
};

/// The size the pages are designed for, in logical pixels.
const SIZE: UVec2 = UVec2::new(1280, 800);

/// Runs the lobby in a window until the player closes it, which leaves the lobby.
pub fn run(cli: Cli) -> AppExit {
    let mut app = App::new();
    let window = Window {
        title: "Lobby".to_owned(),
        resolution: WindowResolution::new(SIZE.x, SIZE.y),
        resize_constraints: WindowResizeConstraints { min_width: 960.0, min_height: 640.0, ..default() },
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
    .insert_resource(start_page::Typed::from(&cli.command))
    .add_systems(Startup, |mut commands: Commands| {
        commands.spawn(Camera2d);
    })
    .add_systems(PreUpdate, fit)
    .configure_sets(Update, WindowSystems.after(LobbySystems));
    super::add_lobby(&mut app, &cli);
    app.add_plugins((
        widgets::plugin,
        fields::plugin,
        start_page::plugin,
        games::plugin,
        lobby_page::plugin,
        invite::plugin,
        players::plugin,
        chat::plugin,
        arena::plugin,
        banner::plugin,
    ));
    #[cfg(feature = "overlay")]
    app.add_plugins(UhstOverlayPlugin { shown: cli.view.overlay, ..default() });
    if cli.view.autoplay {
        app.add_plugins(autopilot::plugin);
    }
    if let Some(file) = cli.view.screenshot {
        app.add_plugins(screenshot::plugin(file));
    }
    if let Some(file) = cli.view.screenshot_games {
        app.add_plugins(games::picture(file));
    }
    app.run()
}

/// Scales the UI with the window, so that pages fit every size.
fn fit(window: Single<&Window, Changed<Window>>, mut scale: ResMut<UiScale>) {
    let fits = window.size() / SIZE.as_vec2();
    scale.0 = fits.min_element().clamp(0.5, 3.0);
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

impl From<&Option<Command>> for start_page::Typed {
    fn from(command: &Option<Command>) -> Self {
        match command.clone() {
            Some(Command::Host(host)) => start_page::Typed {
                name: host.name.clone(),
                password: host.password.clone().unwrap_or_default(),
                host: Some(host),
                ..default()
            },
            Some(Command::Join(join)) => start_page::Typed {
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
