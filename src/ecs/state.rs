//! The state of a session, as components that systems can query.

use bevy::{
    ecs::{lifecycle::HookContext, world::DeferredWorld},
    prelude::*,
};

/// The state of a session: on the entity of each [`UhstHost`](super::UhstHost) and [`UhstClient`](super::UhstClient)
/// from the start of the session on.
///
/// Beside it, the entity has the marker component of the same state, for use in filters:
///
/// | state | marker | of a |
/// |---|---|---|
/// | [`Starting`](Self::Starting) | [`SessionStarting`] | host |
/// | [`Ready`](Self::Ready) | [`SessionReady`] | host |
/// | [`Joining`](Self::Joining) | [`SessionJoining`] | client |
/// | [`Connected`](Self::Connected) | [`SessionConnected`] | client |
/// | [`Ended`](Self::Ended) | [`SessionEnded`] | host or client |
///
/// Both change right before the event of the same name is triggered, so that its observers see the new state. The plugin
/// alone changes them; they are removed with the `UhstHost` or `UhstClient`.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// /// Runs while exactly one client of this app is connected.
/// fn steer(client: Single<&UhstClient, With<SessionConnected>>) -> Result {
///     client.send("left")?;
///     Ok(())
/// }
///
/// fn show_code(ready: Query<&UhstHost, Added<SessionReady>>) {
///     for host in &ready {
///         info!("join with {}", host.id().unwrap_or_default());
///     }
/// }
///
/// fn show_state(sessions: Query<&UhstSession, Changed<UhstSession>>) {
///     for session in &sessions {
///         info!("the session is {session:?}");
///     }
/// }
/// # bevy::ecs::system::assert_is_system::<(), (), _>(steer);
/// # bevy::ecs::system::assert_is_system(show_code);
/// # bevy::ecs::system::assert_is_system(show_state);
/// ```
#[derive(Component, Reflect, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[component(immutable, on_insert = mark, on_remove = unmark, clone_behavior = Ignore)]
#[reflect(Component, Debug, PartialEq, Hash)]
#[non_exhaustive]
pub enum UhstSession {
    /// A host is about to listen.
    Starting,
    /// A host listens: [`UhstReady`](super::UhstReady).
    Ready,
    /// A client is on its way to its host.
    Joining,
    /// A client is connected to its host: [`UhstConnected`](super::UhstConnected).
    Connected,
    /// The session is over: [`UhstEnded`](super::UhstEnded). The entity is despawned at the end of this frame, unless a
    /// new session is inserted on it.
    Ended,
}

/// Marks a host that is about to listen: [`UhstSession::Starting`].
#[derive(Component, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, Default, PartialEq)]
pub struct SessionStarting;

/// Marks a host that listens: [`UhstSession::Ready`].
#[derive(Component, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, Default, PartialEq)]
pub struct SessionReady;

/// Marks a client on its way to its host: [`UhstSession::Joining`].
#[derive(Component, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, Default, PartialEq)]
pub struct SessionJoining;

/// Marks a client that is connected to its host: [`UhstSession::Connected`].
#[derive(Component, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, Default, PartialEq)]
pub struct SessionConnected;

/// Marks a session that is over, until its entity is despawned at the end of the frame: [`UhstSession::Ended`].
#[derive(Component, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Debug, Default, PartialEq)]
pub struct SessionEnded;

type Markers = (SessionStarting, SessionReady, SessionJoining, SessionConnected, SessionEnded);

pub(super) fn plugin(app: &mut App) {
    app.register_type::<UhstSession>()
        .register_type::<SessionStarting>()
        .register_type::<SessionReady>()
        .register_type::<SessionJoining>()
        .register_type::<SessionConnected>()
        .register_type::<SessionEnded>();
}

fn mark(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    let Some(state) = world.get::<UhstSession>(entity).copied() else { return };
    let mut commands = world.commands();
    let mut entity = commands.entity(entity);
    entity.try_remove::<Markers>();
    match state {
        UhstSession::Starting => entity.try_insert(SessionStarting),
        UhstSession::Ready => entity.try_insert(SessionReady),
        UhstSession::Joining => entity.try_insert(SessionJoining),
        UhstSession::Connected => entity.try_insert(SessionConnected),
        UhstSession::Ended => entity.try_insert(SessionEnded),
    };
}

