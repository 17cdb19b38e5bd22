//! Buttons, cards, figures and toasts.

use bevy::{
    ecs::query::QueryData,
    input_focus::{InputFocus, InputFocusVisible, tab_navigation::TabIndex},
    picking::hover::Hovered,
    prelude::*,
    ui::{InteractionDisabled, Pressed},
    ui_widgets::{Activate, Button, ScrollArea},
};

use super::theme::{self, GRID, Theme, Type};
use crate::table::{News, Page};

/// The emphasis of a button.
#[derive(Component, Clone, Copy, PartialEq)]
pub enum Look {
    /// The primary action of a page.
    Primary,
    Secondary,
    /// A button whose box appears under the pointer.
    Quiet,
    /// A small button that turns red under the pointer.
    Danger,
}

impl Look {
    fn background(self) -> Color {
        match self {
            Look::Primary => theme::ACCENT,
            Look::Secondary => theme::RAISED,
            Look::Quiet | Look::Danger => theme::RAISED.with_alpha(0.0),
        }
    }

    fn hovered(self) -> Color {
        match self {
            Look::Primary => theme::ACCENT.lighter(0.06),
            Look::Secondary => theme::RAISED.lighter(0.05),
            Look::Quiet => theme::RAISED,
            Look::Danger => theme::BAD.with_alpha(0.16),
        }
    }

    fn caption(self) -> Color {
        match self {
            Look::Primary => theme::ON_ACCENT,
            Look::Secondary => theme::TEXT,
            Look::Quiet | Look::Danger => theme::DIM,
        }
    }
}

/// Creates a button. Observe [`Activate`](bevy::ui_widgets::Activate) on it.
pub fn button(theme: &Theme, look: Look, caption: &str) -> impl Bundle {
    (
        Button,
        look,
        Hovered::default(),
        TabIndex(0),
        Node {
            height: px(if matches!(look, Look::Danger) { 4.0 } else { 5.5 } * GRID),
            padding: UiRect::horizontal(px(if matches!(look, Look::Quiet | Look::Danger) { 1.5 } else { 2.5 } * GRID)),
            border_radius: BorderRadius::all(px(10)),
            justify_content: JustifyContent::Center,
            align_items: AlignItems::Center,
            flex_shrink: 0.0,
            ..default()
        },
        BackgroundColor(look.background()),
        children![theme.text(if look == Look::Danger { Type::Small } else { Type::Strong }, look.caption(), caption)],
    )
}

/// The state that determines the colours of a button.
#[derive(QueryData)]
struct ButtonState {
    look: &'static Look,
    hovered: &'static Hovered,
    pressed: Has<Pressed>,
    disabled: Has<InteractionDisabled>,
}

/// Fades every button towards the colours of its state. Disabled ones are dimmed.
fn paint_buttons(
    mut buttons: Query<(ButtonState, &mut BackgroundColor, &mut UiTransform, &Children)>,
    mut captions: Query<&mut TextColor>,
    time: Res<Time>,
) {
    let step = 1.0 - (-18.0 * time.delta_secs()).exp();
    for (ButtonStateItem { look, hovered, pressed, disabled }, mut background, mut transform, children) in &mut buttons
    {
        let target = match (disabled, pressed, hovered.get()) {
            (true, ..) if *look == Look::Primary => theme::RAISED,
            (true, ..) => look.background(),
            (_, true, _) => look.hovered().darker(0.06),
            (.., true) => look.hovered(),
            _ => look.background(),
        };
        background.0 = background.0.mix(&target, step);
        transform.scale = transform.scale.lerp(Vec2::splat(if pressed && !disabled { 0.97 } else { 1.0 }), step);
        let caption = match look {
            _ if disabled => theme::FAINT,
            Look::Danger if hovered.get() => theme::BAD,
            look => look.caption(),
        };
        for child in children {
            if let Ok(mut colour) = captions.get_mut(*child) {
                colour.set_if_neq(TextColor(caption));
            }
        }
    }
}

type PressedButton = (With<Button>, With<Pressed>);

/// Clicks a button that the pointer reaches, presses and releases within one frame. Bevy sends the release to the node that
/// was under the pointer in the previous frame, which would leave the button pressed.
fn finish_short_presses(
    pressed: Query<(Entity, &Hovered), PressedButton>,
    mouse: Res<ButtonInput<MouseButton>>,
    touches: Res<Touches>,
    mut commands: Commands,
) {
    if mouse.get_pressed().len() > 0 || touches.iter().next().is_some() {
        return;
    }
    // A finger that is lifted hovers over nothing any more.
    let tapped = touches.any_just_released();
    for (button, hovered) in &pressed {
        commands.entity(button).remove::<Pressed>();
        if hovered.get() || tapped {
            commands.trigger(Activate { entity: button });
        }
    }
}

/// Scrolls with the finger. Bevy's scroll area hears the wheel alone.
fn scroll_by_touch(
    drag: On<Pointer<Drag>>,
    mut areas: Query<&mut ScrollPosition, With<ScrollArea>>,
    scale: Res<UiScale>,
) {
    if drag.pointer_id.is_touch()
        && let Ok(mut position) = areas.get_mut(drag.entity)
    {
        position.y = (position.y - drag.delta.y / scale.0).max(0.0);
    }
}

