//! The last events, also those from before it was shown.

use std::collections::VecDeque;

use bevy::{platform::time::Instant, prelude::*};

use super::{numbers, style};
use crate::{
    connection::Path,
    ecs::{UhstConnected, UhstDiagnostic, UhstDisconnected, UhstEnded, UhstJoinRequest, UhstPathChanged, UhstReady},
    protocol::EndReason,
};

/// How many are kept and shown.
const KEPT: usize = 6;
/// What fits on a line; a diagnostic may be long, and a peer may have had a say in it.
const LONGEST: usize = 52;

#[derive(Resource, Default)]
pub(super) struct Events(VecDeque<Noted>);

struct Noted {
    at: Instant,
    colour: Color,
    text: String,
}

/// A line of the panel, the newest event first.
#[derive(Component, Clone, Copy)]
pub(super) struct Line(usize);

impl Events {
    fn note(&mut self, colour: Color, text: String) {
        if self.0.len() == KEPT {
            self.0.pop_back();
        }
        let text = match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}..", &text[..end]),
            None => text,
        };
        self.0.push_front(Noted { at: Instant::now(), colour, text });
    }
}

pub(super) fn spawn(parent: &mut ChildSpawnerCommands) {
    for line in 0..KEPT {
        parent.spawn((Line(line), style::text("", style::DIM)));
    }
}

pub(super) fn write(events: Res<Events>, mut lines: Query<(&Line, &mut Text, &mut TextColor)>) {
    for (Line(line), mut text, mut colour) in &mut lines {
        let (words, shade) = match events.0.get(*line) {
            Some(noted) => (format!("{}  {}", numbers::ago(noted.at.elapsed()), noted.text), noted.colour),
            None => (String::new(), style::DIM),
        };
        style::set(&mut text, &mut colour, words, shade);
    }
}

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Events>()
        .add_observer(|ready: On<UhstReady>, mut events: ResMut<Events>| {
            events.note(style::TEXT, format!("ready as {}", ready.id));
        })
        .add_observer(|request: On<UhstJoinRequest>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(style::TEXT, format!("{}: somebody asks to join", name(request.entity, &names)));
        })
        .add_observer(|connected: On<UhstConnected>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(style::GOOD, format!("{} connected", name(connected.entity, &names)));
        })
        .add_observer(|changed: On<UhstPathChanged>, names: Query<&Name>, mut events: ResMut<Events>| {
            let name = name(changed.entity, &names);
            match changed.path {
                Path::Direct => events.note(style::GOOD, format!("{name} is reached directly")),
                _ => events.note(style::WARN, format!("{name} is reached over the relay")),
            }
        })
        .add_observer(|gone: On<UhstDisconnected>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(end_colour(&gone.reason), format!("{} is gone: {}", name(gone.entity, &names), gone.reason));
        })
        .add_observer(|ended: On<UhstEnded>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(end_colour(&ended.reason), format!("{} ended: {}", name(ended.entity, &names), ended.reason));
        })
        .add_observer(|diagnostic: On<UhstDiagnostic>, names: Query<&Name>, mut events: ResMut<Events>| {
            let about = diagnostic.peer.unwrap_or(diagnostic.entity);
            events.note(style::WARN, format!("{}: {}", name(about, &names), diagnostic.text));
        });
}

fn end_colour(reason: &EndReason) -> Color {
    match reason {
        EndReason::Left => style::TEXT,
        _ => style::BAD,
    }
}

/// What an entity goes by; one that the game has despawned has only its number left.
pub(super) fn name(entity: Entity, names: &Query<&Name>) -> String {
    names.get(entity).map_or_else(|_| entity.to_string(), ToString::to_string)
}
