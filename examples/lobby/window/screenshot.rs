//! Saves a picture of the window once it shows a certain state.

use std::path::PathBuf;

use bevy::{
    prelude::*,
    render::view::screenshot::{Screenshot, save_to_disk},
};

use crate::{args::View, table::News};

pub fn plugin(file: PathBuf) -> impl Plugin {
    move |app: &mut App| {
        let file = file.clone();
        app.add_systems(
            Update,
            move |mut news: MessageReader<News>,
                  view: Res<View>,
                  mut due: Local<Option<Timer>>,
                  time: Res<Time>,
                  mut commands: Commands| {
                *due = news.read().find_map(|news| view.picture(news)).or(due.take());
                if due.as_mut().is_some_and(|timer| timer.tick(time.delta()).just_finished()) {
                    commands.spawn(Screenshot::primary_window()).observe(save_to_disk(file.clone()));
                }
            },
        );
    }
}
