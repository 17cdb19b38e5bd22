//! The games on this network: ours is announced while we host, others are listed on the start page.

use bevy::prelude::*;
use bevy_uhst::prelude::*;

use crate::table::{Page, Table};

/// What lobbies announce themselves as.
const GAME: &str = "bevy_uhst lobby 1";

/// The games to join, those with a free seat first.
#[derive(Resource, Default, Debug, PartialEq)]
pub struct Nearby(pub Vec<Game>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Game {
    /// First, for the order.
    pub full: bool,
    pub name: String,
    pub link: String,
    pub players: u16,
    pub max: u16,
    pub locked: bool,
}

fn look_around(mut commands: Commands) {
    commands.spawn((DespawnOnExit(Page::Start), UhstBrowser::new(GAME)));
}

/// Every host announces its lobby.
fn announce(
    hosts: Query<Entity, (With<UhstHost>, Without<UhstAnnouncement>)>,
    table: Res<Table>,
    mut commands: Commands,
) {
    for host in &hosts {
        if let Some(me) = table.myself() {
            commands.entity(host).insert(UhstAnnouncement::new(GAME, format!("{}’s lobby", me.name)));
        }
    }
}

fn list(sessions: Query<&DiscoveredSession>, mut nearby: ResMut<Nearby>) {
    if sessions.is_empty() && nearby.0.is_empty() {
        return;
    }
    let mut games: Vec<Game> = sessions
        .iter()
        .map(|session| Game {
            full: session.is_full(),
            name: session.name.clone(),
            link: session.link.to_string(),
            players: session.players,
            max: session.max_players,
            locked: session.needs_password,
        })
        .collect();
    games.sort();
    nearby.set_if_neq(Nearby(games));
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Nearby>()
        .add_systems(OnEnter(Page::Start), look_around)
        .add_systems(PreUpdate, list.after(UhstSystems::Receive))
        .add_systems(Update, announce);
}
