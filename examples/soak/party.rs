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
    /// Of its own, so that it can be killed; none once it is.
    runtime: Option<Runtime>,
    /// Not updated before.
    pub asleep_until: Instant,
}

/// On the host: which player each of its peers is.
#[derive(Resource, Default)]
pub struct Known(pub HashMap<Entity, u32>);

impl Node {
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut app = App::new();
        // Small enough to be full now and then.
        let connection = ConnectionConfig {
            max_message: LARGEST,
            send_buffer: 2 << 20,
            receive_buffer: 2 << 20,
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

    pub fn sleep(&mut self, time: Duration) {
        self.asleep_until = Instant::now() + time;
    }

    /// Updates it: what it was told. Ends come last: a log has a frame's messages after them, though they can be read
    /// while the peers are still there.
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
    /// Its tasks die first, so that nobody is told goodbye.
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

/// Whether this process has a network of its own, in which rules hurt nobody else.
pub fn is_alone() -> bool {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    devices.lines().skip(2).all(|line| line.trim_start().starts_with("lo:"))
}

/// Loses all UDP, or lets it through again: by a rule before the one that delivers to this very machine, which has to
/// move for that.
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
