//! Draws the round-trip time of the last seconds as bars.

use bevy::prelude::*;

use super::{
    history::{Histories, SAMPLES, Sample},
    style,
};
use crate::connection::Path;

/// The width of a bar and of the gap beside it, in pixels.
const PITCH: f32 = 3.0;
pub(super) const WIDTH: f32 = PITCH * SAMPLES as f32;
const HEIGHT: f32 = 44.0;

/// A bar of a peer's graph.
#[derive(Component, Clone, Copy)]
pub(super) struct Bar {
    peer: Entity,
    place: usize,
}

/// The text that shows the height of a peer's graph.
#[derive(Component, Clone, Copy)]
pub(super) struct Top(Entity);

pub(super) fn spawn(parent: &mut ChildSpawnerCommands, peer: Entity) {
    let ground = (
        Node { width: px(WIDTH), height: px(HEIGHT), border_radius: BorderRadius::all(px(3)), ..default() },
        BackgroundColor(style::WELL),
        Pickable::IGNORE,
    );
    parent.spawn(ground).with_children(|graph| {
        for place in 0..SAMPLES {
            graph.spawn((
                Bar { peer, place },
                Node {
                    position_type: PositionType::Absolute,
                    left: px(PITCH * place as f32),
                    bottom: px(0),
                    width: px(PITCH - 1.0),
                    height: px(0),
                    ..default()
                },
                BackgroundColor(style::DIM),
                Pickable::IGNORE,
            ));
        }
        graph.spawn((
            Top(peer),
            style::text("", style::DIM),
            Node { position_type: PositionType::Absolute, left: px(4), top: px(1), ..default() },
        ));
    });
}

pub(super) fn draw(
    histories: Single<&Histories>,
    mut bars: Query<(&Bar, &mut Node, &mut BackgroundColor)>,
    mut tops: Query<(&Top, &mut Text)>,
) {
    for (Top(peer), mut text) in &mut tops {
        if let Some(history) = histories.of(*peer) {
            text.set_if_neq(Text::new(format!("{} ms", history.top())));
        }
    }
    for (bar, mut node, mut colour) in &mut bars {
        let Some(history) = histories.of(bar.peer) else { continue };
        let sample = history.at(bar.place);
        let height = sample.map_or(px(0), |sample| high(sample, history.top()));
        // On a calm network most bars keep their height when they move by one place with a sample.
        if node.height != height {
            node.height = height;
        }
        colour.set_if_neq(BackgroundColor(sample.map_or(Color::NONE, shade)));
    }
}

fn high(sample: &Sample, top: f32) -> Val {
    let milliseconds = sample.rtt.unwrap_or_default().as_secs_f32() * 1000.0;
    // A bar has two pixels at least, so that its colour shows the path and the losses where the time is zero.
    px((HEIGHT * milliseconds / top).round().clamp(2.0, HEIGHT))
}

fn shade(sample: &Sample) -> Color {
    match (sample.lost, sample.path) {
        (true, _) => style::BAD,
        (_, Path::Direct) => style::GOOD,
        _ => style::WARN,
    }
}
