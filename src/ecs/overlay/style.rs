//! The colours and the type of the overlay. Each colour has one meaning.

use bevy::prelude::*;

/// The background of the panel. It is opaque, since even a twentieth of a bright game would make the text hard to read.
pub(super) const PANEL: Color = Color::srgb(0.04, 0.035, 0.06);
/// The background of graphs and meters.
pub(super) const WELL: Color = Color::srgba(1.0, 1.0, 1.0, 0.015);
pub(super) const TEXT: Color = Color::srgb(0.93, 0.92, 0.96);
pub(super) const DIM: Color = Color::srgb(0.62, 0.6, 0.69);
pub(super) const GOOD: Color = Color::srgb(0.38, 0.85, 0.64);
pub(super) const WARN: Color = Color::srgb(1.0, 0.71, 0.36);
pub(super) const BAD: Color = Color::srgb(1.0, 0.45, 0.45);

/// The size of the font: Bevy's default one, whose digits all have the same width.
const FONT_SIZE: f32 = 12.0;

pub(super) fn text(words: impl Into<String>, colour: Color) -> impl Bundle {
    (Text::new(words), TextFont::from_font_size(FONT_SIZE), TextColor(colour), TextLayout::no_wrap(), Pickable::IGNORE)
}

/// Sets a text if it differs, since each change of a text causes a new layout.
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
