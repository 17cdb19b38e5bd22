//! Colours and type: dark and calm, and each colour with one meaning.

use bevy::prelude::*;

/// Opaque: colours mix in linear light, where a twentieth of a bright game is enough to disturb the text.
pub(super) const PANEL: Color = Color::srgb(0.04, 0.035, 0.06);
/// The ground of graphs and meters.
pub(super) const WELL: Color = Color::srgba(1.0, 1.0, 1.0, 0.015);
pub(super) const TEXT: Color = Color::srgb(0.93, 0.92, 0.96);
pub(super) const DIM: Color = Color::srgb(0.62, 0.6, 0.69);
pub(super) const GOOD: Color = Color::srgb(0.38, 0.85, 0.64);
pub(super) const WARN: Color = Color::srgb(1.0, 0.71, 0.36);
pub(super) const BAD: Color = Color::srgb(1.0, 0.45, 0.45);

/// The default font of Bevy has one width for all figures.
const FONT_SIZE: f32 = 12.0;

pub(super) fn text(words: impl Into<String>, colour: Color) -> impl Bundle {
    (Text::new(words), TextFont::from_font_size(FONT_SIZE), TextColor(colour), TextLayout::no_wrap(), Pickable::IGNORE)
}

/// Writes only what has changed: a text that is written is laid out anew.
pub(super) fn set(text: &mut Mut<Text>, colour: &mut Mut<TextColor>, words: String, shade: Color) {
    text.set_if_neq(Text::new(words));
    colour.set_if_neq(TextColor(shade));
}

pub(super) fn row(gap: f32) -> Node {
    Node { align_items: AlignItems::Center, column_gap: px(gap), ..default() }
}

pub(super) fn column(gap: f32) -> Node {
    Node { flex_direction: FlexDirection::Column, row_gap: px(gap), ..default() }
}

/// Takes the free space between its neighbours.
pub(super) fn spring() -> impl Bundle {
    (Node { flex_grow: 1.0, ..default() }, Pickable::IGNORE)
}
