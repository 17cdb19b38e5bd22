//! Finding sessions on the local network.

use std::ops::Deref;

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    platform::collections::HashMap,
    prelude::*,
};

use super::{UhstDiagnostic, UhstSystems, network::Network};
use crate::{
    net::discovery::{BrowseEvent, BrowseHandle, FoundKey, FoundSession},
    protocol::{Announcement, JoinLink},
};

/// Lists the sessions of a game on the local network: spawn it to look for them, despawn or remove it to stop.
///
/// Each session that [announces](super::UhstAnnouncement) itself is an entity with [`DiscoveredSession`], [`DiscoveredBy`]
/// this browser: spawned when the session is found, updated in place, and despawned when the session is gone. That takes
/// a moment after a goodbye, and half a minute when the host was killed or has left the network. Sessions of this app are
/// listed like all others.
///
/// An app may have several browsers. Each has entities of its own, a thread and two sockets, so one is enough for one
/// game. A browser lists 256 sessions at most. Invalid announcements are ignored, and reported once
/// as a [`UhstDiagnostic`] of the browser.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// fn look_around(mut commands: Commands) {
///     commands.spawn(UhstBrowser::new("my-game"));
/// }
///
/// fn join_the_first(found: On<Add, DiscoveredSession>, sessions: Query<&DiscoveredSession>, mut commands: Commands) {
///     if let Ok(session) = sessions.get(found.entity) {
///         commands.spawn(UhstClient::from(session.link.clone()));
///     }
/// }
/// ```
#[derive(Component, Reflect, Debug, Default)]
#[component(on_insert = start, on_discard = stop, clone_behavior = Ignore)]
#[reflect(Component, Debug, Default)]
pub struct UhstBrowser {
    game: String,
    #[reflect(ignore)]
    handle: Option<BrowseHandle>,
    #[reflect(ignore)]
    listed: HashMap<FoundKey, Entity>,
}

impl UhstBrowser {
    /// Lists sessions of this game, as [`UhstAnnouncement::game`](super::UhstAnnouncement::game) names it.
    pub fn new(game: impl Into<String>) -> Self {
        UhstBrowser { game: game.into(), ..Self::default() }
    }

    /// The game whose sessions it lists.
    pub fn game(&self) -> &str {
        &self.game
    }
}

/// A session on the local network, as its host announces it. Read it; a [`UhstBrowser`] keeps it up to date.
///
/// All of this may come from anyone on the network. Text is short and free of control characters, numbers are in their
/// ranges, and the link leads to a machine on this network, unless the host names a relay elsewhere.
#[derive(Component, Reflect, Clone, Debug, PartialEq, Eq)]
#[reflect(Component, Debug, PartialEq, from_reflect = false)]
#[non_exhaustive]
pub struct DiscoveredSession {
    /// Its name, at most 96 bytes.
    pub name: String,
    /// How many players there are.
    pub players: u16,
    /// How many there can be.
    pub max_players: u16,
    /// Whether joining takes a password.
    pub needs_password: bool,
    /// How to join it: [`UhstClient::from`](super::UhstClient).
    #[reflect(ignore)]
    pub link: JoinLink,
}

impl DiscoveredSession {
    /// Whether nobody else can join.
    pub fn is_full(&self) -> bool {
        self.players >= self.max_players
    }
}

impl From<FoundSession> for DiscoveredSession {
    fn from(FoundSession { announcement, link }: FoundSession) -> Self {
        let Announcement { name, players, limit, password, .. } = announcement;
        DiscoveredSession { name, players, max_players: limit, needs_password: password, link }
    }
}

/// On a [`DiscoveredSession`]: the browser that lists it.
#[derive(Component, Reflect, Clone, Copy, Debug, PartialEq, Eq)]
#[relationship(relationship_target = Discovered)]
#[reflect(Component, Debug, PartialEq)]
pub struct DiscoveredBy(pub Entity);

/// On a [`UhstBrowser`]: the sessions it lists, which are despawned with it. Absent while there are none.
#[derive(Component, Reflect, Debug)]
#[relationship_target(relationship = DiscoveredBy, linked_spawn)]
#[reflect(Component, Debug, from_reflect = false)]
pub struct Discovered(Vec<Entity>);

