//! The card with the join code and the link, and a button to copy each.

use bevy::{clipboard::Clipboard, prelude::*, text::LineBreak, ui_widgets::Activate};

use super::{
    theme::{self, GRID, Theme, Type},
    widgets::{Look, ShowToast, button, card, column, row, spring},
};
use crate::table::Table;

/// What the copy buttons say for a moment after they were pressed.
const COPIED: &str = "Copied";

/// Turns a caption back into what it was.
#[derive(Component)]
struct Reverts {
    caption: &'static str,
    timer: Timer,
}

pub fn spawn(parent: &mut ChildSpawnerCommands, theme: &Theme, table: &Table) {
    parent.spawn(card(Node::default())).with_children(|card| {
        card.spawn(row(2.0)).with_children(|line| {
            line.spawn(column(0.5)).with_children(|words| {
                words.spawn(theme.text(Type::Caps, theme::DIM, "JOIN CODE"));
                // A chosen id may be long; six digits get the large type.
                let kind = if table.code.chars().count() <= 8 { Type::Huge } else { Type::Title };
                words.spawn((
                    theme.text(kind, theme::ACCENT, &table.code),
                    TextLayout::linebreak(LineBreak::WordOrCharacter),
                ));
            });
            line.spawn(spring());
            copy_button(line, theme, "Copy code", table.code.clone());
        });
        card.spawn((
            Node {
                padding: UiRect::new(px(2.0 * GRID), px(1.0 * GRID), px(1.0 * GRID), px(1.0 * GRID)),
                border_radius: BorderRadius::all(px(12)),
                ..row(2.0)
            },
            BackgroundColor(theme::WELL),
        ))
        .with_children(|line| {
            line.spawn((
                theme.text(Type::Small, theme::DIM, &table.link),
                TextLayout::linebreak(LineBreak::AnyCharacter),
                Node { flex_grow: 1.0, flex_basis: px(0), ..default() },
            ));
            copy_button(line, theme, "Copy link", table.link.clone());
        });
    });
}

fn copy_button(parent: &mut ChildSpawnerCommands, theme: &Theme, caption: &'static str, text: String) {
    parent.spawn(button(theme, Look::Secondary, caption)).observe(
        move |press: On<Activate>,
              mut clipboard: ResMut<Clipboard>,
              children: Query<&Children>,
              mut captions: Query<&mut Text>,
              mut toasts: MessageWriter<ShowToast>,
              mut commands: Commands| {
            if let Err(error) = clipboard.set_text(text.clone()) {
                warn!("no clipboard: {error:?}");
                toasts.write(ShowToast("There is no clipboard here".to_owned()));
                return;
            }
            for child in children.get(press.entity).into_iter().flatten() {
                if let Ok(mut shown) = captions.get_mut(*child) {
                    shown.0 = COPIED.to_owned();
                    commands
                        .entity(*child)
                        .insert(Reverts { caption, timer: Timer::from_seconds(1.5, TimerMode::Once) });
                }
            }
        },
    );
}

fn revert(mut captions: Query<(Entity, &mut Text, &mut Reverts)>, time: Res<Time>, mut commands: Commands) {
    for (entity, mut text, mut reverts) in &mut captions {
        if reverts.timer.tick(time.delta()).is_finished() {
            text.0 = reverts.caption.to_owned();
            commands.entity(entity).remove::<Reverts>();
        }
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, revert);
}
