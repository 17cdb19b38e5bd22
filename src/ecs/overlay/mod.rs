//! What the network does, drawn over the game.

mod events;
mod graph;
mod history;
mod numbers;
mod panel;
mod peers;
mod style;

use std::time::Duration;

use bevy::{platform::time::Instant, prelude::*};

/// How often the numbers are renewed while they are shown.
const REFRESH: Duration = Duration::from_millis(250);

/// One key shows what the network does: every session and its peers, with the path in use, a graph of the round-trip
/// time, bytes and messages per second, losses, how full the send queue is, and the last events.
///
/// Add it beside [`UhstPlugin`](super::UhstPlugin), in an app with Bevy's UI. Hidden, it has no entities and runs no
/// systems; only events are still noted down, so that the last ones are there when it is shown. Shown, it is renewed
/// four times a second.
///
/// ```no_run
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// App::new().add_plugins((DefaultPlugins, UhstPlugin::default(), UhstOverlayPlugin::default()));
/// ```
///
/// Peers and sessions go by their `Name`: insert the player's on the peer's entity to see it here.
///
/// | colour | meaning |
/// |---|---|
/// | green | direct, connected |
/// | amber | over the relay; a send queue more than half full |
/// | red | losses, a send queue about to overflow, an end that nobody asked for |
#[derive(Clone, Copy, Debug)]
pub struct UhstOverlayPlugin {
    /// Shows and hides it; `F3` by default. With none, the game does, by [`UhstOverlay`].
    pub key: Option<KeyCode>,
    /// Whether it is shown from the start.
    pub shown: bool,
}

impl Default for UhstOverlayPlugin {
    fn default() -> Self {
        UhstOverlayPlugin { key: Some(KeyCode::F3), shown: false }
    }
}

/// Whether the overlay is shown. Set it to show or hide the overlay from code.
#[derive(Resource, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[reflect(Resource, Debug, Default, PartialEq)]
pub struct UhstOverlay {
    /// Whether it is shown.
    pub shown: bool,
}

/// The key that shows and hides it.
#[derive(Resource, Clone, Copy)]
struct ToggleKey(Option<KeyCode>);

impl Plugin for UhstOverlayPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(UhstOverlay { shown: self.shown })
            .insert_resource(ToggleKey(self.key))
            .register_type::<UhstOverlay>()
            .add_plugins(events::plugin)
            .add_systems(
                Update,
                (
                    toggle.run_if(key_was_pressed),
                    panel::hide.run_if(is_hidden.and_then(any_with_component::<panel::Panel>)),
                    panel::show.run_if(is_shown.and_then(not(any_with_component::<panel::Panel>))),
                    (peers::lay_out, history::sample, peers::write, peers::fill_queues, graph::draw, events::write)
                        .chain()
                        .run_if(is_due),
                )
                    .chain(),
            );
    }
}

fn key_was_pressed(key: Res<ToggleKey>, keys: Option<Res<ButtonInput<KeyCode>>>) -> bool {
    key.0.zip(keys).is_some_and(|(key, keys)| keys.just_pressed(key))
}

fn toggle(mut overlay: ResMut<UhstOverlay>) {
    overlay.shown = !overlay.shown;
}

fn is_shown(overlay: Res<UhstOverlay>) -> bool {
    overlay.shown
}

fn is_hidden(overlay: Res<UhstOverlay>) -> bool {
    !overlay.shown
}

/// At once when it is shown, then each time a [`REFRESH`] has passed. By the real time: a game that pauses has a
/// network all the same.
fn is_due(overlay: Res<UhstOverlay>, mut last: Local<Option<Instant>>) -> bool {
    if !overlay.shown {
        *last = None;
        return false;
    }
    let now = Instant::now();
    let due = last.is_none_or(|last| now - last >= REFRESH);
    if due {
        *last = Some(now);
    }
    due
}
