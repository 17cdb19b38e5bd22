//! The arena, where players walk and chase sparks. Positions arrive on `UnreliableSequenced` and are smoothed here. Sparks
//! and scores arrive on `Reliable`.

use bevy::{prelude::*, ui_widgets::Activate};

use super::{
    WindowSystems,
    shape::Shape,
    stick::{self, Push},
    theme::{self, GRID, Theme, Type},
    widgets::{Eyes, Look, ShowToast, button, column, figure, row, spring},
};
use crate::{
    intent::Intent,
    rules::ARENA,
    table::{News, Page, Table},
    words::PlayerId,
};

/// The size of a figure in units of the arena.
const SIZE: f32 = 0.9;

#[derive(Component)]
struct Floor;

#[derive(Component)]
struct Clock;

#[derive(Component)]
struct Scores {
    shown: Vec<(PlayerId, u32)>,
}

/// A figure on the floor, with the place where it is drawn.
#[derive(Component)]
struct Walker {
    id: PlayerId,
    at: Vec2,
}

#[derive(Component)]
struct Spark;

fn spawn(mut commands: Commands, theme: Res<Theme>, table: Res<Table>, shape: Res<Shape>) {
    let shape = *shape;
    commands.spawn((DespawnOnExit(Page::Arena), super::page())).with_children(|page| {
        page.spawn(Node {
            width: percent(100),
            height: percent(100),
            padding: shape.pick(UiRect::axes(px(5.0 * GRID), px(3.0 * GRID)), UiRect::all(px(2.0 * GRID))),
            align_items: AlignItems::Stretch,
            ..column(2.0)
        })
        .with_children(|body| {
            head_line(body, &theme, &table, shape);
            if shape == Shape::Tall {
                body.spawn((Scores { shown: Vec::new() }, scores(shape)));
            }
            body.spawn(Node {
                flex_grow: 1.0,
                min_height: px(0),
                justify_content: JustifyContent::Center,
                align_items: AlignItems::Center,
                ..default()
            })
            .with_children(|middle| spawn_floor(middle, shape));
            match shape {
                Shape::Wide => foot(body, &theme),
                Shape::Tall => {
                    let hint = theme.text(Type::Small, theme::DIM, "Push the stick and catch the spark.");
                    body.spawn(hint).insert(Node { align_self: AlignSelf::Center, ..default() });
                }
            }
            stick::spawn(body, shape);
        });
    });
}

fn head_line(body: &mut ChildSpawnerCommands, theme: &Theme, table: &Table, shape: Shape) {
    body.spawn(row(shape.pick(2.0, 1.0))).with_children(|head| {
        head.spawn((Clock, theme.text(Type::Title, theme::TEXT, ""), Node { width: px(9.0 * GRID), ..default() }));
        if shape == Shape::Wide {
            head.spawn((Scores { shown: Vec::new() }, scores(shape)));
        }
        head.spawn(spring());
        if table.is_host() {
            head.spawn(button(theme, Look::Secondary, "End the round")).observe(
                |_: On<Activate>, mut intents: MessageWriter<Intent>| {
                    intents.write(Intent::FinishRound);
                },
            );
        }
        head.spawn(button(theme, Look::Quiet, "Leave")).observe(
            |_: On<Activate>, mut intents: MessageWriter<Intent>| {
                intents.write(Intent::Leave);
            },
        );
    });
}

/// The layout of the scores. A phone shows them in several lines.
fn scores(shape: Shape) -> Node {
    Node { flex_wrap: shape.pick(FlexWrap::NoWrap, FlexWrap::Wrap), row_gap: px(GRID), ..row(1.0) }
}

fn foot(body: &mut ChildSpawnerCommands, theme: &Theme) {
    body.spawn(row(1.0)).with_children(|foot| {
        foot.spawn(theme.text(Type::Small, theme::DIM, "Walk with WASD or the arrow keys and catch the spark."));
        foot.spawn(spring());
        foot.spawn(theme.text(
            Type::Small,
            theme::FAINT,
            "Positions: UnreliableSequenced, the newest counts  ·  Sparks and scores: Reliable, none is lost",
        ));
    });
}

