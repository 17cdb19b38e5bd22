//! The card with the join code, the link, a button to copy each, and a QR code of the link for phones.

use bevy::{
    asset::RenderAssetUsages,
    clipboard::Clipboard,
    image::ImageSampler,
    prelude::*,
    render::render_resource::{Extent3d, TextureDimension, TextureFormat},
    text::LineBreak,
    ui_widgets::Activate,
};

use super::{
    theme::{self, GRID, Theme, Type},
    widgets::{Look, ShowToast, button, card, column, row, spring},
};
use crate::{qr::QrCode, table::Table};

/// The caption of a copy button for a moment after a press.
const COPIED: &str = "Copied";

/// Restores the caption of a button.
#[derive(Component)]
struct Reverts {
    caption: &'static str,
    timer: Timer,
}

/// The approximate size of the QR code in pixels.
const CODE_SIDE: f32 = 19.0 * GRID;

/// Groups the digits of a code by three, which is easier to read aloud. A code can also be typed in this form.
fn as_spoken(code: &str) -> String {
    if code.len() != 9 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return code.to_owned();
    }
    format!("{} {} {}", &code[..3], &code[3..6], &code[6..])
}

pub fn spawn(parent: &mut ChildSpawnerCommands, theme: &Theme, table: &Table, images: &mut Assets<Image>) {
    parent.spawn(card(Node::default())).with_children(|card| {
        card.spawn(Node { align_items: AlignItems::Stretch, ..row(3.0) }).with_children(|line| {
            line.spawn(Node { flex_grow: 1.0, flex_basis: px(0), align_items: AlignItems::Start, ..column(0.5) })
                .with_children(|words| {
                    words.spawn(theme.text(Type::Caps, theme::DIM, "JOIN CODE"));
                    let code = as_spoken(&table.code);
                    let kind = if code.chars().count() <= 8 { Type::Huge } else { Type::Title };
                    words.spawn((
                        theme.text(kind, theme::ACCENT, &code),
                        TextLayout::linebreak(LineBreak::WordOrCharacter),
                    ));
                    words.spawn(spring());
                    copy_button(words, theme, "Copy code", table.code.clone());
                });
            if let Some(code) = QrCode::of_link(&table.link) {
                // Each module takes a whole number of pixels.
                let modules = code.side() as f32;
                let side = px((CODE_SIDE / modules).round().max(2.0) * modules);
                line.spawn((
                    ImageNode::new(images.add(picture(&code))),
                    Node {
                        width: side,
                        height: side,
                        border_radius: BorderRadius::all(px(10)),
                        flex_shrink: 0.0,
                        ..default()
                    },
                    Pickable::IGNORE,
                ));
            }
        });
        card.spawn((
            Node {
                padding: UiRect::new(px(2.0 * GRID), px(1.0 * GRID), px(1.0 * GRID), px(1.0 * GRID)),
                border_radius: BorderRadius::all(px(12)),
                ..row(2.0)
            },
            BackgroundColor(theme::WELL),
        ))
        .with_children(|line| {
            line.spawn((
                theme.text(Type::Small, theme::DIM, &table.link),
                TextLayout::linebreak(LineBreak::AnyCharacter),
                Node { flex_grow: 1.0, flex_basis: px(0), ..default() },
            ));
            copy_button(line, theme, "Copy link", table.link.clone());
        });
    });
}

/// The code and a button for the link, in one line.
pub fn spawn_line(parent: &mut ChildSpawnerCommands, theme: &Theme, table: &Table) {
    parent.spawn(row(1.5)).with_children(|line| {
        line.spawn(theme.text(Type::Caps, theme::DIM, "JOIN CODE"));
        line.spawn(theme.text(Type::Heading, theme::ACCENT, as_spoken(&table.code)));
        line.spawn(spring());
        copy_button(line, theme, "Copy link", table.link.clone());
    });
}

/// An image with one pixel for each module. It stays sharp at any size.
fn picture(code: &QrCode) -> Image {
    let side = code.side() as u32;
    let pixels = code.modules().iter().flat_map(|dark| if *dark { [0, 0, 0, 255] } else { [255; 4] });
    let mut image = Image::new(
        Extent3d { width: side, height: side, depth_or_array_layers: 1 },
        TextureDimension::D2,
        pixels.collect(),
        TextureFormat::Rgba8UnormSrgb,
        RenderAssetUsages::RENDER_WORLD,
    );
    image.sampler = ImageSampler::nearest();
    image
}

fn copy_button(parent: &mut ChildSpawnerCommands, theme: &Theme, caption: &'static str, text: String) {
    parent.spawn(button(theme, Look::Secondary, caption)).observe(
        move |press: On<Activate>,
              mut clipboard: ResMut<Clipboard>,
              children: Query<&Children>,
              mut captions: Query<&mut Text>,
              mut toasts: MessageWriter<ShowToast>,
              mut commands: Commands| {
            if let Err(error) = clipboard.set_text(text.clone()) {
                warn!("no clipboard: {error:?}");
                toasts.write(ShowToast("There is no clipboard here".to_owned()));
                return;
            }
            for child in children.get(press.entity).into_iter().flatten() {
                if let Ok(mut shown) = captions.get_mut(*child) {
                    shown.0 = COPIED.to_owned();
                    commands
                        .entity(*child)
                        .insert(Reverts { caption, timer: Timer::from_seconds(1.5, TimerMode::Once) });
                }
            }
        },
    );
}

fn revert(mut captions: Query<(Entity, &mut Text, &mut Reverts)>, time: Res<Time>, mut commands: Commands) {
    for (entity, mut text, mut reverts) in &mut captions {
        if reverts.timer.tick(time.delta()).is_finished() {
            text.0 = reverts.caption.to_owned();
            commands.entity(entity).remove::<Reverts>();
        }
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, revert);
}
