//! The list of the last events. It is kept while the overlay is hidden, too.

use std::collections::VecDeque;

use bevy::{platform::time::Instant, prelude::*};

use super::{numbers, style};
use crate::{
    connection::{Interruption, Path},
    ecs::{
        UhstConnected, UhstDiagnostic, UhstDisconnected, UhstEnded, UhstInterrupted, UhstJoinAbandoned,
        UhstJoinRequest, UhstPathChanged, UhstReady, UhstRejoined, UhstResumed,
    },
    protocol::EndReason,
};

/// The number of events that are kept and shown.
const KEPT: usize = 6;
/// The width of a line in characters.
const LONGEST: usize = 54;

#[derive(Resource, Default)]
pub(super) struct Events(VecDeque<Noted>);

struct Noted {
    at: Instant,
    about: Entity,
    /// The peer's last name. A game learns a player's name after the player has connected.
    name: String,
    what: String,
    colour: Color,
}

/// A line of the panel. The first line shows the newest event.
#[derive(Component, Clone, Copy)]
pub(super) struct Line(usize);

impl Events {
    fn note(&mut self, about: Entity, names: &Query<&Name>, colour: Color, what: String) {
        let name = match (names.get(about), self.0.iter().find(|noted| noted.about == about)) {
            (Err(_), Some(noted)) => noted.name.clone(),
            _ => name(about, names),
        };
        if self.0.len() == KEPT {
            self.0.pop_back();
        }
        self.0.push_front(Noted { at: Instant::now(), about, name, what, colour });
    }

    /// Keeps the name of an entity that is about to be despawned.
    fn keep_name(&mut self, about: Entity, names: &Query<&Name>) {
        let Ok(name) = names.get(about) else { return };
        for noted in self.0.iter_mut().filter(|noted| noted.about == about) {
            noted.name = name.to_string();
        }
    }
}

impl Noted {
    fn line(&self, names: &Query<&Name>) -> String {
        let name = names.get(self.about).map_or(self.name.as_str(), Name::as_str);
        let line = format!("{}  {name}{}", numbers::ago(self.at.elapsed()), self.what);
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}..", &line[..end]),
            None => line,
        }
    }
}

pub(super) fn spawn(parent: &mut ChildSpawnerCommands) {
    for line in 0..KEPT {
        parent.spawn((Line(line), style::text("", style::DIM)));
    }
}

pub(super) fn write(events: Res<Events>, names: Query<&Name>, mut lines: Query<(&Line, &mut Text, &mut TextColor)>) {
    for (Line(line), mut text, mut colour) in &mut lines {
        let (words, shade) = match events.0.get(*line) {
            Some(noted) => (noted.line(&names), noted.colour),
            None => (String::new(), style::DIM),
        };
        style::set(&mut text, &mut colour, words, shade);
    }
}

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Events>()
        .add_observer(|ready: On<UhstReady>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(ready.entity, &names, style::TEXT, format!(" is ready as {}", ready.id));
        })
        .add_observer(|request: On<UhstJoinRequest>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(request.entity, &names, style::TEXT, ": somebody asks to join".to_owned());
        })
        .add_observer(|gone: On<UhstJoinAbandoned>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(gone.entity, &names, style::TEXT, format!(": a joiner is gone: {}", gone.reason));
        })
        .add_observer(|connected: On<UhstConnected>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(connected.entity, &names, style::GOOD, " connected".to_owned());
        })
        .add_observer(|rejoined: On<UhstRejoined>, names: Query<&Name>, mut events: ResMut<Events>| {
            let former = name(rejoined.former, &names);
            events.note(rejoined.entity, &names, style::GOOD, format!(" is {former}, who has joined again"));
        })
        .add_observer(|changed: On<UhstPathChanged>, names: Query<&Name>, mut events: ResMut<Events>| {
            let (colour, how) = match changed.path {
                Path::Direct => (style::GOOD, " is reached directly"),
                _ => (style::WARN, " is reached over the relay"),
            };
            events.note(changed.entity, &names, colour, how.to_owned());
        })
        .add_observer(|interrupted: On<UhstInterrupted>, names: Query<&Name>, mut events: ResMut<Events>| {
            let why = match interrupted.reason {
                Interruption::Silent => " is silent",
                Interruption::NoPath => " cannot be reached",
            };
            events.note(interrupted.entity, &names, style::BAD, why.to_owned());
        })
        .add_observer(|resumed: On<UhstResumed>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.note(resumed.entity, &names, style::GOOD, " is back".to_owned());
        })
        .add_observer(|gone: On<UhstDisconnected>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.keep_name(gone.entity, &names);
            events.note(gone.entity, &names, end_colour(&gone.reason), format!(" is gone: {}", gone.reason));
        })
        .add_observer(|ended: On<UhstEnded>, names: Query<&Name>, mut events: ResMut<Events>| {
            events.keep_name(ended.entity, &names);
            events.note(ended.entity, &names, end_colour(&ended.reason), format!(" ended: {}", ended.reason));
        })
        .add_observer(|diagnostic: On<UhstDiagnostic>, names: Query<&Name>, mut events: ResMut<Events>| {
            let about = diagnostic.peer.unwrap_or(diagnostic.entity);
            events.note(about, &names, style::WARN, format!(": {}", diagnostic.text));
        });
}

fn end_colour(reason: &EndReason) -> Color {
    match reason {
        EndReason::Left | EndReason::EndedLocally => style::TEXT,
        _ => style::BAD,
    }
}

/// The name of an entity, or its number if it has none or is despawned.
pub(super) fn name(entity: Entity, names: &Query<&Name>) -> String {
    names.get(entity).map_or_else(|_| entity.to_string(), ToString::to_string)
}
