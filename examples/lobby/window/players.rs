//! The card with a row for each seat.

use bevy::{
    prelude::*,
    ui_widgets::{Activate, ScrollArea},
};

use super::{
    WindowSystems,
    shape::Shape,
    theme::{self, GRID, Theme, Type},
    widgets::{Look, button, card, column, figure, row, spring},
};
use crate::{
    intent::Intent,
    table::{Page, Table},
    words::{Connection, HOST, Player, Way},
};

#[derive(Component)]
struct Seats;

/// The number of players, in the header of the card.
#[derive(Component)]
struct Count;

/// A part of the row of a seat. Rows are not despawned while players come and go, so that no press is lost.
#[derive(Component, Clone, Copy)]
struct Part {
    seat: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Row,
    Avatar,
    Name,
    Tag,
    Connection,
    Rate,
    Lost,
    Ready,
    ReadyText,
    Kick,
}

pub fn spawn(parent: &mut ChildSpawnerCommands, theme: &Theme, shape: Shape) {
    // On a phone, the chat takes what the seats leave.
    let node = shape.pick(
        Node { flex_grow: 1.0, min_height: px(0), ..default() },
        Node { max_height: percent(50), flex_shrink: 0.0, ..default() },
    );
    parent.spawn(card(node)).with_children(|card| {
        card.spawn(row(1.5)).with_children(|head| {
            head.spawn(theme.text(Type::Heading, theme::TEXT, "Players"));
            head.spawn(spring());
            head.spawn((Count, theme.text(Type::Small, theme::DIM, "")));
        });
        card.spawn((
            Seats,
            ScrollArea,
            Node {
                overflow: Overflow::scroll_y(),
                flex_grow: 1.0,
                min_height: px(0),
                // Without this margin, the borders of rows are clipped at some scales.
                padding: UiRect::horizontal(px(1)),
                ..column(1.0)
            },
        ));
        if shape == Shape::Tall {
            return;
        }
        card.spawn(theme.text(
            Type::Small,
            theme::FAINT,
            "A round takes a minute. Walk into sparks to catch them: the most sparks win.",
        ));
    });
}

/// Spawns one row for each seat.
fn lay_seats(
    table: Res<Table>,
    seats: Single<(Entity, Option<&Children>), With<Seats>>,
    theme: Res<Theme>,
    shape: Res<Shape>,
    mut commands: Commands,
) {
    let (seats, rows) = *seats;
    if rows.map_or(0, |rows| rows.len()) != table.max {
        commands.entity(seats).despawn_children().with_children(|list| {
            // Eight rows fit if each is a little lower.
            let height = if table.max > 6 || *shape == Shape::Tall { 6.25 } else { 9.0 };
            (0..table.max).for_each(|seat| spawn_row(list, &theme, seat, height, *shape));
        });
    }
}

fn spawn_row(parent: &mut ChildSpawnerCommands, theme: &Theme, seat: usize, height: f32, shape: Shape) {
    let part = |kind| Part { seat, kind };
    parent
        .spawn((
            part(Kind::Row),
            Node {
                height: px(height * GRID),
                padding: UiRect::horizontal(px(2.0 * GRID)),
                border: UiRect::all(px(1)),
                border_radius: BorderRadius::all(px(12)),
                flex_shrink: 0.0,
                ..row(1.5)
            },
            BackgroundColor(theme::WELL),
            BorderColor::all(theme::WELL),
        ))
        .with_children(|line| {
            line.spawn((part(Kind::Avatar), figure(theme::FAINT, 40.0)));
            line.spawn(column(0.0)).with_children(|words| {
                words.spawn(row(1.0)).with_children(|name| {
                    name.spawn((part(Kind::Name), theme.text(Type::Strong, theme::TEXT, "")));
                    name.spawn((part(Kind::Tag), theme.text(Type::Small, theme::FAINT, "")));
                });
                words.spawn((part(Kind::Connection), theme.text(Type::Small, theme::DIM, "")));
            });
            line.spawn(spring());
            let display = shape.pick(Display::Flex, Display::None);
            line.spawn(Node { align_items: AlignItems::End, flex_shrink: 0.0, display, ..column(0.0) }).with_children(
                |figures| {
                    figures.spawn((part(Kind::Rate), theme.text(Type::Small, theme::DIM, "")));
                    figures.spawn((part(Kind::Lost), theme.text(Type::Small, theme::FAINT, "")));
                },
            );
            line.spawn((part(Kind::Kick), button(theme, Look::Danger, "Remove"))).observe(
                move |_: On<Activate>, table: Res<Table>, mut intents: MessageWriter<Intent>| {
                    intents.write_batch(table.players.get(seat).map(|p| Intent::Kick(p.id)));
                },
            );
            line.spawn((
                part(Kind::Ready),
                Node {
                    padding: UiRect::axes(px(1.5 * GRID), px(0.5 * GRID)),
                    min_width: px(11.0 * GRID),
                    justify_content: JustifyContent::Center,
                    border_radius: BorderRadius::MAX,
                    flex_shrink: 0.0,
                    ..default()
                },
                BackgroundColor(theme::RAISED),
            ))
            .with_child((part(Kind::ReadyText), theme.text(Type::Small, theme::DIM, "")));
        });
}

