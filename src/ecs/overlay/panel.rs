//! The panel. It is spawned when the overlay is shown and despawned when it is hidden.

use bevy::prelude::*;

use super::{ToggleKey, events, history::Histories, peers, style};

/// The root of the overlay's UI.
#[derive(Component)]
pub(super) struct Panel;

/// The layer of the panel: above the UI of the game.
const LAYER: GlobalZIndex = GlobalZIndex(i32::MAX - 64);

pub(super) fn show(key: Res<ToggleKey>, mut commands: Commands) {
    commands
        .spawn((
            Panel,
            peers::Listed::default(),
            Histories::default(),
            Name::new("network overlay"),
            LAYER,
            Node {
                position_type: PositionType::Absolute,
                left: px(12),
                top: px(12),
                padding: UiRect::all(px(12)),
                border_radius: BorderRadius::all(px(8)),
                ..style::column(10.0)
            },
            BackgroundColor(style::PANEL),
            Pickable::IGNORE,
        ))
        .with_children(|panel| {
            panel.spawn((style::row(8.0), Pickable::IGNORE)).with_children(|head| {
                head.spawn(style::text("NETWORK", style::DIM));
                head.spawn(style::spring());
                if let Some(key) = key.0 {
                    head.spawn(style::text(format!("{key:?} hides"), style::DIM));
                }
            });
            panel.spawn((peers::Sessions, style::column(10.0), Pickable::IGNORE));
            panel.spawn((style::column(1.0), Pickable::IGNORE)).with_children(events::spawn);
        });
}

pub(super) fn hide(panels: Query<Entity, With<Panel>>, mut commands: Commands) {
    for panel in &panels {
        commands.entity(panel).despawn();
    }
}