fn spawn_floor(parent: &mut ChildSpawnerCommands, shape: Shape) {
    let (width, height) = shape.pick((Val::Auto, percent(100)), (percent(100), Val::Auto));
    parent
        .spawn((
            Floor,
            Node {
                width,
                height,
                max_width: percent(100),
                max_height: percent(100),
                aspect_ratio: Some(ARENA.x / ARENA.y),
                border: UiRect::all(px(1)),
                border_radius: BorderRadius::all(px(24)),
                overflow: Overflow::clip(),
                ..default()
            },
            BackgroundColor(theme::CARD),
            BorderColor::all(theme::CARD_EDGE),
        ))
        .with_children(|floor| {
            // The dots make movement visible.
            for (x, y) in (1..ARENA.x as u32).flat_map(|x| (1..ARENA.y as u32).map(move |y| (x, y))) {
                floor.spawn((at(Vec2::new(x as f32, y as f32), 4.0), BackgroundColor(theme::CARD_EDGE)));
            }
            spawn_spark(floor);
        });
}

fn spawn_spark(floor: &mut ChildSpawnerCommands) {
    // The glow is not rotated with the diamond, since clipping at the edge of the floor ignores rotation.
    floor.spawn((
        Spark,
        at(ARENA / 2.0, 22.0),
        UiTransform::default(),
        BoxShadow::new(theme::ACCENT.with_alpha(0.55), px(0), px(0), px(4), px(24)),
        children![(
            Node { width: percent(100), height: percent(100), border_radius: BorderRadius::all(px(5)), ..default() },
            UiTransform::from_rotation(Rot2::degrees(45.0)),
            BackgroundColor(theme::ACCENT),
        )],
    ));
}

/// A round node of this size in pixels, centred at this place of the arena.
fn at(place: Vec2, size: f32) -> Node {
    Node {
        position_type: PositionType::Absolute,
        left: percent(place.x / ARENA.x * 100.0),
        top: percent(place.y / ARENA.y * 100.0),
        width: px(size),
        height: px(size),
        margin: UiRect::new(px(-size / 2.0), px(0), px(-size / 2.0), px(0)),
        border_radius: BorderRadius::MAX,
        ..default()
    }
}

/// Sets the heading from the keys and the stick.
fn steer(keys: Res<ButtonInput<KeyCode>>, push: Res<Push>, mut intents: MessageWriter<Intent>, mut last: Local<Vec2>) {
    let pressed = |codes: [KeyCode; 2]| f32::from(u8::from(keys.any_pressed(codes)));
    let way = Vec2::new(
        pressed([KeyCode::KeyD, KeyCode::ArrowRight]) - pressed([KeyCode::KeyA, KeyCode::ArrowLeft]),
        pressed([KeyCode::KeyS, KeyCode::ArrowDown]) - pressed([KeyCode::KeyW, KeyCode::ArrowUp]),
    );
    let way = way + push.0;
    if way != *last {
        *last = way;
        intents.write(Intent::Steer(way));
    }
}

fn stop(mut intents: MessageWriter<Intent>) {
    intents.write(Intent::Steer(Vec2::ZERO));
}

/// Spawns and despawns figures with their players.
fn people(
    table: Res<Table>,
    floor: Single<(Entity, &ComputedNode), With<Floor>>,
    walkers: Query<(Entity, &Walker)>,
    theme: Res<Theme>,
    mut commands: Commands,
) {
    let (floor, node) = *floor;
    for (entity, walker) in &walkers {
        if !table.figures.contains_key(&walker.id) {
            commands.entity(entity).despawn();
        }
    }
    let size = node.size().y * node.inverse_scale_factor() / ARENA.y * SIZE;
    if size == 0.0 {
        return;
    }
    for (id, place) in table.figures.iter().filter(|(id, _)| walkers.iter().all(|(_, w)| w.id != **id)) {
        let Some(player) = table.player(*id) else { continue };
        let colour = theme::player_colour(player.colour);
        commands
            .spawn((
                Walker { id: *id, at: *place },
                ChildOf(floor),
                figure(colour, size),
                BoxShadow::new(Color::BLACK.with_alpha(0.45), px(0), px(size * 0.18), px(0), px(size * 0.3)),
            ))
            .insert(at(*place, size))
            .with_children(|body| {
                body.spawn((
                    Node {
                        position_type: PositionType::Absolute,
                        width: px(20.0 * GRID),
                        left: px(size / 2.0 - 10.0 * GRID),
                        top: px(-3.0 * GRID),
                        justify_content: JustifyContent::Center,
                        ..default()
                    },
                    Pickable::IGNORE,
                ))
                .with_child(theme.text(Type::Small, theme::TEXT, &player.name));
            });
    }
}