impl Deref for Discovered {
    type Target = [Entity];

    fn deref(&self) -> &[Entity] {
        &self.0
    }
}

pub(super) fn plugin(app: &mut App) {
    app.register_type::<UhstBrowser>()
        .register_type::<DiscoveredSession>()
        .register_type::<DiscoveredBy>()
        .register_type::<Discovered>()
        .add_systems(PreUpdate, list.run_if(has_news).in_set(UhstSystems::Receive));
}

/// One look at an empty queue for each browser.
fn has_news(browsers: Query<&UhstBrowser>) -> bool {
    browsers.iter().any(|browser| browser.handle.as_ref().is_some_and(|handle| !handle.events.is_empty()))
}

fn list(
    mut browsers: Query<(Entity, &mut UhstBrowser)>,
    mut sessions: Query<&mut DiscoveredSession>,
    mut commands: Commands,
) {
    for (entity, mut browser) in &mut browsers {
        let UhstBrowser { handle: Some(handle), listed, .. } = browser.bypass_change_detection() else { continue };
        for event in handle.events.try_iter().take(handle.events.len()) {
            match event {
                BrowseEvent::Listed(key, found) => {
                    let session = DiscoveredSession::from(*found);
                    let Some(known) = listed.get(&key).copied() else {
                        let name = Name::new(format!("session {}", session.name));
                        listed.insert(key, commands.spawn((session, DiscoveredBy(entity), name)).id());
                        continue;
                    };
                    match sessions.get_mut(known) {
                        Ok(mut shown) => {
                            shown.set_if_neq(session);
                        }
                        // Spawned in this frame, or despawned by the game.
                        Err(_) => {
                            commands.entity(known).try_insert(session);
                        }
                    }
                }
                BrowseEvent::Lost(key) => {
                    if let Some(known) = listed.remove(&key) {
                        commands.entity(known).try_despawn();
                    }
                }
                BrowseEvent::Diagnostic(text) => {
                    tracing::warn!("{text}");
                    commands.trigger(UhstDiagnostic { entity, peer: None, text });
                }
            }
        }
    }
}

fn start(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let Some(game) = world.get::<UhstBrowser>(entity).map(|browser| browser.game.clone()) else { return };
    let Some(mut network) = world.get_resource_mut::<Network>() else {
        tracing::error!("UhstBrowser does nothing: add UhstPlugin to the app");
        return;
    };
    let name = Name::new(format!("browser of {game}"));
    let handle = match network.browse(&game) {
        Ok(handle) => handle,
        Err(reason) => return tracing::error!("{reason}"),
    };
    if let Some(mut browser) = world.get_mut::<UhstBrowser>(entity) {
        browser.handle = Some(handle);
        browser.listed.clear();
    }
    world.commands().entity(entity).try_insert_if_new(name);
}

