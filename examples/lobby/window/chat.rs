//! The card with the chat.

use bevy::{
    input_focus::AutoFocus,
    prelude::*,
    text::EditableText,
    ui_widgets::{Activate, ScrollArea},
};

use super::{
    WindowSystems,
    fields::{Submit, field, value},
    shape::Shape,
    theme::{self, GRID, Theme, Type},
    widgets::{Look, button, card, column, row},
};
use crate::{
    intent::Intent,
    table::{ChatLine, Page, Table},
};

#[derive(Component)]
struct Lines {
    shown: usize,
}

#[derive(Component)]
struct ChatInput;

pub fn spawn(parent: &mut ChildSpawnerCommands, theme: &Theme, shape: Shape) {
    parent.spawn(card(Node { flex_grow: 1.0, min_height: px(0), ..default() })).with_children(|card| {
        if shape == Shape::Wide {
            card.spawn(theme.text(Type::Heading, theme::TEXT, "Chat"));
        }
        card.spawn((
            Lines { shown: 0 },
            ScrollArea,
            Node {
                overflow: Overflow::scroll_y(),
                flex_grow: 1.0,
                flex_basis: px(0),
                min_height: px(0),
                ..column(1.0)
            },
        ));
        card.spawn(row(1.5)).with_children(|line| {
            line.spawn(field(theme, "Say something", "", 200, (ChatInput, AutoFocus)));
            line.spawn(button(theme, Look::Secondary, "Send")).observe(|_: On<Activate>, mut commands: Commands| {
                commands.run_system_cached(send);
            });
        });
    });
}

fn send(mut input: Single<&mut EditableText, With<ChatInput>>, mut intents: MessageWriter<Intent>) {
    let text = value(&input);
    if !text.is_empty() {
        intents.write(Intent::Say(text));
        input.clear();
    }
}

fn submit(submit: On<Submit>, inputs: Query<(), With<ChatInput>>, mut commands: Commands) {
    if inputs.contains(submit.entity) {
        commands.run_system_cached(send);
    }
}

/// Adds the lines of the last frame, and scrolls to the end.
fn fill(
    table: Res<Table>,
    lines: Single<(Entity, &mut Lines, &mut ScrollPosition)>,
    theme: Res<Theme>,
    mut commands: Commands,
) {
    let (list, mut lines, mut scroll) = lines.into_inner();
    if table.chat.len() <= lines.shown {
        return;
    }
    for line in &table.chat[lines.shown..] {
        let line = spawn_line(&mut commands, &theme, line);
        commands.entity(list).add_child(line);
    }
    lines.shown = table.chat.len();
    // The layout limits this to the end of the text.
    scroll.y = f32::MAX / 2.0;
}

fn spawn_line(commands: &mut Commands, theme: &Theme, line: &ChatLine) -> Entity {
    let Some((name, colour)) = &line.from else {
        return commands.spawn(theme.text(Type::Small, theme::FAINT, &line.text)).id();
    };
    let node = Node { flex_shrink: 0.0, padding: UiRect::vertical(px(0.25 * GRID)), ..column(0.25) };
    commands
        .spawn((node, Pickable::IGNORE))
        .with_children(|group| {
            group.spawn(theme.text(Type::Small, theme::player_colour(*colour), name));
            group.spawn(theme.text(Type::Body, theme::TEXT, &line.text));
        })
        .id()
}

pub fn plugin(app: &mut App) {
    app.add_observer(submit).add_systems(Update, fill.in_set(WindowSystems).run_if(in_state(Page::Lobby)));
}
