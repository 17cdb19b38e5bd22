//! A banner at the top of every page while the host is interrupted. It leaves the corners free for titles and buttons.

use bevy::prelude::*;

use super::{
    WindowSystems,
    players::reconnecting,
    theme::{self, GRID, Theme, Type},
};
use crate::table::Table;

#[derive(Component)]
struct Banner;

#[derive(Component)]
struct Words;

fn spawn(mut commands: Commands, theme: Res<Theme>) {
    commands
        .spawn((
            Banner,
            GlobalZIndex(10),
            Pickable::IGNORE,
            Node {
                position_type: PositionType::Absolute,
                width: percent(100),
                top: px(4.0 * GRID),
                justify_content: JustifyContent::Center,
                display: Display::None,
                ..default()
            },
        ))
        .with_children(|banner| {
            banner
                .spawn((
                    Pickable::IGNORE,
                    Node {
                        padding: UiRect::axes(px(3.0 * GRID), px(1.5 * GRID)),
                        border_radius: BorderRadius::MAX,
                        ..default()
                    },
                    BackgroundColor(theme::ACCENT),
                ))
                .with_child((Words, theme.text(Type::Strong, theme::ON_ACCENT, "")));
        });
}

fn fill(table: Res<Table>, mut banner: Single<&mut Node, With<Banner>>, mut words: Single<&mut Text, With<Words>>) {
    let display = if table.host_away.is_some() { Display::Flex } else { Display::None };
    if banner.display != display {
        banner.display = display;
    }
    if let Some(seconds) = table.host_away {
        words.set_if_neq(Text::new(format!("The host does not answer. {}", reconnecting(seconds))));
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Startup, spawn).add_systems(Update, fill.in_set(WindowSystems));
}
