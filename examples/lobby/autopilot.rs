//! Walks to the spark by itself, where nobody has keys to steer with.

use bevy::prelude::*;

use crate::{
    game::LobbySystems,
    intent::Intent,
    table::{Page, Table},
};

fn steer(table: Res<Table>, mut intents: MessageWriter<Intent>) {
    if let Some(at) = table.me.and_then(|me| table.figures.get(&me)) {
        intents.write(Intent::Steer(table.spark - *at));
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, steer.before(LobbySystems).run_if(in_state(Page::Arena)));
}