/// Moves every figure towards its last known place. Our own figure is drawn at its place.
fn walk(
    table: Res<Table>,
    mut walkers: Query<(&mut Walker, &mut Node, &Children)>,
    mut eyes: Query<&mut UiTransform, With<Eyes>>,
    time: Res<Time>,
) {
    let step = 1.0 - (-12.0 * time.delta_secs()).exp();
    for (mut walker, mut node, children) in &mut walkers {
        let Some(target) = table.figures.get(&walker.id) else { continue };
        let way = *target - walker.at;
        walker.at = if Some(walker.id) == table.me { *target } else { walker.at + way * step };
        node.left = percent(walker.at.x / ARENA.x * 100.0);
        node.top = percent(walker.at.y / ARENA.y * 100.0);
        let gaze = (way * 2.5).clamp_length_max(1.0);
        for child in children {
            if let Ok(mut transform) = eyes.get_mut(*child) {
                transform.translation = Val2::percent(gaze.x * 9.0, gaze.y * 9.0);
            }
        }
    }
}

fn spark(table: Res<Table>, spark: Single<(&mut Node, &mut UiTransform), With<Spark>>, time: Res<Time>) {
    let (mut node, mut transform) = spark.into_inner();
    node.left = percent(table.spark.x / ARENA.x * 100.0);
    node.top = percent(table.spark.y / ARENA.y * 100.0);
    transform.scale = Vec2::splat(1.0 + 0.12 * (time.elapsed_secs() * 4.0).sin());
}

fn head(
    table: Res<Table>,
    mut clock: Single<&mut Text, With<Clock>>,
    scores: Single<(Entity, &mut Scores)>,
    theme: Res<Theme>,
    mut commands: Commands,
) {
    let left = table.seconds_left.ceil() as u32;
    clock.set_if_neq(Text::new(format!("{}:{:02}", left / 60, left % 60)));
    let (list, mut scores) = scores.into_inner();
    let now: Vec<_> = table.players.iter().map(|p| (p.id, p.score)).collect();
    if now == scores.shown {
        return;
    }
    scores.shown = now;
    commands.entity(list).despawn_children().with_children(|list| {
        for player in &table.players {
            list.spawn((
                Node {
                    padding: UiRect::new(px(0.5 * GRID), px(1.5 * GRID), px(0.5 * GRID), px(0.5 * GRID)),
                    border_radius: BorderRadius::MAX,
                    ..row(1.0)
                },
                BackgroundColor(theme::RAISED),
            ))
            .with_children(|chip| {
                chip.spawn(figure(theme::player_colour(player.colour), 28.0));
                chip.spawn(theme.text(Type::Small, theme::DIM, &player.name));
                chip.spawn(theme.text(Type::Strong, theme::TEXT, player.score.to_string()));
            });
        }
    });
}

/// A "+1" that rises from the player who caught a spark.
#[derive(Component)]
struct Rising(f32);

/// Shows events that the chat would show, since the arena hides it.
fn announce(
    mut news: MessageReader<News>,
    walkers: Query<(Entity, &Walker)>,
    theme: Res<Theme>,
    mut toasts: MessageWriter<ShowToast>,
    mut commands: Commands,
) {
    for news in news.read() {
        match news {
            News::Joined { .. } | News::Gone { .. } => {
                toasts.write(ShowToast(news.to_string()));
            }
            News::Caught { by, .. } => {
                let Some((figure, _)) = walkers.iter().find(|(_, w)| w.id == *by) else { continue };
                commands.spawn((
                    Rising(0.0),
                    ChildOf(figure),
                    theme.text(Type::Heading, theme::ACCENT, "+1"),
                    Node { position_type: PositionType::Absolute, left: percent(100), top: px(0), ..default() },
                ));
            }
            _ => {}
        }
    }
}

fn rise(
    mut rising: Query<(Entity, &mut Rising, &mut UiTransform, &mut TextColor)>,
    time: Res<Time>,
    mut commands: Commands,
) {
    for (entity, mut age, mut transform, mut colour) in &mut rising {
        age.0 += time.delta_secs();
        transform.translation.y = px(-40.0 * age.0);
        colour.0.set_alpha(1.0 - age.0);
        if age.0 >= 1.0 {
            commands.entity(entity).despawn();
        }
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(OnEnter(Page::Arena), spawn).add_systems(OnExit(Page::Arena), stop).add_systems(
        Update,
        (steer, people, walk, spark, head, announce, rise).chain().in_set(WindowSystems).run_if(in_state(Page::Arena)),
    );
}
