//! The plugin, and when it works.

use std::time::Duration;

use bevy::{app::AppExit, prelude::*};

use super::{
    LocalClientOf, LocalClients, PeerOf, Peers, UhstClient, UhstHost, UhstIdentity, UhstMessage, UhstPeer,
    cleanup::{despawn_ended, leave_on_exit, something_has_ended},
    diagnostics, error,
    network::Network,
    receive::{has_events, receive},
    settings::{Settings, setting},
    slow_reader, state,
    typed::{Inboxes, Types},
};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use super::{announce, browser};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
use crate::net::Discovery;

/// Adds hosting and joining to an app, in a window or without.
///
/// Until the first session is spawned it starts no thread and opens no socket.
///
/// It sets the app's error handler, so that a failed send that a system returns is a warning; see
/// [`keep_error_handler`](Self::keep_error_handler).
#[derive(Clone, Debug, Default)]
pub struct UhstPlugin {
    /// The defaults of sessions.
    settings: Settings,
    version: Option<String>,
    runtime: Option<tokio::runtime::Handle>,
    signals: bool,
    exit_timeout: Option<Duration>,
    keep_error_handler: bool,
    start: Option<Start>,
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    discovery: Discovery,
}

/// The session to start with.
#[derive(Clone, Debug)]
enum Start {
    Host(String),
    Join(String),
}

/// When the plugin does its work.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UhstSystems {
    /// In `PreUpdate`: writes what has arrived as [`UhstMessage`], and triggers events.
    Receive,
    /// In `Last`: despawns what has ended, and leaves all sessions of an app that exits.
    Cleanup,
}

impl UhstPlugin {
    /// Adds the plugin and hosts under this id, as if [`UhstHost::new`] was spawned in `Startup`.
    pub fn host(id: impl Into<String>) -> Self {
        UhstPlugin { start: Some(Start::Host(id.into())), ..Self::default() }
    }

    /// Adds the plugin and joins by this code or link, as if [`UhstClient::join`] was spawned in `Startup`.
    pub fn join(code_or_link: impl Into<String>) -> Self {
        UhstPlugin { start: Some(Start::Join(code_or_link.into())), ..Self::default() }
    }

    setting! {
        /// Sets the relay of sessions that do not set one. Default: the embedded relay.
        relay
    }

    setting! {
        /// Sets the timeouts and limits of sessions that do not set them.
        connection
    }

    setting! {
        /// Sets which paths connections may use, in sessions that do not set it. Default: over the relay at first, and directly
        /// as soon as that works.
        paths
    }

    setting! {
        /// Sets the STUN and TURN servers, which find direct paths between home networks. Default: the public STUN servers of the
        /// original clients. With an empty list, only machines that can reach each other's own addresses connect directly.
        ice_servers
    }

    /// Sets on which network a [`UhstAnnouncement`](super::UhstAnnouncement) is published, and a
    /// [`UhstBrowser`](super::UhstBrowser) looks for sessions. Default: the local network.
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    #[must_use]
    pub fn discovery(mut self, discovery: Discovery) -> Self {
        self.discovery = discovery;
        self
    }

    /// Sets the version of the game's messages, such as `"3"`. A joiner with another one is refused with
    /// [`EndReason::GameMismatch`](crate::EndReason::GameMismatch), which names both. Peers of the original
    /// protocol are let in. About 48 bytes of it are shown.
    ///
    /// The names, channels and encodings of [typed messages](super::UhstAppExt) are compared without it.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    setting! {
        /// Degrades the network of sessions that do not set their own conditions, to test the game.
        conditions
    }

    /// Sets how long an app that exits may take to deliver what its sessions sent before, as long as the other sides confirm
    /// more of it. Default: 10 seconds. It waits one second at most while nothing is confirmed. The window does not respond
    /// meanwhile. What is not confirmed in time is lost, also on a [runtime](Self::runtime) that goes on. The other sides are
    /// then told that this one has left, which may take about half a second more.
    ///
    /// For a session that is left while the app runs on, [`drain_timeout`](crate::ConnectionConfig::drain_timeout) counts.
    #[must_use]
    pub fn exit_timeout(mut self, timeout: Duration) -> Self {
        self.exit_timeout = Some(timeout);
        self
    }

    /// Leaves Bevy's error handler as it is. Without this, and where the app has set no
    /// [`FallbackErrorHandler`](bevy::ecs::error::FallbackErrorHandler) of its own, a system that returns a failed send with `?` logs a
    /// warning instead of a panic.
    #[must_use]
    pub fn keep_error_handler(mut self) -> Self {
        self.keep_error_handler = true;
        self
    }

    /// Turns SIGTERM (what `docker stop` and systemd send), SIGHUP (a terminal that closes) and SIGINT (Ctrl+C) into
    /// [`AppExit`], so that a server without a window leaves its sessions. Default: off. A second signal ends the process
    /// at once.
    ///
    /// If Bevy's `TerminalCtrlCHandlerPlugin` is added, as in `DefaultPlugins`, it handles Ctrl+C instead. Does nothing on
    /// systems other than Unix.
    #[must_use]
    pub fn exit_on_signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Runs background tasks on the app's own runtime, which must have I/O and time enabled and outlive the app. Default: the
    /// plugin uses one thread, which is the fastest for all but the largest sessions. Apps of one process share such
    /// threads, once there are more apps than cores.
    ///
    /// An app that is dropped waits until its goodbyes are sent, except on the only thread of this runtime, where they are
    /// sent as soon as the thread is free.
    #[must_use]
    pub fn runtime(mut self, handle: tokio::runtime::Handle) -> Self {
        self.runtime = Some(handle);
        self
    }
}

