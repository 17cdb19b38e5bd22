//! Helpers to test a game with two apps or more, in one process and within milliseconds.
//!
//! ```
//! use std::time::Duration;
//!
//! use bevy_uhst::{prelude::*, test_app::{TestEvent, TestLog, TestNetwork, update_until}};
//!
//! let network = TestNetwork::memory();
//! let mut host = network.host("my-game");
//! let mut client = network.join(&host);
//! let connected = update_until(&mut [&mut host, &mut client], Duration::from_secs(10), |apps| {
//!     apps.iter().all(|app| TestLog::of(app).has(|event| matches!(event, TestEvent::Connected(_))))
//! });
//! assert!(connected);
//! ```

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use crossbeam_channel::Select;

use super::{
    UhstClient, UhstConnected, UhstDiagnostic, UhstDisconnected, UhstEnded, UhstHost, UhstInterrupted,
    UhstJoinAbandoned, UhstJoinRequest, UhstMessage, UhstPathChanged, UhstPlugin, UhstReady, UhstRejoined, UhstResumed,
    network::Network,
};
use crate::{
    net::{MemoryRelay, PathPolicy, Relay},
    protocol::JoinLink,
};

/// How long helpers wait for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait at most before apps are stepped again: a condition may depend on time.
const STEP: Duration = Duration::from_millis(2);

/// Adds a game to each app of a network.
type Game = Arc<dyn Fn(&mut App) + Send + Sync>;

/// A network of its own for one test.
#[derive(Clone)]
pub struct TestNetwork {
    relay: Relay,
    paths: PathPolicy,
    game: Option<Game>,
}

impl fmt::Debug for TestNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNetwork").field("relay", &self.relay).field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl TestNetwork {
    /// Without a socket.
    pub fn memory() -> Self {
        TestNetwork { relay: Relay::Memory(MemoryRelay::default()), paths: PathPolicy::RelayOnly, game: None }
    }

    /// Over real sockets on this machine: each host starts an embedded relay on a free port, and connections become
    /// direct ones. No other machine is contacted.
    #[cfg(feature = "relay")]
    pub fn loopback() -> Self {
        let bind = ([127, 0, 0, 1], 0).into();
        TestNetwork {
            relay: Relay::Embedded(crate::net::EmbeddedRelay { bind, port_attempts: 1, ..Default::default() }),
            paths: PathPolicy::Automatic,
            game: None,
        }
    }

    /// Sets which paths connections may use.
    pub fn paths(mut self, paths: PathPolicy) -> Self {
        self.paths = paths;
        self
    }

    /// Every app of this network is one of your game: this adds its plugins and registers its
    /// [typed messages](super::UhstAppExt), before a session starts.
    ///
    /// ```
    /// # use bevy_uhst::{prelude::*, test_app::TestNetwork};
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Jump;
    ///
    /// let network = TestNetwork::memory().game(|app| {
    ///     app.add_uhst_message::<Jump>(UhstChannel::Reliable);
    /// });
    /// let (host, client) = network.pair("my-game");
    /// ```
    pub fn game(mut self, game: impl Fn(&mut App) + Send + Sync + 'static) -> Self {
        self.game = Some(Arc::new(game));
        self
    }

    /// The relay, for sessions you spawn yourself.
    pub fn relay(&self) -> Relay {
        self.relay.clone()
    }

    /// An app without a window, with [`UhstPlugin`], a [`TestLog`], and what [`game`](Self::game) adds.
    pub fn app(&self) -> App {
        let mut app = App::new();
        let plugin = UhstPlugin::default().relay(self.relay()).paths(self.paths).ice_servers([]);
        #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
        let plugin = plugin.discovery(crate::Discovery::ThisMachine);
        app.add_plugins((MinimalPlugins, plugin));
        record(&mut app);
        if let Some(game) = &self.game {
            game(&mut app);
        }
        app
    }

    /// An app that hosts under this id, updated until it listens.
    ///
    /// # Panics
    ///
    /// If it ends instead, or is not ready within 20 seconds.
    pub fn host(&self, id: &str) -> App {
        self.host_with(UhstHost::new(id))
    }

    /// As [`host`](Self::host), with your settings.
    ///
    /// # Panics
    ///
    /// As [`host`](Self::host).
    pub fn host_with(&self, host: UhstHost) -> App {
        let mut app = self.app();
        app.world_mut().spawn(host);
        update_until(&mut [&mut app], PATIENCE, |apps| {
            TestLog::of(apps[0]).has(|event| matches!(event, TestEvent::Ready(_) | TestEvent::Ended(_)))
        });
        assert!(
            TestLog::of(&app).has(|event| matches!(event, TestEvent::Ready(_))),
            "the host does not listen: {:?}",
            TestLog::of(&app)
        );
        app
    }

    /// An app that joins the host of another one. It is not updated yet.
    ///
    /// # Panics
    ///
    /// If that app has no host that is ready.
    pub fn join(&self, host: &App) -> App {
        self.join_with(UhstClient::from(link(host)))
    }

    /// An app with a client by your settings. It is not updated yet.
    pub fn join_with(&self, client: UhstClient) -> App {
        let mut app = self.app();
        app.world_mut().spawn(client);
        app
    }

    /// A host and a client, updated until they are connected.
    ///
    /// # Panics
    ///
    /// If they are not within 20 seconds.
    pub fn pair(&self, id: &str) -> (App, App) {
        let mut host = self.host(id);
        let mut client = self.join(&host);
        let connected = update_until(&mut [&mut host, &mut client], PATIENCE, |apps| {
            apps.iter().all(|app| TestLog::of(app).has(|event| matches!(event, TestEvent::Connected(_))))
        });
        assert!(connected, "not connected; host: {:?}, client: {:?}", TestLog::of(&host), TestLog::of(&client));
        (host, client)
    }
}

