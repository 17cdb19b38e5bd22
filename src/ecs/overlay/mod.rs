//! An overlay that shows the state of the network over the game.

mod events;
mod graph;
mod history;
mod numbers;
mod panel;
mod peers;
mod style;

use std::time::Duration;

use bevy::{platform::time::Instant, prelude::*};

/// The interval at which the numbers are updated while they are shown.
const REFRESH: Duration = Duration::from_millis(250);

/// Shows the state of the network at a key press: every session and its peers, with the path in use, a graph of the
/// round-trip time, bytes and messages per second, losses, how full the send queue is, and the last events.
///
/// Add it beside [`UhstPlugin`](super::UhstPlugin), in an app with Bevy's UI. While it is hidden, it has no entities and
/// only records events, so that the last ones are listed when it is shown. While it is shown, it is updated four times
/// a second.
///
/// ```no_run
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// App::new().add_plugins((DefaultPlugins, UhstPlugin::default(), UhstOverlayPlugin::default()));
/// ```
///
/// Peers and sessions are listed by their `Name`. Insert the player's name on the peer's entity to see it in the list.
///
/// | colour | meaning |
/// |---|---|
/// | green | direct, connected |
/// | amber | over the relay; a send queue more than half full |
/// | red | losses, a send queue about to overflow, an end that nobody asked for |
#[derive(Clone, Copy, Debug)]
pub struct UhstOverlayPlugin {
    /// The key that shows and hides the overlay. Default: `F3`. Without a key, the game sets [`UhstOverlay`].
    pub key: Option<KeyCode>,
    /// Whether the overlay is shown from the start. Default: `false`.
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
    /// Whether the overlay is shown.
    pub shown: bool,
}

/// The key that shows and hides the overlay.
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

/// Returns whether an update is due: when the overlay is shown, and then after each [`REFRESH`] of real time, since the
/// network goes on while the game is paused.
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