impl Plugin for UhstPlugin {
    fn build(&self, app: &mut App) {
        let mut network = Network::new(self.settings.clone(), self.runtime.clone());
        network.exit_timeout = self.exit_timeout.unwrap_or(network.exit_timeout);
        #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
        {
            network.discovery = self.discovery;
            app.add_plugins((announce::plugin, browser::plugin));
        }
        app.world_mut().get_resource_or_init::<Types>().version = self.version.clone();
        if !app.world().contains_resource::<UhstIdentity>()
            && let Ok(identity) = UhstIdentity::generate()
        {
            // Without random bytes, a session does not start, and tells why.
            app.insert_resource(identity);
        }
        app.insert_resource(network)
            .init_resource::<Inboxes>()
            .add_message::<UhstMessage>()
            .register_type::<UhstHost>()
            .register_type::<UhstClient>()
            .register_type::<UhstPeer>()
            .register_type::<PeerOf>()
            .register_type::<Peers>()
            .register_type::<LocalClientOf>()
            .register_type::<LocalClients>()
            .add_plugins((diagnostics::plugin, state::plugin))
            .add_systems(PreUpdate, receive.run_if(has_events).in_set(UhstSystems::Receive))
            .add_systems(
                Last,
                (leave_on_exit.run_if(on_message::<AppExit>), despawn_ended.run_if(something_has_ended))
                    .chain()
                    .in_set(UhstSystems::Cleanup),
            );
        if !self.keep_error_handler {
            // Later than this, so that the app can set a handler of its own first.
            app.add_systems(PreStartup, error::handle_send_errors);
        }
        slow_reader::watch_readers::<UhstMessage>(app, UhstSystems::Receive);
        match self.start.clone() {
            None => {}
            Some(Start::Host(id)) => {
                app.add_systems(Startup, move |mut commands: Commands| {
                    commands.spawn(UhstHost::new(id.clone()));
                });
            }
            Some(Start::Join(target)) => {
                app.add_systems(Startup, move |mut commands: Commands| {
                    commands.spawn(UhstClient::join(target.clone()));
                });
            }
        }
    }

    fn finish(&self, _app: &mut App) {
        if self.signals {
            #[cfg(unix)]
            super::signals::exit_on_signals(_app);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use bevy::ecs::reflect::{AppTypeRegistry, ReflectComponent};

    use super::*;
    use crate::ecs::network::fake::{app, connect, started};

    #[test]
    fn a_session_may_come_from_a_scene() {
        let mut app = app();
        let registry = app.world().resource::<AppTypeRegistry>().clone();
        let reflect = registry.read().get_type_data::<ReflectComponent>(TypeId::of::<UhstHost>()).unwrap().clone();
        let mut entity = app.world_mut().spawn_empty();
        reflect.insert(&mut entity, &UhstHost::new("scene").max_peers(3), &registry.read());
        let host = entity.get::<UhstHost>().unwrap();
        assert_eq!((host.is_running(), host.get_max_peers()), (true, 3));
        assert_eq!(entity.get::<Name>().unwrap().as_str(), "host scene");
        started(&app);
    }

    #[test]
    fn a_copy_of_a_peer_or_a_session_has_no_connection() {
        let mut app = app();
        let session = app.world_mut().spawn(UhstHost::any_id()).id();
        let key = started(&app).key;
        let (peer, _commands) = connect(&mut app, key, 1);
        let copy = app.world_mut().entity_mut(peer).clone_and_spawn();
        assert!(!app.world().entity(copy).contains::<UhstPeer>());
        let copy = app.world_mut().entity_mut(session).clone_and_spawn();
        assert!(!app.world().entity(copy).contains::<UhstHost>());
    }

    #[test]
    fn the_shortest_way_in_starts_at_startup() {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, UhstPlugin::join("http://no.session.here/")));
        crate::test_app::record(&mut app);
        app.update();
        assert!(crate::test_app::TestLog::of(&app).has(|event| matches!(event, crate::test_app::TestEvent::Ended(_))));
    }
}