fn unmark(mut world: DeferredWorld, HookContext { entity, .. }: HookContext) {
    world.commands().entity(entity).try_remove::<Markers>();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        UhstClient, UhstConnected, UhstDisconnected, UhstEnded, UhstHost, UhstReady,
        ecs::{
            conditions::{connected, hosting, joining, offline},
            network::fake::{app, connect, push, push_ready, started},
        },
        net::contract::EventKind,
        protocol::EndReason,
    };

    /// The state and the only marker beside it.
    fn state(world: &World, entity: Entity) -> Option<UhstSession> {
        let entity = world.get_entity(entity).ok()?;
        let state = entity.get::<UhstSession>().copied();
        let markers = [
            entity.contains::<SessionStarting>().then_some(UhstSession::Starting),
            entity.contains::<SessionReady>().then_some(UhstSession::Ready),
            entity.contains::<SessionJoining>().then_some(UhstSession::Joining),
            entity.contains::<SessionConnected>().then_some(UhstSession::Connected),
            entity.contains::<SessionEnded>().then_some(UhstSession::Ended),
        ];
        assert_eq!(markers.into_iter().flatten().collect::<Vec<_>>(), Vec::from_iter(state));
        state
    }

    /// Which of the run conditions hold, in the order of their names.
    fn conditions(app: &mut App) -> [bool; 4] {
        let world = app.world_mut();
        [
            world.run_system_cached(connected).unwrap(),
            world.run_system_cached(hosting).unwrap(),
            world.run_system_cached(joining).unwrap(),
            world.run_system_cached(offline).unwrap(),
        ]
    }

    /// What the systems of an app saw by filters, and the states that observers saw.
    #[derive(Resource, Default, Debug, PartialEq)]
    struct Seen {
        added_ready: usize,
        added_connected: usize,
        changed: Vec<UhstSession>,
        ended: usize,
        observed: Vec<(&'static str, Option<UhstSession>)>,
    }

    fn watched() -> App {
        let mut app = app();
        app.init_resource::<Seen>()
            .add_systems(
                Update,
                |ready: Query<&UhstHost, Added<SessionReady>>,
                 connected: Query<&UhstClient, Added<SessionConnected>>,
                 changed: Query<&UhstSession, Changed<UhstSession>>,
                 ended: Query<(), With<SessionEnded>>,
                 mut seen: ResMut<Seen>| {
                    seen.added_ready += ready.iter().count();
                    seen.added_connected += connected.iter().count();
                    seen.changed.extend(&changed);
                    seen.ended += ended.iter().len();
                },
            )
            .add_observer(|event: On<UhstReady>, states: Query<&UhstSession>, mut seen: ResMut<Seen>| {
                seen.observed.push(("ready", states.get(event.entity).ok().copied()));
            })
            .add_observer(|event: On<UhstConnected>, states: Query<&UhstSession>, mut seen: ResMut<Seen>| {
                seen.observed.push(("connected", states.get(event.session).ok().copied()));
            })
            .add_observer(|event: On<UhstDisconnected>, states: Query<&UhstSession>, mut seen: ResMut<Seen>| {
                seen.observed.push(("disconnected", states.get(event.session).ok().copied()));
            })
            .add_observer(|event: On<UhstEnded>, states: Query<&UhstSession>, mut seen: ResMut<Seen>| {
                seen.observed.push(("ended", states.get(event.entity).ok().copied()));
            });
        app
    }

    #[test]
    fn systems_find_a_client_by_its_state() {
        use UhstSession::{Connected, Ended, Joining};
        let mut app = watched();
        assert_eq!(conditions(&mut app), [false, false, false, true]);
        let session = app.world_mut().spawn(UhstClient::join("1")).id();
        assert_eq!(state(app.world(), session), Some(Joining));
        assert_eq!(conditions(&mut app), [false, false, true, false]);
        let key = started(&app).key;
        push_ready(&app, key);
        app.update();
        assert_eq!(state(app.world(), session), Some(Joining), "it has found its host, which has yet to admit it");
        connect(&mut app, key, 1);
        assert_eq!(state(app.world(), session), Some(Connected));
        assert_eq!(conditions(&mut app), [true, false, false, false]);
        push(&app, key, EventKind::Ended { reason: EndReason::TimedOut });
        app.update();
        assert_eq!(state(app.world(), session), None);
        assert_eq!(conditions(&mut app), [false, false, false, true]);
        let observed = [("ready", Joining), ("connected", Connected), ("disconnected", Ended), ("ended", Ended)];
        let expected = Seen {
            added_connected: 1,
            changed: vec![Joining, Connected, Ended],
            ended: 1,
            observed: observed.map(|(event, state)| (event, Some(state))).to_vec(),
            ..default()
        };
        assert_eq!(*app.world().resource::<Seen>(), expected);
    }

    #[test]
    fn systems_find_a_host_by_its_state() {
        use UhstSession::{Ended, Ready, Starting};
        let mut app = watched();
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        assert_eq!(state(app.world(), session), Some(Starting));
        assert_eq!(conditions(&mut app), [false; 4]);
        let key = started(&app).key;
        app.update();
        push_ready(&app, key);
        connect(&mut app, key, 1);
        assert_eq!(state(app.world(), session), Some(Ready));
        assert_eq!(conditions(&mut app), [false, true, false, false]);
        push(&app, key, EventKind::Ended { reason: EndReason::TimedOut });
        app.update();
        assert_eq!(conditions(&mut app), [false, false, false, true]);
        let observed = [("ready", Ready), ("connected", Ready), ("disconnected", Ended), ("ended", Ended)];
        let expected = Seen {
            added_ready: 1,
            changed: vec![Starting, Ready, Ended],
            ended: 1,
            observed: observed.map(|(event, state)| (event, Some(state))).to_vec(),
            ..default()
        };
        assert_eq!(*app.world().resource::<Seen>(), expected);
    }

    #[test]
    fn the_state_goes_with_the_session() {
        let mut app = app();
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        push_ready(&app, started(&app).key);
        app.update();
        app.world_mut().entity_mut(session).remove::<UhstHost>();
        assert_eq!(state(app.world(), session), None);
        assert_eq!(conditions(&mut app), [false, false, false, true]);

        app.world_mut().entity_mut(session).insert(UhstHost::any_id());
        push_ready(&app, started(&app).key);
        app.update();
        app.world_mut().entity_mut(session).insert(UhstClient::join("1"));
        assert_eq!(state(app.world(), session), Some(UhstSession::Joining));
        app.world_mut().entity_mut(session).insert(UhstClient::join("2"));
        assert_eq!(state(app.world(), session), Some(UhstSession::Joining));
        app.world_mut().entity_mut(session).insert(UhstHost::any_id());
        assert_eq!(state(app.world(), session), Some(UhstSession::Starting));
    }

    #[test]
    fn a_session_that_an_observer_starts_again_is_not_marked_as_ended() {
        let mut app = app();
        let session = app.world_mut().spawn(UhstClient::join("1")).id();
        app.add_observer(|end: On<UhstEnded>, mut commands: Commands| {
            commands.entity(end.entity).insert(UhstHost::any_id());
        });
        push(&app, started(&app).key, EventKind::Ended { reason: EndReason::NoSuchHost });
        app.update();
        assert_eq!(state(app.world(), session), Some(UhstSession::Starting));
        app.update();
        assert_eq!(state(app.world(), session), Some(UhstSession::Starting));
    }

    #[test]
    fn a_client_without_its_host_is_over() {
        let mut app = watched();
        let session = app.world_mut().spawn(UhstClient::join("1")).id();
        let key = started(&app).key;
        let (host, _commands) = connect(&mut app, key, 1);
        app.world_mut().despawn(host);
        assert_eq!(state(app.world(), session), Some(UhstSession::Ended));
        let client = app.world().get::<UhstClient>(session).unwrap();
        assert!(!client.is_running() && !client.is_joining());
        assert_eq!(app.world().resource::<Seen>().observed.last().map(|(event, _)| *event), Some("ended"));
        app.update();
        assert!(app.world().get_entity(session).is_err());
    }

    #[test]
    fn a_copy_of_a_session_has_no_state() {
        let mut app = app();
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        let copy = app.world_mut().entity_mut(session).clone_and_spawn();
        assert_eq!(state(app.world(), copy), None);
    }

    #[test]
    fn a_host_changes_only_when_something_of_it_does() {
        type ChangedHost = Or<(Changed<UhstHost>, Changed<UhstSession>)>;
        #[derive(Resource, Default)]
        struct Changes(usize);
        let mut app = app();
        app.init_resource::<Changes>().add_systems(
            Update,
            |hosts: Query<(), ChangedHost>, mut changes: ResMut<Changes>| {
                changes.0 += hosts.iter().count();
            },
        );
        let changes = |app: &mut App| {
            app.update();
            std::mem::take(&mut app.world_mut().resource_mut::<Changes>().0)
        };
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        let key = started(&app).key;
        assert_eq!(changes(&mut app), 1, "it was inserted");
        push_ready(&app, key);
        assert_eq!(changes(&mut app), 1, "it is ready");
        connect(&mut app, key, 1);
        app.world_mut().resource_mut::<Changes>().0 = 0;
        let links = EventKind::Links(Vec::new());
        push(&app, key, links);
        let (handle, _commands) = crate::net::contract::PeerHandle::new(crate::ecs::network::fake::LIMITS);
        let peer = crate::net::contract::PeerKey(1);
        push(&app, key, EventKind::Connected { peer, handle, metadata: bytes::Bytes::new() });
        push(&app, key, EventKind::PathChanged { peer, path: crate::connection::Path::Direct });
        crate::ecs::network::fake::push_texts(&app, key, 1, &["a message"]);
        assert_eq!([changes(&mut app), changes(&mut app)], [0, 0], "the same links, the same peer by another handle");
        push(&app, key, EventKind::Disconnected { peer, reason: EndReason::Left });
        // The end waits until systems in `FixedUpdate` could read the message.
        while app.world().get::<UhstHost>(session).unwrap().peer_count() > 0 {
            app.update();
        }
        assert_eq!(app.world().resource::<Changes>().0, 1, "one peer less");
    }
}
