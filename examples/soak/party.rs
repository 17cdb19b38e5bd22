//! The apps of the host and of the players, and the networks between them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use bevy::{platform::collections::HashMap, prelude::*};
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, record},
};
use tokio::runtime::{Builder, Runtime};

use crate::ledger::LARGEST;

/// The apps of a host or of a player.
pub struct Node {
    pub app: App,
    /// The runtime of the app. Each app has its own, so that it can be killed. `None` once it is.
    runtime: Option<Runtime>,
    /// The time until which the app is not updated.
    pub asleep_until: Instant,
}

/// The player of each peer of the host.
#[derive(Resource, Default)]
pub struct Known(pub HashMap<Entity, u32>);

impl Node {
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut app = App::new();
        // The buffers are small enough to be full now and then.
        let connection = ConnectionConfig {
            max_message: LARGEST,
            send_buffer: 2 << 20,
            receive_buffer: 2 << 20,
            // No end takes longer than the soak waits for one.
            drain_timeout: Duration::from_secs(30),
            ..ConnectionConfig::default()
        };
        let plugin = UhstPlugin::default().ice_servers([]).connection(connection).runtime(runtime.handle().clone());
        app.add_plugins((MinimalPlugins, plugin)).init_resource::<Known>().add_observer(know);
        record(&mut app);
        Node { app, runtime: Some(runtime), asleep_until: Instant::now() }
    }

    pub fn is_awake(&self) -> bool {
        Instant::now() >= self.asleep_until
    }

    /// Does nothing while it sleeps, since the patience of the soak has room for one sleep.
    pub fn sleep(&mut self, time: Duration) {
        if self.is_awake() {
            self.asleep_until = Instant::now() + time;
        }
    }

    /// Updates the app, and returns its events. Ends come last: the log has the messages of a frame after them, though a
    /// game reads them while the peers exist.
    pub fn update(&mut self) -> Vec<TestEvent> {
        self.app.update();
        let mut events = std::mem::take(&mut self.app.world_mut().resource_mut::<TestLog>().0);
        events.sort_by_key(|event| match event {
            TestEvent::Message(_) => 1,
            TestEvent::Disconnected(_) | TestEvent::Ended(_) => 2,
            _ => 0,
        });
        events
    }

    pub fn peer(&self, peer: Option<Entity>) -> Option<&UhstPeer> {
        self.app.world().get::<UhstPeer>(peer?)
    }

    pub fn tasks(&self) -> usize {
        self.runtime.as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks())
    }
}

impl Drop for Node {
    /// Ends the tasks first, so that no goodbye is sent.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

fn know(connected: On<UhstConnected>, peers: Query<&UhstPeer>, mut known: ResMut<Known>) {
    let id = peers.get(connected.entity).ok().and_then(|peer| peer.metadata().as_ref().try_into().ok());
    if let Some(id) = id {
        known.0.insert(connected.entity, u32::from_be_bytes(id));
    }
}

/// Returns whether this process has a network namespace of its own, where rules affect no other process.
pub fn is_alone() -> bool {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    devices.lines().skip(2).all(|line| line.trim_start().starts_with("lo:"))
}

/// Drops all UDP, or restores it, by a rule before the one that delivers to this machine. That one is moved back for it.
pub fn cut_udp(cut: bool) {
    for family in ["-4", "-6"] {
        if cut {
            ip(&[family, "rule", "add", "pref", "10", "lookup", "local"]);
            ip(&[family, "rule", "add", "pref", "5", "ipproto", "udp", "blackhole"]);
            ip(&[family, "rule", "del", "pref", "0"]);
        } else {
            ip(&[family, "rule", "add", "pref", "0", "lookup", "local"]);
            ip(&[family, "rule", "del", "pref", "5"]);
            ip(&[family, "rule", "del", "pref", "10"]);
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip is installed");
    assert!(status.success(), "ip {arguments:?}");
}
