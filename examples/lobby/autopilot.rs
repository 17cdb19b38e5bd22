//! Walks to the spark by itself, where nobody has keys to steer with.

use bevy::prelude::*;

use crate::{
    game::LobbySystems,
    intent::Intent,
    table::{Page, Table},
};

fn steer(table: Res<Table>, mut intents: MessageWriter<Intent>) {
    let Some(me) = table.myself() else { return };
    if let Some(at) = table.figures.get(&me.id) {
        // Each comes from a side of its own: they would stand on top of each other.
        let side = Vec2::from_angle(me.colour as f32) * 0.6;
        intents.write(Intent::Steer(table.spark + side - *at));
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, steer.before(LobbySystems).run_if(in_state(Page::Arena)));
}
