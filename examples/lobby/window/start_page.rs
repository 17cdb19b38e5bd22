//! The start page: host or join.

use bevy::{input_focus::AutoFocus, prelude::*, text::EditableText, ui_widgets::Activate};
use bevy_uhst::prelude::JoinLink;

use super::{
    fields::{Submit, field, value},
    shape::Shape,
    theme::{self, GRID, Theme, Type},
    widgets::{Look, button, card, column, figure, row},
};
use crate::{
    args::{HostArgs, JoinArgs},
    intent::Intent,
    table::{Page, Table},
};

/// The last contents of the fields. They are restored when the player returns to this page.
#[derive(Resource, Default)]
pub struct Typed {
    pub name: String,
    pub code: String,
    pub password: String,
    /// The options of the command line that have no field.
    pub host: Option<HostArgs>,
    pub relay: Option<String>,
    /// The player came by the link in `code`: there is only that lobby to join.
    pub invited: bool,
}

/// The place of the notice.
#[derive(Component)]
struct Notice;

#[derive(Component, Clone, Copy, PartialEq)]
pub enum Input {
    Name,
    Code,
    Password,
}

fn spawn(mut commands: Commands, theme: Res<Theme>, typed: Res<Typed>, shape: Res<Shape>) {
    commands.spawn((DespawnOnExit(Page::Start), super::page())).with_children(|page| {
        page.spawn(Node {
            width: percent(100),
            height: percent(100),
            flex_direction: shape.pick(FlexDirection::Row, FlexDirection::Column),
            justify_content: JustifyContent::Center,
            align_items: AlignItems::Center,
            column_gap: px(12.0 * GRID),
            // On a phone, the notice takes the place between the two.
            row_gap: px(9.0 * GRID),
            padding: UiRect::all(px(shape.pick(0.0, 2.0 * GRID))),
            ..default()
        })
        .with_children(|split| {
            pitch(split, &theme, *shape);
            let width = shape.pick(px(56.0 * GRID), percent(100));
            split.spawn(card(Node { width, ..default() })).with_children(|card| form(card, &theme, &typed));
        });
    });
}

fn pitch(parent: &mut ChildSpawnerCommands, theme: &Theme, shape: Shape) {
    let width = shape.pick(px(50.0 * GRID), percent(100));
    parent.spawn(Node { width, ..column(3.0) }).with_children(|pitch| {
        pitch.spawn(Node { align_items: AlignItems::End, ..row(1.5) }).with_children(|crowd| {
            for (colour, size) in [(0, 88.0), (1, 64.0), (2, 72.0), (3, 48.0)] {
                crowd.spawn(figure(theme::player_colour(colour), size * shape.pick(1.0, 0.8)));
            }
        });
        pitch.spawn(theme.text(Type::Title, theme::TEXT, "Play together,\nwithout a game server"));
        if shape == Shape::Tall {
            return;
        }
        pitch.spawn(theme.text(
            Type::Body,
            theme::DIM,
            "One of you opens a lobby and shares its code or link. Everyone else joins, chats, gets ready and chases sparks.",
        ));
        #[cfg(not(target_family = "wasm"))]
        super::games::spawn(pitch, theme);
    });
}

fn form(card: &mut ChildSpawnerCommands, theme: &Theme, typed: &Typed) {
    // The notice stands above the card, so that the form does not move under the pointer.
    let above = Node {
        position_type: PositionType::Absolute,
        bottom: percent(100),
        left: px(0),
        right: px(0),
        margin: UiRect::bottom(px(2.0 * GRID)),
        display: Display::None,
        ..column(0.0)
    };
    card.spawn((Notice, above));
    labelled(card, theme, "YOUR NAME", "What should the others call you?", &typed.name, 16, Input::Name);
    labelled(card, theme, "PASSWORD", "Only if the lobby has one", &typed.password, 64, Input::Password);
    if typed.invited {
        let code = typed.code.parse::<JoinLink>().map_or_else(|_| typed.code.clone(), |link| link.id);
        let caption = format!("Join {code}");
        card.spawn(button(theme, Look::Primary, &caption)).observe(|_: On<Activate>, mut commands: Commands| {
            commands.run_system_cached(join);
        });
        return;
    }
    card.spawn(button(theme, Look::Primary, "Open a lobby")).observe(|_: On<Activate>, mut commands: Commands| {
        commands.run_system_cached(host);
    });
    card.spawn(row(2.0)).with_children(|or| {
        let line = || (Node { flex_grow: 1.0, height: px(1), ..default() }, BackgroundColor(theme::CARD_EDGE));
        or.spawn(line());
        or.spawn(theme.text(Type::Small, theme::FAINT, "or join one"));
        or.spawn(line());
    });
    card.spawn(row(1.5)).with_children(|line| {
        line.spawn(field(theme, "Code or link", &typed.code, 400, Input::Code));
        line.spawn(button(theme, Look::Secondary, "Join")).observe(|_: On<Activate>, mut commands: Commands| {
            commands.run_system_cached(join);
        });
    });
}

