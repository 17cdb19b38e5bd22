//! The colours, type and spacing of all pages.

use bevy::{
    prelude::*,
    text::{LetterSpacing, LineHeight},
};

/// The unit of spacing in pixels.
pub const GRID: f32 = 8.0;

pub const BACKGROUND: Color = hex(0x14111d);
pub const GLOW: Color = hex(0x2a2140);
pub const CARD: Color = hex(0x1f1b2b);
pub const CARD_EDGE: Color = hex(0x322c42);
/// The background of fields and rows, darker than the card around them.
pub const WELL: Color = hex(0x171420);
pub const RAISED: Color = hex(0x2c273a);

pub const TEXT: Color = hex(0xf4f0f8);
pub const DIM: Color = hex(0xaba3bd);
pub const FAINT: Color = hex(0x7d7591);

/// The colour of the primary action.
pub const ACCENT: Color = hex(0xffb65c);
pub const ON_ACCENT: Color = hex(0x120a00);
pub const GOOD: Color = hex(0x62d8a4);
pub const BAD: Color = hex(0xff7d7d);

/// The colours of eight players, which are easy to tell apart on the dark background.
const PLAYERS: [Color; 8] = [
    hex(0xff7a59),
    hex(0x4cc9f0),
    hex(0xffd24c),
    hex(0xa78bfa),
    hex(0x5fdc9a),
    hex(0xf67ab8),
    hex(0x5f8dff),
    hex(0xb7e35a),
];

pub fn player_colour(index: usize) -> Color {
    PLAYERS[index % PLAYERS.len()]
}

const fn hex(rgb: u32) -> Color {
    const fn channel(rgb: u32, shift: u32) -> f32 {
        ((rgb >> shift) & 0xff) as f32 / 255.0
    }
    Color::srgb(channel(rgb, 16), channel(rgb, 8), channel(rgb, 0))
}

/// The sizes of text.
#[derive(Clone, Copy, PartialEq)]
pub enum Type {
    /// The join code.
    Huge,
    Title,
    Heading,
    Strong,
    Body,
    Small,
    /// A caption in capitals above a group.
    Caps,
}

/// The fonts. They are part of the program, so that no asset folder is needed.
#[derive(Resource, Clone)]
pub struct Theme {
    medium: Handle<Font>,
    bold: Handle<Font>,
}

impl FromWorld for Theme {
    fn from_world(world: &mut World) -> Self {
        let mut fonts = world.resource_mut::<Assets<Font>>();
        let mut add = |bytes: &[u8]| fonts.add(Font::from_bytes(bytes.to_vec()));
        Theme {
            medium: add(include_bytes!("../../../assets/fonts/Manrope-Medium.ttf")),
            bold: add(include_bytes!("../../../assets/fonts/Manrope-Bold.ttf")),
        }
    }
}

impl Theme {
    pub fn font(&self, kind: Type) -> (TextFont, LetterSpacing, LineHeight) {
        let (font, size, spacing) = match kind {
            Type::Huge => (&self.bold, 56.0, 6.0),
            Type::Title => (&self.bold, 34.0, -0.4),
            Type::Heading => (&self.bold, 20.0, 0.0),
            Type::Strong => (&self.bold, 16.0, 0.0),
            Type::Body => (&self.medium, 16.0, 0.0),
            Type::Small => (&self.medium, 14.0, 0.0),
            Type::Caps => (&self.bold, 12.0, 1.2),
        };
        let height = if matches!(kind, Type::Body | Type::Small) { 1.4 } else { 1.2 };
        let font = TextFont::from(font.clone()).with_font_size(size);
        (font, LetterSpacing::Px(spacing), LineHeight::RelativeToFont(height))
    }

    /// A text that passes clicks on to the node below it.
    pub fn text(&self, kind: Type, colour: Color, text: impl Into<String>) -> impl Bundle {
        (Text::new(text), self.font(kind), TextColor(colour), Pickable::IGNORE)
    }
}
