//! Saves a picture of the window when the lobby is full.

use std::path::PathBuf;

use bevy::{
    prelude::*,
    render::view::screenshot::{Screenshot, save_to_disk},
};

use crate::table::News;

/// Long enough for the last player to be drawn, and for the first numbers to be known.
const DELAY_SECONDS: f32 = 4.0;

pub fn plugin(file: PathBuf) -> impl Plugin {
    move |app: &mut App| {
        let file = file.clone();
        app.add_systems(
            Update,
            move |mut news: MessageReader<News>,
                  mut due: Local<Option<Timer>>,
                  time: Res<Time>,
                  mut commands: Commands| {
                if news.read().any(|n| matches!(n, News::Full { .. })) {
                    *due = Some(Timer::from_seconds(DELAY_SECONDS, TimerMode::Once));
                }
                if due.as_mut().is_some_and(|timer| timer.tick(time.delta()).just_finished()) {
                    commands.spawn(Screenshot::primary_window()).observe(save_to_disk(file.clone()));
                }
            },
        );
    }
}