/// A field with a caption above it.
fn labelled(
    card: &mut ChildSpawnerCommands,
    theme: &Theme,
    label: &str,
    placeholder: &str,
    text: &str,
    longest: usize,
    input: Input,
) {
    card.spawn(column(1.0)).with_children(|group| {
        group.spawn(theme.text(Type::Caps, theme::DIM, label));
        group.spawn(Node::default()).with_children(|line| {
            line.spawn(field(theme, placeholder, text, longest, input));
        });
    });
}

/// Focuses the field that the player fills in first.
fn focus_first(
    inputs: Query<(Entity, &Input), Added<Input>>,
    typed: Res<Typed>,
    table: Res<Table>,
    mut commands: Commands,
) {
    let password = table.notice.as_ref().is_some_and(|notice| notice.contains("password"));
    let first = match () {
        () if password => Input::Password,
        () if typed.name.is_empty() || typed.invited => Input::Name,
        () => Input::Code,
    };
    if let Some((entity, _)) = inputs.iter().find(|(_, input)| **input == first) {
        commands.entity(entity).insert(AutoFocus);
    }
}

/// Records the contents of the fields.
fn remember(inputs: Query<(&EditableText, &Input), Changed<EditableText>>, mut typed: ResMut<Typed>) {
    for (text, input) in &inputs {
        *match input {
            Input::Name => &mut typed.name,
            Input::Code => &mut typed.code,
            Input::Password => &mut typed.password,
        } = value(text);
    }
}

fn host(typed: Res<Typed>, mut intents: MessageWriter<Intent>) {
    let options = typed.host.clone().unwrap_or_else(HostArgs::ordinary);
    let name = if typed.name.is_empty() { options.name.clone() } else { typed.name.clone() };
    intents.write(Intent::Host(HostArgs { name, password: filled(&typed.password), ..options }));
}

fn join(typed: Res<Typed>, mut table: ResMut<Table>, mut intents: MessageWriter<Intent>) {
    if typed.code.is_empty() {
        table.notice = Some("Enter the code or the link that the host shows.".to_owned());
        return;
    }
    let name = filled(&typed.name).unwrap_or_else(|| "Player".to_owned());
    intents.write(Intent::Join(JoinArgs {
        code: typed.code.clone(),
        name,
        password: filled(&typed.password),
        relay: typed.relay.clone(),
    }));
}

/// A text that was typed, or nothing.
pub fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Joins on Enter if there is a code, and otherwise opens a lobby.
fn submit(submit: On<Submit>, inputs: Query<(), With<Input>>, typed: Res<Typed>, mut commands: Commands) {
    if !inputs.contains(submit.entity) {
        return;
    }
    if typed.code.is_empty() {
        commands.run_system_cached(host);
    } else {
        commands.run_system_cached(join);
    }
}

/// Shows why the player is back on this page.
fn show_notice(
    slot: Single<(Entity, Ref<Notice>, &mut Node)>,
    table: Res<Table>,
    theme: Res<Theme>,
    mut commands: Commands,
) {
    let (slot, marker, mut node) = slot.into_inner();
    if !table.is_changed() && !marker.is_added() {
        return;
    }
    commands.entity(slot).despawn_children();
    node.display = if table.notice.is_some() { Display::Flex } else { Display::None };
    if let Some(notice) = &table.notice {
        commands.spawn((
            ChildOf(slot),
            Node {
                padding: UiRect::axes(px(2.0 * GRID), px(1.5 * GRID)),
                border: UiRect::all(px(1)),
                border_radius: BorderRadius::all(px(10)),
                ..default()
            },
            BackgroundColor(theme::BAD.with_alpha(0.07)),
            BorderColor::all(theme::BAD.with_alpha(0.5)),
            children![theme.text(Type::Small, theme::TEXT, notice)],
        ));
    }
}

fn spawn_waiting(mut commands: Commands, theme: Res<Theme>) {
    commands.spawn((DespawnOnExit(Page::Joining), super::page())).with_children(|page| {
        page.spawn(Node {
            width: percent(100),
            height: percent(100),
            justify_content: JustifyContent::Center,
            align_items: AlignItems::Center,
            ..column(3.0)
        })
        .with_children(|middle| {
            middle.spawn((Bouncing, figure(theme::player_colour(0), 72.0)));
            middle.spawn(theme.text(Type::Heading, theme::TEXT, "One moment …"));
            middle.spawn(button(&theme, Look::Quiet, "Cancel")).observe(
                |_: On<Activate>, mut intents: MessageWriter<Intent>| {
                    intents.write(Intent::Leave);
                },
            );
        });
    });
}

#[derive(Component)]
struct Bouncing;

fn bounce(mut figures: Query<&mut UiTransform, With<Bouncing>>, time: Res<Time>) {
    for mut transform in &mut figures {
        transform.translation.y = px(-24.0 * (time.elapsed_secs() * 5.0).sin().abs());
    }
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Typed>()
        .add_observer(submit)
        .add_systems(OnEnter(Page::Start), spawn)
        .add_systems(OnEnter(Page::Joining), spawn_waiting)
        .add_systems(Update, ((remember, show_notice, focus_first).chain().run_if(in_state(Page::Start)), bounce));
}