/// Despawns what it has listed.
fn stop(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let Some(mut browser) = world.get_mut::<UhstBrowser>(entity) else { return };
    let listed = std::mem::take(&mut browser.listed);
    for session in listed.into_values() {
        world.commands().entity(session).try_despawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::network::fake::app;

    fn found(name: &str, players: u16) -> Box<FoundSession> {
        let announcement = Announcement {
            game: "game".to_owned(),
            name: name.to_owned(),
            id: "1".to_owned(),
            players,
            limit: 4,
            password: false,
            relay: None,
        };
        Box::new(FoundSession { announcement, link: JoinLink::new(None, "1".to_owned()) })
    }

    type Events = crossbeam_channel::Sender<BrowseEvent>;

    fn browser(app: &mut App) -> (Entity, Events) {
        let entity = app.world_mut().spawn(UhstBrowser::new("game")).id();
        (entity, app.world_mut().resource_mut::<Network>().browsed.pop().expect("it looks around"))
    }

    fn listed(app: &mut App) -> Vec<(String, u16)> {
        let mut sessions = app.world_mut().query::<&DiscoveredSession>();
        let mut listed: Vec<_> =
            sessions.iter(app.world()).map(|session| (session.name.clone(), session.players)).collect();
        listed.sort();
        listed
    }

    fn tell(app: &mut App, events: &Events, news: impl IntoIterator<Item = BrowseEvent>) {
        news.into_iter().for_each(|event| events.send(event).unwrap());
        app.update();
    }

    #[test]
    fn sessions_come_change_in_place_and_go() {
        let mut app = app();
        let (browser, events) = browser(&mut app);
        let (one, two) = (FoundKey(1), FoundKey(2));
        tell(
            &mut app,
            &events,
            [
                BrowseEvent::Listed(one, found("one", 1)),
                BrowseEvent::Listed(two, found("two", 1)),
                // An update of an entity whose spawn is still queued.
                BrowseEvent::Listed(two, found("two", 3)),
            ],
        );
        assert_eq!(listed(&mut app), [("one".to_owned(), 1), ("two".to_owned(), 3)]);
        let entities = app.world().get::<Discovered>(browser).unwrap().to_vec();
        assert_eq!(app.world().get::<DiscoveredBy>(entities[0]), Some(&DiscoveredBy(browser)));
        assert_eq!(app.world().get::<Name>(entities[0]).unwrap().as_str(), "session one");

        tell(&mut app, &events, [BrowseEvent::Listed(one, found("one", 4))]);
        assert_eq!(listed(&mut app), [("one".to_owned(), 4), ("two".to_owned(), 3)]);
        assert_eq!(app.world().get::<Discovered>(browser).unwrap().to_vec(), entities);
        assert!(app.world().get::<DiscoveredSession>(entities[0]).unwrap().is_full());

        tell(&mut app, &events, [BrowseEvent::Lost(one), BrowseEvent::Lost(one)]);
        assert_eq!(listed(&mut app), [("two".to_owned(), 3)]);
    }

    #[test]
    fn the_list_goes_with_its_browser_and_with_no_other() {
        for remove in [false, true] {
            let mut app = app();
            let (first, events) = browser(&mut app);
            let (_, others) = browser(&mut app);
            tell(&mut app, &others, [BrowseEvent::Listed(FoundKey(1), found("other", 1))]);
            tell(&mut app, &events, [BrowseEvent::Listed(FoundKey(1), found("one", 1))]);
            if remove {
                app.world_mut().entity_mut(first).remove::<UhstBrowser>();
            } else {
                app.world_mut().despawn(first);
            }
            assert_eq!(listed(&mut app), [("other".to_owned(), 1)]);
            assert!(events.send(BrowseEvent::Lost(FoundKey(1))).is_err(), "it has stopped looking");
        }
    }

    #[test]
    fn inserting_it_again_looks_for_another_game() {
        let mut app = app();
        let (entity, events) = browser(&mut app);
        tell(&mut app, &events, [BrowseEvent::Listed(FoundKey(1), found("one", 1))]);
        app.world_mut().entity_mut(entity).insert(UhstBrowser::new("other"));
        assert_eq!(listed(&mut app), []);
        let events = app.world_mut().resource_mut::<Network>().browsed.pop().expect("it looks around");
        tell(&mut app, &events, [BrowseEvent::Listed(FoundKey(1), found("two", 1))]);
        assert_eq!(listed(&mut app), [("two".to_owned(), 1)]);
    }

    #[test]
    fn a_session_that_the_game_despawned_stays_away() {
        let mut app = app();
        let (browser, events) = browser(&mut app);
        tell(&mut app, &events, [BrowseEvent::Listed(FoundKey(1), found("one", 1))]);
        let session = app.world().get::<Discovered>(browser).unwrap()[0];
        app.world_mut().despawn(session);
        tell(&mut app, &events, [BrowseEvent::Listed(FoundKey(1), found("one", 2)), BrowseEvent::Lost(FoundKey(1))]);
        assert_eq!(listed(&mut app), []);
    }

    #[test]
    fn trouble_is_told_of_the_browser() {
        let mut app = app();
        let (_, events) = browser(&mut app);
        tell(&mut app, &events, [BrowseEvent::Diagnostic("nonsense".to_owned())]);
        assert_eq!(crate::ecs::network::fake::log(&mut app), ["nonsense"]);
    }

    #[test]
    fn without_the_plugin_nothing_happens() {
        let mut world = World::new();
        let browser = world.spawn(UhstBrowser::new("game")).id();
        world.despawn(browser);
    }
}
