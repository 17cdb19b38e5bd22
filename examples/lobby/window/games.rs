//! The list of games on this network, on the start page. A click joins a game. The list has a constant size, so that
//! nothing moves when a game comes or goes.

use std::path::PathBuf;

use bevy::{
    input_focus::{FocusCause, InputFocus, tab_navigation::TabIndex},
    picking::hover::Hovered,
    prelude::*,
    render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk},
    ui::{InteractionDisabled, UiSystems},
    ui_widgets::{Activate, Button},
};

use super::{
    start_page::{Input, Typed, filled},
    theme::{self, GRID, Theme, Type},
    widgets::{Look, column, row},
};
use crate::{
    args::JoinArgs,
    intent::Intent,
    nearby::{Game, Nearby},
    table::{Page, Table},
};

/// The most games in the list.
const ROWS: usize = 3;
const ROW: f32 = 6.0 * GRID;
const GAP: f32 = GRID;

/// The content of the list: games, or a text in place of them.
#[derive(Component)]
struct List;

#[derive(Component)]
struct Caption;

/// A game that can be joined, with the centre that was printed last.
#[derive(Component)]
struct Row {
    game: Game,
    said: Option<Vec2>,
}

/// A dot that pulses during the search.
#[derive(Component)]
struct Looking;

pub fn spawn(parent: &mut ChildSpawnerCommands, theme: &Theme) {
    parent.spawn(column(1.5)).with_children(|group| {
        group.spawn((Caption, theme.text(Type::Caps, theme::DIM, "")));
        let height = px(ROWS as f32 * (ROW + GAP) - GAP);
        group.spawn((List, Node { height, row_gap: px(GAP), ..column(0.0) }));
    });
}

fn fill(
    list: Single<(Entity, Ref<List>)>,
    mut caption: Single<&mut Text, With<Caption>>,
    nearby: Res<Nearby>,
    theme: Res<Theme>,
    mut commands: Commands,
) {
    let (list, marker) = list.into_inner();
    if !nearby.is_changed() && !marker.is_added() {
        return;
    }
    let games = &nearby.0;
    caption.set_if_neq(Text::new(match games.len() {
        count if count > ROWS => format!("GAMES ON THIS NETWORK  ·  {ROWS} OF {count}"),
        _ => "GAMES ON THIS NETWORK".to_owned(),
    }));
    commands.entity(list).despawn_children().with_children(|list| {
        if games.is_empty() {
            looking(list, &theme);
        }
        for game in games.iter().take(ROWS) {
            entry(list, &theme, game);
        }
    });
}

/// Joins a game of this network. If it needs a password, the player types it first.
fn join(
    In(game): In<Game>,
    typed: Res<Typed>,
    inputs: Query<(Entity, &Input)>,
    mut table: ResMut<Table>,
    mut intents: MessageWriter<Intent>,
    mut focus: ResMut<InputFocus>,
) {
    if game.locked && typed.password.is_empty() {
        table.notice = Some(format!("{} has a password: enter it, then choose the game again.", game.name));
        if let Some((entity, _)) = inputs.iter().find(|(_, input)| **input == Input::Password) {
            focus.set(entity, FocusCause::Navigated);
        }
        return;
    }
    let name = filled(&typed.name).unwrap_or_else(|| "Player".to_owned());
    let password = filled(&typed.password).filter(|_| game.locked);
    intents.write(Intent::Join(JoinArgs { name, password, ..JoinArgs::ordinary(&game.link) }));
}

fn looking(list: &mut ChildSpawnerCommands, theme: &Theme) {
    list.spawn(Node { height: px(ROW), ..row(1.5) }).with_children(|line| {
        line.spawn((
            Looking,
            Node { width: px(GRID), height: px(GRID), border_radius: BorderRadius::MAX, ..default() },
            BackgroundColor(theme::ACCENT),
        ));
        line.spawn(theme.text(Type::Small, theme::FAINT, "Looking for games on this network …"));
    });
}

