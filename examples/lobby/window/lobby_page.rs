//! The lobby page: the players, the invitation, the chat and the next step.

use bevy::{prelude::*, ui_widgets::Activate};

use super::{
    WindowSystems, chat, invite, players,
    shape::Shape,
    theme::{self, GRID, Theme, Type},
    widgets::{Look, button, column, row, set_enabled, spring},
};
use crate::{
    intent::Intent,
    table::{Page, Table},
};

#[derive(Component)]
struct Headline;

#[derive(Component)]
struct Hint;

#[derive(Component)]
struct ReadyButton;

#[derive(Component)]
struct StartButton;

fn spawn(
    mut commands: Commands,
    theme: Res<Theme>,
    table: Res<Table>,
    shape: Res<Shape>,
    mut images: ResMut<Assets<Image>>,
) {
    let shape = *shape;
    commands.spawn((DespawnOnExit(Page::Lobby), super::page())).with_children(|page| {
        page.spawn(Node {
            width: percent(100),
            height: percent(100),
            padding: shape.pick(UiRect::axes(px(5.0 * GRID), px(4.0 * GRID)), UiRect::all(px(2.0 * GRID))),
            ..column(shape.pick(3.0, 1.5))
        })
        .with_children(|body| {
            body.spawn(row(2.0)).with_children(|head| {
                let kind = shape.pick(Type::Title, Type::Heading);
                head.spawn((Headline, theme.text(kind, theme::TEXT, "")));
                head.spawn(spring());
                head.spawn(button(&theme, Look::Quiet, "Leave")).observe(
                    |_: On<Activate>, mut intents: MessageWriter<Intent>| {
                        intents.write(Intent::Leave);
                    },
                );
            });
            match shape {
                Shape::Wide => wide(body, &theme, &table, &mut images),
                Shape::Tall => tall(body, &theme, &table),
            }
            foot(body, &theme, &table, shape);
        });
    });
}

/// The players beside the invitation and the chat.
fn wide(body: &mut ChildSpawnerCommands, theme: &Theme, table: &Table, images: &mut Assets<Image>) {
    body.spawn(Node { flex_grow: 1.0, min_height: px(0), column_gap: px(3.0 * GRID), ..default() }).with_children(
        |columns| {
            columns
                .spawn(Node { flex_grow: 6.0, flex_basis: px(0), min_height: px(0), ..column(3.0) })
                .with_children(|left| players::spawn(left, theme, Shape::Wide));
            columns.spawn(Node { flex_grow: 5.0, flex_basis: px(0), min_height: px(0), ..column(3.0) }).with_children(
                |right| {
                    invite::spawn(right, theme, table, images);
                    chat::spawn(right, theme, Shape::Wide);
                },
            );
        },
    );
}

/// Everything below each other, and an invitation of one line.
fn tall(body: &mut ChildSpawnerCommands, theme: &Theme, table: &Table) {
    invite::spawn_line(body, theme, table);
    players::spawn(body, theme, Shape::Tall);
    chat::spawn(body, theme, Shape::Tall);
}

/// What everybody waits for, and the next step.
fn foot(body: &mut ChildSpawnerCommands, theme: &Theme, table: &Table, shape: Shape) {
    let direction = shape.pick(FlexDirection::Row, FlexDirection::Column);
    let align_items = shape.pick(AlignItems::Center, AlignItems::Stretch);
    body.spawn(Node { flex_direction: direction, row_gap: px(1.5 * GRID), align_items, ..row(2.0) }).with_children(
        |foot| {
            foot.spawn((Hint, theme.text(shape.pick(Type::Body, Type::Small), theme::DIM, "")));
            if shape == Shape::Wide {
                foot.spawn(spring());
            }
            let look = if table.is_host() { Look::Secondary } else { Look::Primary };
            foot.spawn((ReadyButton, button(theme, look, "I am ready"))).observe(toggle_ready);
            if table.is_host() {
                foot.spawn((StartButton, button(theme, Look::Primary, "Start the round"))).observe(
                    |_: On<Activate>, mut intents: MessageWriter<Intent>| {
                        intents.write(Intent::StartRound);
                    },
                );
            }
        },
    );
}

fn toggle_ready(_: On<Activate>, table: Res<Table>, mut intents: MessageWriter<Intent>) {
    if let Some(me) = table.myself() {
        intents.write(Intent::Ready(!me.ready));
    }
}

fn fill(
    table: Res<Table>,
    mut headline: Single<&mut Text, (With<Headline>, Without<Hint>)>,
    mut hint: Single<&mut Text, With<Hint>>,
    ready: Single<&Children, With<ReadyButton>>,
    start: Option<Single<Entity, With<StartButton>>>,
    mut captions: Query<&mut Text, (Without<Headline>, Without<Hint>)>,
    mut commands: Commands,
) {
    let host = table.players.first().map_or("", |p| p.name.as_str());
    headline.set_if_neq(Text::new(format!("{host}’s lobby")));
    hint.set_if_neq(Text::new(what_we_wait_for(&table)));
    let caption = if table.myself().is_some_and(|me| me.ready) { "I am not ready" } else { "I am ready" };
    for child in *ready {
        if let Ok(mut text) = captions.get_mut(*child) {
            text.set_if_neq(Text::new(caption));
        }
    }
    if let Some(start) = start {
        set_enabled(&mut commands, *start, table.everyone_ready());
    }
}

fn what_we_wait_for(table: &Table) -> String {
    let waiting: Vec<&str> = table.players.iter().filter(|p| !p.ready).map(|p| p.name.as_str()).collect();
    match (table.players.len(), waiting.as_slice()) {
        (0 | 1, _) => "Share the code or the link: a round needs two players.".to_owned(),
        (_, []) if table.is_host() => "Everyone is ready.".to_owned(),
        (_, []) => "Everyone is ready. The host starts the round.".to_owned(),
        (_, [one]) => format!("Waiting for {one}."),
        (_, many @ [_, _, _, _, ..]) => format!("Waiting for {} players.", many.len()),
        (_, [others @ .., last]) => format!("Waiting for {} and {last}.", others.join(", ")),
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(OnEnter(Page::Lobby), spawn)
        .add_systems(Update, fill.in_set(WindowSystems).run_if(in_state(Page::Lobby)));
}