/// Updates each row from the player in its seat.
fn fill(
    table: Res<Table>,
    shape: Res<Shape>,
    mut parts: Query<(&Part, &mut Node, &mut BackgroundColor)>,
    mut texts: Query<(&Part, &mut Text, &mut TextColor)>,
    mut borders: Query<(&Part, &mut BorderColor)>,
    mut count: Single<&mut Text, (With<Count>, Without<Part>)>,
) {
    count.set_if_neq(Text::new(format!("{} of {}", table.players.len(), table.max)));
    let shown = |yes| if yes { Display::Flex } else { Display::None };
    for (part, mut node, mut background) in &mut parts {
        let player = table.players.get(part.seat);
        let (display, colour) = match part.kind {
            Kind::Row => (Display::Flex, if player.is_some() { theme::WELL } else { Color::NONE }),
            Kind::Avatar if player.is_some_and(is_away) => (Display::Flex, theme::FAINT),
            Kind::Avatar => (shown(player.is_some()), theme::player_colour(player.map_or(0, |p| p.colour))),
            Kind::Ready if player.is_some_and(|p| p.ready) => (Display::Flex, theme::GOOD.with_alpha(0.16)),
            Kind::Ready => (shown(player.is_some()), theme::RAISED),
            Kind::Kick if table.is_host() && player.is_some_and(|p| p.id != HOST) => (Display::Flex, background.0),
            Kind::Kick => (Display::None, background.0),
            _ => continue,
        };
        if node.display != display {
            node.display = display;
        }
        background.set_if_neq(BackgroundColor(colour));
    }
    for (part, mut border) in &mut borders {
        let empty = part.kind == Kind::Row && table.players.get(part.seat).is_none();
        border.set_if_neq(BorderColor::all(if empty { theme::CARD_EDGE } else { Color::NONE }));
    }
    for (part, mut text, mut colour) in &mut texts {
        let (words, shade) = match (part.kind, table.players.get(part.seat)) {
            (Kind::Name, Some(player)) => {
                (player.name.clone(), if is_away(player) { theme::FAINT } else { theme::TEXT })
            }
            (Kind::Name, None) => ("Open seat".to_owned(), theme::FAINT),
            (Kind::Tag, Some(player)) if Some(player.id) == table.me => ("you".to_owned(), theme::FAINT),
            (Kind::Connection, Some(Player { connection: Connection { away: Some(seconds), .. }, .. })) => {
                (reconnecting(*seconds), theme::ACCENT)
            }
            (Kind::Connection, Some(player)) => (connection(player, &table, *shape), theme::DIM),
            (Kind::Rate, Some(player)) if is_remote(player) => (player.connection.flow(), theme::DIM),
            (Kind::Lost, Some(player)) if is_remote(player) => lost(player.connection.lost),
            (Kind::ReadyText, Some(player)) if player.ready => ("Ready".to_owned(), theme::GOOD),
            (Kind::ReadyText, Some(_)) => ("Not ready".to_owned(), theme::DIM),
            _ => (String::new(), theme::DIM),
        };
        text.set_if_neq(Text::new(words));
        colour.set_if_neq(TextColor(shade));
    }
}

/// Whether this player is interrupted.
fn is_away(player: &Player) -> bool {
    player.connection.away.is_some()
}

pub fn reconnecting(seconds: u32) -> String {
    format!("Reconnecting… {seconds} s")
}

/// Whether this player is connected over a network.
fn is_remote(player: &Player) -> bool {
    player.connection.way != Way::Host
}

/// How a player is connected. A row on a phone has no room for the round trip.
fn connection(player: &Player, table: &Table, shape: Shape) -> String {
    let connection = &player.connection;
    let way = match connection.way {
        Way::Host => "Host",
        Way::Relay => shape.pick("Over the relay", "Relay"),
        Way::Direct => "Direct",
    };
    let ping = match connection.ping.filter(|_| connection.way != Way::Host && shape == Shape::Wide) {
        Some(0) => Some("under 1 ms".to_owned()),
        ping => ping.map(|ms| format!("{ms} ms")),
    };
    let parts = [Some(way.to_owned()), ping, table.seal(player).map(|seal| seal.words().to_owned())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The colour of the losses: dim while there are none.
fn lost(per_second: Option<u32>) -> (String, Color) {
    match per_second {
        None => (String::new(), theme::FAINT),
        Some(0) => ("no losses".to_owned(), theme::FAINT),
        Some(many) => (format!("{many} lost/s"), theme::ACCENT),
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, (lay_seats, fill).chain().in_set(WindowSystems).run_if(in_state(Page::Lobby)));
}
