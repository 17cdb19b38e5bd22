//! Text fields: a box around Bevy's editable text, with a placeholder and an event for Enter.

use bevy::{
    camera::visibility::VisibilitySystems,
    input::keyboard::{Key, KeyboardInput},
    input_focus::{FocusCause, FocusedInput, InputFocus, tab_navigation::TabIndex},
    prelude::*,
    text::{EditableText, EditableTextSystems, TextCursorStyle},
    ui::widget::TextScroll,
    ui_widgets::SelectAllOnFocus,
};

use super::theme::{self, GRID, Theme, Type};

/// Marks the editable text inside a field.
#[derive(Component)]
pub struct Field {
    /// What a screen reader calls it: the placeholder.
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "only a browser has elements to label"))]
    pub label: String,
}

#[derive(Component)]
struct FieldBox;

#[derive(Component)]
struct Placeholder;

/// The player pressed Enter in a field.
#[derive(EntityEvent)]
pub struct Submit {
    pub entity: Entity,
}

/// Creates a field. The `marker` is inserted on the editable text, so that queries find it.
pub fn field(theme: &Theme, placeholder: &str, text: &str, longest: usize, marker: impl Bundle) -> impl Bundle {
    let editable = EditableText { max_characters: Some(longest), cursor_width: 0.1, ..EditableText::new(text) };
    (
        FieldBox,
        Node {
            height: px(5.5 * GRID),
            padding: UiRect::horizontal(px(1.75 * GRID)),
            border: UiRect::all(px(1.5)),
            border_radius: BorderRadius::all(px(10)),
            align_items: AlignItems::Center,
            flex_grow: 1.0,
            ..default()
        },
        BackgroundColor(theme::WELL),
        BorderColor::all(theme::CARD_EDGE),
        children![
            (
                Field { label: placeholder.to_owned() },
                marker,
                editable,
                TextLayout::no_wrap(),
                theme.font(Type::Body),
                TextColor(theme::TEXT),
                TextScroll::default(),
                SelectAllOnFocus,
                TextCursorStyle {
                    color: theme::ACCENT,
                    selection_color: theme::ACCENT.with_alpha(0.3),
                    unfocused_selection_color: Color::NONE,
                    selected_text_color: None,
                },
                TabIndex(0),
                Node { flex_grow: 1.0, ..default() },
            ),
            (
                Placeholder,
                theme.text(Type::Body, theme::FAINT, placeholder),
                Node { position_type: PositionType::Absolute, left: px(2.0 * GRID), ..default() },
            ),
        ],
    )
}

/// The text of a field.
pub fn value(field: &EditableText) -> String {
    field.value().to_string().trim().to_owned()
}

fn show_placeholders(
    fields: Query<(&EditableText, &ChildOf), Changed<EditableText>>,
    boxes: Query<&Children, With<FieldBox>>,
    mut placeholders: Query<&mut Visibility, With<Placeholder>>,
) {
    for (field, parent) in &fields {
        let empty = field.value().into_iter().all(str::is_empty);
        for child in boxes.get(parent.parent()).into_iter().flatten() {
            if let Ok(mut visibility) = placeholders.get_mut(*child) {
                visibility.set_if_neq(if empty { Visibility::Inherited } else { Visibility::Hidden });
            }
        }
    }
}

fn light_focused(
    focus: Res<InputFocus>,
    fields: Query<(Entity, &ChildOf), With<Field>>,
    mut boxes: Query<&mut BorderColor, With<FieldBox>>,
) {
    for (field, parent) in &fields {
        if let Ok(mut border) = boxes.get_mut(parent.parent()) {
            let focused = focus.get() == Some(field);
            border.set_if_neq(BorderColor::all(if focused { theme::ACCENT } else { theme::CARD_EDGE }));
        }
    }
}

/// Focuses the text when the player clicks beside it, inside the box.
fn focus_on_press(
    press: On<Pointer<Press>>,
    boxes: Query<&Children, With<FieldBox>>,
    fields: Query<(), With<Field>>,
    mut focus: ResMut<InputFocus>,
) {
    let children = boxes.get(press.entity).into_iter().flatten();
    if let Some(field) = children.copied().find(|c| fields.contains(*c)) {
        focus.set(field, FocusCause::Pressed);
    }
}

fn submit_on_enter(
    key: On<FocusedInput<KeyboardInput>>,
    fields: Query<&EditableText, With<Field>>,
    mut commands: Commands,
) {
    if key.input.logical_key == Key::Enter
        && key.input.state.is_pressed()
        && !key.input.repeat
        && fields.get(key.focused_entity).is_ok_and(|f| !f.is_composing())
    {
        commands.trigger(Submit { entity: key.focused_entity });
    }
}

pub fn plugin(app: &mut App) {
    app.add_observer(focus_on_press)
        .add_observer(submit_on_enter)
        // In the frame in which the text changes.
        .add_systems(
            PostUpdate,
            show_placeholders.after(EditableTextSystems).before(VisibilitySystems::VisibilityPropagate),
        )
        .add_systems(Update, light_focused);
}
