//! The stick that steers a figure by touch.

use bevy::prelude::*;

use super::{
    shape::Shape,
    theme::{self, GRID},
};
use crate::table::Page;

/// How far the knob moves from the centre, in logical pixels of the design.
const REACH: f32 = 6.0 * GRID;

/// Which way the stick is pushed. Its length is at most 1.
#[derive(Resource, Default)]
pub struct Push(pub Vec2);

#[derive(Component)]
struct Stick;

#[derive(Component)]
struct Knob;

/// Spawns the stick. On a wide page it is shown once the player touches the screen.
pub fn spawn(parent: &mut ChildSpawnerCommands, shape: Shape) {
    let side = 2.5 * REACH;
    let round = |side: f32| Node {
        width: px(side),
        height: px(side),
        border: UiRect::all(px(1)),
        border_radius: BorderRadius::MAX,
        justify_content: JustifyContent::Center,
        align_items: AlignItems::Center,
        ..default()
    };
    // On a wide page, it lies over the corner that a thumb reaches.
    let place = shape.pick(
        Node {
            position_type: PositionType::Absolute,
            left: px(3.0 * GRID),
            bottom: px(3.0 * GRID),
            display: Display::None,
            ..round(side)
        },
        Node { align_self: AlignSelf::Center, ..round(side) },
    );
    parent
        .spawn((
            Stick,
            place,
            BackgroundColor(theme::RAISED.with_alpha(0.6)),
            BorderColor::all(theme::CARD_EDGE),
            children![(
                Knob,
                round(side * 0.42),
                UiTransform::default(),
                BackgroundColor(theme::ACCENT),
                BorderColor::all(Color::NONE),
                Pickable::IGNORE,
            )],
        ))
        .observe(|drag: On<Pointer<Drag>>, scale: Res<UiScale>, mut push: ResMut<Push>| {
            push.0 = (drag.distance / scale.0 / REACH).clamp_length_max(1.0);
        })
        .observe(|_: On<Pointer<DragEnd>>, mut push: ResMut<Push>| push.0 = Vec2::ZERO)
        .observe(|_: On<Pointer<Cancel>>, mut push: ResMut<Push>| push.0 = Vec2::ZERO);
}

fn show_when_touched(touches: Res<Touches>, mut sticks: Query<&mut Node, With<Stick>>) {
    if touches.iter_just_pressed().next().is_some() {
        for mut node in &mut sticks {
            node.display = Display::Flex;
        }
    }
}

fn move_knob(push: Res<Push>, mut knobs: Query<&mut UiTransform, With<Knob>>) {
    let at = push.0 * REACH;
    for mut transform in &mut knobs {
        transform.set_if_neq(UiTransform::from_translation(Val2::px(at.x, at.y)));
    }
}

fn let_go(mut push: ResMut<Push>) {
    push.0 = Vec2::ZERO;
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Push>()
        .add_systems(OnExit(Page::Arena), let_go)
        .add_systems(Update, (show_when_touched, move_knob).run_if(in_state(Page::Arena)));
}
