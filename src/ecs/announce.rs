//! Announcing a session on the local network.

use bevy::prelude::*;

use super::{UhstEnded, UhstHost, network::Network};
use crate::{
    net::discovery::{AnnounceHandle, RelayPlace},
    protocol::Announcement,
};

/// On a [`UhstHost`]: announces the session on the local network, where each [`UhstBrowser`](super::UhstBrowser) of the
/// same game lists it.
///
/// The announcement begins when the session is [ready](super::UhstReady), follows the number of players and changes of
/// this component, and ends with the session or with the component. A game that is
/// killed disappears from the lists within half a minute.
///
/// Everyone on the network can read the name, how many play and may play, whether there is a password (not which), and
/// how to join: with the [embedded relay](crate::Relay::Embedded) the address and port where it listens, otherwise the URL of
/// the relay. A session of a [`MemoryRelay`](crate::MemoryRelay) is not announced.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// fn host(mut commands: Commands) {
///     commands.spawn((UhstHost::any_id().max_peers(3), UhstAnnouncement::new("my-game", "Ada's round")));
/// }
/// ```
#[derive(Component, Reflect, Debug, Default)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, Default)]
pub struct UhstAnnouncement {
    /// Which game it is, so that each lists its own: at most 64 bytes, the rest is cut. Put its version in, if others
    /// cannot join.
    pub game: String,
    /// The name that players read: at most 96 bytes, the rest is cut.
    pub name: String,
    /// How many players are at the host's machine: one if not set. They count as players, and on top of
    /// [`max_peers`](UhstHost::max_peers). [Local clients](super::LocalClients) are among them, and not counted again.
    pub local_players: u16,
    #[reflect(ignore)]
    handle: Option<AnnounceHandle>,
}

impl UhstAnnouncement {
    /// Announces a session of this game under this name.
    pub fn new(game: impl Into<String>, name: impl Into<String>) -> Self {
        UhstAnnouncement { game: game.into(), name: name.into(), local_players: 1, handle: None }
    }

    /// Sets how many players are at the host's machine: none on a host without a player.
    #[must_use]
    pub fn local_players(mut self, players: u16) -> Self {
        self.local_players = players;
        self
    }

    /// Returns whether the session is announced.
    pub fn is_running(&self) -> bool {
        self.handle.is_some()
    }
}

pub(super) fn plugin(app: &mut App) {
    app.register_type::<UhstAnnouncement>().add_observer(stop).add_systems(PostUpdate, announce);
}

type ChangedSession = Or<(Changed<UhstHost>, Changed<UhstAnnouncement>)>;

/// Keeps each announcement up to date.
fn announce(mut hosts: Query<(&UhstHost, &mut UhstAnnouncement), ChangedSession>, mut network: ResMut<Network>) {
    for (host, mut announce) in &mut hosts {
        let place =
            host.is_ready().then(|| RelayPlace::of(&host.settings.relay(&network.defaults), host.links())).flatten();
        // A game cannot see the handle, so that this is no change of the component.
        let UhstAnnouncement { game, name, local_players, handle } = announce.bypass_change_detection();
        let Some((place, relay)) = place else {
            *handle = None;
            continue;
        };
        let count = |peers: usize| u16::try_from(peers).unwrap_or(u16::MAX).saturating_add(*local_players);
        let announcement = Announcement {
            game: game.clone(),
            name: name.clone(),
            id: host.id().unwrap_or_default().to_owned(),
            players: count(host.peer_count() - host.local_peer_count()),
            limit: count(host.get_max_peers()),
            password: host.has_password(),
            relay,
        };
        match handle {
            Some(handle) => handle.update(announcement),
            None => match network.announce(place, announcement) {
                Ok(started) => *handle = Some(started),
                Err(reason) => tracing::error!("{reason}"),
            },
        }
    }
}

