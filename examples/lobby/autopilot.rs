//! Plays by itself, where nobody has keys to steer with or a mouse to press buttons.

use bevy::prelude::*;

use crate::{
    game::LobbySystems,
    intent::Intent,
    table::{News, Page, Table},
};

fn steer(table: Res<Table>, mut intents: MessageWriter<Intent>) {
    let Some(me) = table.myself() else { return };
    if let Some(at) = table.figures.get(&me.id) {
        // Each comes from a side of its own: they would stand on top of each other.
        let side = Vec2::from_angle(me.colour as f32) * 0.6;
        intents.write(Intent::Steer(table.spark + side - *at));
    }
}

/// Walks to the spark.
pub fn plugin(app: &mut App) {
    app.add_systems(Update, steer.before(LobbySystems).run_if(in_state(Page::Arena)));
}

fn get_ready(mut news: MessageReader<News>, mut intents: MessageWriter<Intent>) {
    intents.write_batch(news.read().any(|n| matches!(n, News::Full { .. })).then_some(Intent::Ready(true)));
}

fn start(table: Res<Table>, mut intents: MessageWriter<Intent>) {
    if table.is_host() && table.is_full() && table.everyone_ready() {
        intents.write(Intent::StartRound);
    }
}

/// Gets ready when the lobby is full; the host starts the round when everyone is.
pub fn rounds(app: &mut App) {
    app.add_systems(Update, (get_ready, start).before(LobbySystems).run_if(in_state(Page::Lobby)));
}