/// How to join the host of an app: its first link, or its id where links lead nowhere.
///
/// # Panics
///
/// If the app has no host that is ready.
pub fn link(host: &App) -> JoinLink {
    let Some(host) = host.world().iter_entities().find_map(|entity| entity.get::<UhstHost>()) else {
        panic!("this app has no host");
    };
    match (host.links().first(), host.id()) {
        (Some(link), _) => link.clone(),
        (None, Some(id)) => JoinLink::new(None, id.to_owned()),
        (None, None) => panic!("this host is not ready"),
    }
}

/// Updates the apps in turn until a condition holds, and returns whether it held in time.
///
/// Between updates it waits for something to arrive, not by the clock.
pub fn update_until(
    apps: &mut [&mut App],
    timeout: Duration,
    mut condition: impl FnMut(&mut [&mut App]) -> bool,
) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        for app in apps.iter_mut() {
            app.update();
        }
        if condition(apps) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let queues: Vec<_> =
            apps.iter().filter_map(|app| Some(app.world().get_resource::<Network>()?.events().clone())).collect();
        let mut select = Select::new();
        for queue in &queues {
            select.recv(queue);
        }
        // Whether something arrived or not, the apps are updated.
        let _ = select.ready_timeout(left.min(STEP));
    }
}

/// Waits until something has arrived for the next update of this app, and returns whether it came in time.
pub fn wait_for_arrival(app: &App, timeout: Duration) -> bool {
    let Some(network) = app.world().get_resource::<Network>() else { return false };
    let mut select = Select::new();
    select.recv(network.events());
    select.ready_timeout(timeout).is_ok()
}

/// All events and messages of an app, in order. [`record`] adds it to an app of your own.
#[derive(Resource, Debug, Default)]
pub struct TestLog(pub Vec<TestEvent>);

impl TestLog {
    /// The log of an app.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn of(app: &App) -> &TestLog {
        app.world().resource()
    }

    /// Returns whether any event matches.
    pub fn has(&self, such: impl Fn(&TestEvent) -> bool) -> bool {
        self.count(such) > 0
    }

    /// Returns how many events match.
    pub fn count(&self, such: impl Fn(&TestEvent) -> bool) -> usize {
        self.0.iter().filter(|event| such(event)).count()
    }

    /// The messages, as text where they are.
    pub fn texts(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|event| match event {
                TestEvent::Message(message) => message.payload.as_text(),
                _ => None,
            })
            .collect()
    }
}

/// An entry of a [`TestLog`].
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the event it holds")]
pub enum TestEvent {
    Ready(UhstReady),
    JoinRequest(UhstJoinRequest),
    JoinAbandoned(UhstJoinAbandoned),
    Connected(UhstConnected),
    Rejoined(UhstRejoined),
    Message(UhstMessage),
    PathChanged(UhstPathChanged),
    Interrupted(UhstInterrupted),
    Resumed(UhstResumed),
    Diagnostic(UhstDiagnostic),
    Disconnected(UhstDisconnected),
    Ended(UhstEnded),
}

/// Adds a [`TestLog`] to an app. Messages are logged in `PreUpdate`, right after they were received.
pub fn record(app: &mut App) {
    app.init_resource::<TestLog>()
        .add_observer(|event: On<UhstReady>, mut log: ResMut<TestLog>| log.0.push(TestEvent::Ready(event.clone())))
        .add_observer(|event: On<UhstJoinRequest>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::JoinRequest(event.clone()));
        })
        .add_observer(|event: On<UhstJoinAbandoned>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::JoinAbandoned(event.clone()));
        })
        .add_observer(|event: On<UhstConnected>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::Connected(event.clone()));
        })
        .add_observer(|event: On<UhstRejoined>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::Rejoined(event.clone()));
        })
        .add_observer(|event: On<UhstPathChanged>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::PathChanged(event.clone()));
        })
        .add_observer(|event: On<UhstInterrupted>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::Interrupted(event.clone()));
        })
        .add_observer(|event: On<UhstResumed>, mut log: ResMut<TestLog>| log.0.push(TestEvent::Resumed(event.clone())))
        .add_observer(|event: On<UhstDiagnostic>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::Diagnostic(event.clone()));
        })
        .add_observer(|event: On<UhstDisconnected>, mut log: ResMut<TestLog>| {
            log.0.push(TestEvent::Disconnected(event.clone()));
        })
        .add_observer(|event: On<UhstEnded>, mut log: ResMut<TestLog>| log.0.push(TestEvent::Ended(event.clone())))
        .add_systems(
            PreUpdate,
            (|mut messages: MessageReader<UhstMessage>, mut log: ResMut<TestLog>| {
                log.0.extend(messages.read().cloned().map(TestEvent::Message));
            })
            .after(super::UhstSystems::Receive),
        );
}