/// Outlines the focused node once the keyboard is used.
fn ring_focus(
    focus: Res<InputFocus>,
    visible: Res<InputFocusVisible>,
    buttons: Query<(Entity, Has<Outline>), With<Look>>,
    mut commands: Commands,
) {
    for (button, ringed) in &buttons {
        let wanted = visible.0 && focus.get() == Some(button);
        if wanted && !ringed {
            commands.entity(button).insert(Outline { width: px(2), offset: px(3), color: theme::TEXT });
        } else if !wanted && ringed {
            commands.entity(button).remove::<Outline>();
        }
    }
}

/// Enables or disables a button.
pub fn set_enabled(commands: &mut Commands, button: Entity, enabled: bool) {
    if enabled {
        commands.entity(button).remove::<InteractionDisabled>();
    } else {
        commands.entity(button).insert(InteractionDisabled);
    }
}

/// Creates a rounded panel with the given layout.
pub fn card(layout: Node) -> impl Bundle {
    (
        Node {
            flex_direction: FlexDirection::Column,
            padding: UiRect::all(px(3.0 * GRID)),
            row_gap: px(2.0 * GRID),
            border: UiRect::all(px(1)),
            border_radius: BorderRadius::all(px(18)),
            ..layout
        },
        BackgroundColor(theme::CARD),
        BorderColor::all(theme::CARD_EDGE),
        BoxShadow::new(Color::BLACK.with_alpha(0.35), px(0), px(12), px(0), px(32)),
    )
}

pub fn row(gap: f32) -> Node {
    Node { align_items: AlignItems::Center, column_gap: px(gap * GRID), ..default() }
}

pub fn column(gap: f32) -> Node {
    Node { flex_direction: FlexDirection::Column, row_gap: px(gap * GRID), ..default() }
}

/// Takes the free space between its neighbours.
pub fn spring() -> impl Bundle {
    (Node { flex_grow: 1.0, ..default() }, Pickable::IGNORE)
}

/// The eyes of a figure. They are moved to change where it looks.
#[derive(Component)]
pub struct Eyes;

/// A figure of a player: a round body with two eyes.
pub fn figure(colour: Color, size: f32) -> impl Bundle {
    let eye = |left: f32| {
        (
            Node {
                position_type: PositionType::Absolute,
                left: percent(left),
                top: percent(26),
                width: percent(21),
                height: percent(30),
                border_radius: BorderRadius::MAX,
                ..default()
            },
            BackgroundColor(Color::WHITE),
            Pickable::IGNORE,
            children![(
                Node {
                    position_type: PositionType::Absolute,
                    left: percent(28),
                    top: percent(34),
                    width: percent(52),
                    height: percent(48),
                    border_radius: BorderRadius::MAX,
                    ..default()
                },
                BackgroundColor(theme::BACKGROUND),
                Pickable::IGNORE,
            )],
        )
    };
    (
        Node { width: px(size), height: px(size), border_radius: BorderRadius::MAX, flex_shrink: 0.0, ..default() },
        BackgroundColor(colour),
        Pickable::IGNORE,
        children![(
            Eyes,
            Node { width: percent(100), height: percent(100), ..default() },
            UiTransform::default(),
            Pickable::IGNORE,
            children![eye(24.0), eye(55.0)],
        )],
    )
}

/// A message that is shown at the top for a moment.
#[derive(Component)]
struct Toast(Timer);

#[derive(Component)]
struct ToastStack;

/// Shows a message for a moment. Write it from any system.
#[derive(Message)]
pub struct ShowToast(pub String);

fn spawn_toast_stack(mut commands: Commands) {
    commands.spawn((
        ToastStack,
        Node {
            position_type: PositionType::Absolute,
            top: px(3.0 * GRID),
            width: percent(100),
            align_items: AlignItems::Center,
            ..column(1.0)
        },
        GlobalZIndex(10),
        Pickable::IGNORE,
    ));
}

/// Shows warnings on every page.
fn warn_of_trouble(mut news: MessageReader<News>, mut toasts: MessageWriter<ShowToast>) {
    let trouble = news.read().any(|n| matches!(n, News::Trouble));
    toasts.write_batch(trouble.then(|| ShowToast("Trouble with the connection, trying again …".to_owned())));
}

fn run_toasts(
    mut shown: MessageReader<ShowToast>,
    stack: Single<Entity, With<ToastStack>>,
    mut toasts: Query<(Entity, &mut Toast)>,
    page: Res<State<Page>>,
    theme: Res<Theme>,
    time: Res<Time>,
    mut commands: Commands,
) {
    for ShowToast(text) in shown.read() {
        commands.spawn((
            Toast(Timer::from_seconds(2.5, TimerMode::Once)),
            ChildOf(*stack),
            Node {
                padding: UiRect::axes(px(2.5 * GRID), px(1.25 * GRID)),
                border: UiRect::all(px(1)),
                border_radius: BorderRadius::MAX,
                ..default()
            },
            BackgroundColor(theme::RAISED),
            BorderColor::all(theme::CARD_EDGE),
            BoxShadow::new(Color::BLACK.with_alpha(0.4), px(0), px(6), px(0), px(20)),
            Pickable::IGNORE,
            children![theme.text(Type::Small, theme::TEXT, text)],
        ));
    }
    for (entity, mut toast) in &mut toasts {
        // A toast belongs to the page on which it appeared.
        if toast.0.tick(time.delta()).is_finished() || page.is_changed() {
            commands.entity(entity).despawn();
        }
    }
}

pub fn plugin(app: &mut App) {
    app.add_message::<ShowToast>()
        .add_observer(scroll_by_touch)
        .add_systems(Startup, spawn_toast_stack)
        .add_systems(Update, ((finish_short_presses, paint_buttons).chain(), ring_focus, warn_of_trouble, run_toasts));
}