fn entry(list: &mut ChildSpawnerCommands, theme: &Theme, game: &Game) {
    let mut button = list.spawn((
        Row { game: game.clone(), said: None },
        Button,
        Look::Secondary,
        Hovered::default(),
        TabIndex(0),
        Node {
            height: px(ROW),
            padding: UiRect::horizontal(px(2.0 * GRID)),
            border_radius: BorderRadius::all(px(12)),
            flex_shrink: 0.0,
            ..row(2.0)
        },
        BackgroundColor(theme::RAISED),
    ));
    let colour = if game.full { theme::FAINT } else { theme::TEXT };
    button.with_children(|line| {
        // A long name is cut at the numbers.
        let room =
            Node { flex_grow: 1.0, flex_basis: px(0), min_width: px(0), overflow: Overflow::clip(), ..default() };
        line.spawn((room, Pickable::IGNORE)).with_children(|room| {
            room.spawn((theme.text(Type::Strong, colour, &game.name), TextLayout::no_wrap()));
        });
        if game.locked {
            lock(line);
        }
        line.spawn((Node::default(), Pickable::IGNORE)).with_children(|number| {
            let players = if game.full { "full".to_owned() } else { format!("{}/{}", game.players, game.max) };
            number.spawn(theme.text(Type::Small, theme::DIM, players));
        });
    });
    if game.full {
        button.insert(InteractionDisabled);
    } else {
        let game = game.clone();
        button.observe(move |_: On<Activate>, mut commands: Commands| {
            commands.run_system_cached_with(join, game.clone());
        });
    }
}

/// A padlock, which marks a game with a password.
fn lock(parent: &mut ChildSpawnerCommands) {
    parent
        .spawn((
            Node { width: px(14), height: px(18), align_items: AlignItems::Center, ..column(0.0) },
            Pickable::IGNORE,
        ))
        .with_children(|lock| {
            lock.spawn((
                Node {
                    width: px(10),
                    height: px(8),
                    border: UiRect { bottom: px(0), ..UiRect::all(px(2)) },
                    border_radius: BorderRadius::top(px(5)),
                    ..default()
                },
                BorderColor::all(theme::DIM),
                Pickable::IGNORE,
            ));
            lock.spawn((
                Node { width: px(14), height: px(10), border_radius: BorderRadius::all(px(2.5)), ..default() },
                BackgroundColor(theme::DIM),
                Pickable::IGNORE,
            ));
        });
}

fn breathe(mut dots: Query<&mut BackgroundColor, With<Looking>>, time: Res<Time>) {
    for mut colour in &mut dots {
        colour.0 = theme::ACCENT.with_alpha(0.55 + 0.35 * (time.elapsed_secs() * 2.0).sin());
    }
}

/// Prints the centre of each game in pixels of the window, for `.ci/games`, which clicks there.
fn say_places(mut rows: Query<(&mut Row, &UiGlobalTransform)>) {
    for (mut row, transform) in &mut rows {
        let place = transform.translation.round();
        let Game { name, players, max, .. } = &row.game;
        if row.said != Some(place) {
            debug!("{name}: {players} of {max} players, at {} {}", place.x, place.y);
            row.said = Some(place);
        }
    }
}

/// The pause before the picture, in which the rows are drawn and a third game may appear.
const DELAY_SECONDS: f32 = 2.0;

/// Saves a picture of the start page once it lists two games, and exits.
pub fn picture(file: PathBuf) -> impl Plugin {
    move |app: &mut App| {
        let file = file.clone();
        app.add_systems(
            Update,
            move |nearby: Res<Nearby>, mut since: Local<f32>, time: Res<Time>, mut commands: Commands| {
                let before = *since;
                *since = if nearby.0.len() >= 2 { before + time.delta_secs() } else { 0.0 };
                if before < DELAY_SECONDS && *since >= DELAY_SECONDS {
                    commands.spawn(Screenshot::primary_window()).observe(save_to_disk(file.clone())).observe(
                        |_: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>| {
                            exit.write(AppExit::Success);
                        },
                    );
                }
            },
        );
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, ((fill, breathe).chain()).run_if(in_state(Page::Start)))
        .add_systems(PostUpdate, say_places.after(UiSystems::PostLayout));
}