/// A session that has ended is not there to join, though its entity may stay.
fn stop(ended: On<UhstEnded>, mut announces: Query<&mut UhstAnnouncement>) {
    if let Ok(mut announce) = announces.get_mut(ended.entity) {
        announce.bypass_change_detection().handle = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        ecs::network::fake::{app, connect, started},
        net::{
            contract::{EventKind, PeerKey, SessionKey},
            discovery::AnnounceTask,
        },
        protocol::{EndReason, JoinLink},
    };

    fn ready(app: &mut App, session: SessionKey) {
        let link = JoinLink::new("http://192.168.1.5:3000/".parse().ok(), "483920".to_owned());
        let kind = EventKind::Ready { id: "483920".to_owned(), links: vec![link] };
        crate::ecs::network::fake::push(app, session, kind);
        app.update();
    }

    /// The announcement that was begun last.
    fn told(app: &mut App) -> AnnounceTask {
        app.world_mut().resource_mut::<Network>().announced.pop().expect("something is announced")
    }

    fn hosted() -> (App, Entity, SessionKey, AnnounceTask) {
        let mut app = app();
        let host = UhstHost::any_id().max_peers(3).password("swordfish");
        let session = app.world_mut().spawn((host, UhstAnnouncement::new("game", "Ada"))).id();
        let key = started(&app).key;
        app.update();
        assert!(app.world().resource::<Network>().announced.is_empty(), "announced before it was ready");
        ready(&mut app, key);
        let told = told(&mut app);
        (app, session, key, told)
    }

    #[test]
    fn an_announcement_follows_the_session() {
        let (mut app, session, key, mut told) = hosted();
        let first = told.latest.borrow_and_update().clone();
        assert_eq!((first.players, first.limit, first.password), (1, 4, true));
        assert_eq!((first.id.as_str(), &first.relay), ("483920", &None));

        connect(&mut app, key, 1);
        assert_eq!(told.latest.borrow_and_update().players, 2);
        let kind = EventKind::Disconnected { peer: PeerKey(1), reason: EndReason::Left };
        crate::ecs::network::fake::push(&app, key, kind);
        app.update();
        assert_eq!(told.latest.borrow_and_update().players, 1);

        app.world_mut().get_mut::<UhstAnnouncement>(session).unwrap().name = "Ada’s round".to_owned();
        app.update();
        assert_eq!(told.latest.borrow_and_update().name, "Ada’s round");

        app.update();
        assert!(!told.latest.has_changed().unwrap(), "an idle frame is no news");
        assert!(app.world().resource::<Network>().announced.is_empty(), "one announcement is enough");
    }

    #[test]
    fn it_ends_with_the_session_or_with_the_component() {
        let (mut app, session, ..) = hosted();
        app.world_mut().entity_mut(session).remove::<UhstHost>();
        assert!(!app.world().get::<UhstAnnouncement>(session).unwrap().is_running());

        let (mut app, session, _, told) = hosted();
        app.world_mut().despawn(session);
        assert!(told.latest.has_changed().is_err(), "goodbye");

        let (mut app, session, key, told) = hosted();
        app.world_mut().entity_mut(session).remove::<UhstAnnouncement>();
        assert!(told.latest.has_changed().is_err(), "goodbye");
        // Put on a session that is running.
        app.world_mut().entity_mut(session).insert(UhstAnnouncement::new("game", "again").local_players(0));
        connect(&mut app, key, 1);
        assert_eq!(self::told(&mut app).latest.borrow().players, 1);
    }

    #[test]
    fn a_local_client_is_one_of_the_local_players() {
        let (mut app, session, key, mut told) = hosted();
        app.world_mut().spawn(super::super::LocalClientOf(session));
        app.update();
        assert_eq!(app.world().get::<UhstHost>(session).unwrap().peer_count(), 1);
        connect(&mut app, key, 1);
        let announced = told.latest.borrow_and_update().clone();
        assert_eq!((announced.players, announced.limit), (2, 4));
    }

    #[test]
    fn a_session_in_memory_is_not_announced() {
        let mut app = app();
        let relay = crate::Relay::Memory(crate::MemoryRelay::default());
        let session =
            app.world_mut().spawn((UhstHost::any_id().relay(relay), UhstAnnouncement::new("game", "Ada"))).id();
        let key = started(&app).key;
        ready(&mut app, key);
        assert!(!app.world().get::<UhstAnnouncement>(session).unwrap().is_running());
    }

    #[test]
    fn an_app_that_exits_takes_it_back() {
        let (mut app, _, _, told) = hosted();
        app.world_mut().write_message(AppExit::Success);
        app.update();
        assert!(told.open.has_changed().is_err(), "goodbye");
    }

    #[test]
    fn an_app_that_is_dropped_waits_until_its_goodbyes_are_said() {
        let (app, _, _, mut told) = hosted();
        let said = Arc::new(AtomicBool::new(false));
        let saying = std::thread::spawn({
            let said = said.clone();
            move || {
                bevy::tasks::block_on(told.open.changed()).unwrap_err();
                // As long as a busy daemon takes.
                std::thread::sleep(Duration::from_millis(100));
                said.store(true, Ordering::SeqCst);
                drop(told);
            }
        });
        drop(app);
        assert!(said.load(Ordering::SeqCst));
        saying.join().unwrap();
    }

    #[test]
    fn a_goodbye_that_was_begun_before_the_app_ends_is_waited_for_but_not_forever() {
        let (mut app, session, _, told) = hosted();
        app.world_mut().despawn(session);
        let begun = Instant::now();
        drop(app);
        let waited = begun.elapsed();
        assert!((Duration::from_millis(400)..Duration::from_secs(2)).contains(&waited), "{waited:?}");
        drop(told);
    }
}
