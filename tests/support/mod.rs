//! Helpers of several tests: relays to start and kill, and short queries of a test app.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod driver;
#[cfg(feature = "relay")]
mod relay;
mod until;

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use bevy::prelude::*;
use bevy_uhst::{
    prelude::*,
    test_app::{TestEvent, TestLog, link},
};

pub use driver::{CHROMIUM, Driver};
#[cfg(feature = "relay")]
pub use relay::StandaloneRelay;
pub use until::{PATIENCE, in_time, told, until};

/// Returns the number of peers that have connected to this app so far.
pub fn connected(app: &App) -> usize {
    TestLog::of(app).count(|event| matches!(event, TestEvent::Connected(_)))
}

/// Returns the reasons why peers of this app ended, in order.
pub fn disconnected(app: &App) -> Vec<EndReason> {
    let reason = |event: &TestEvent| match event {
        TestEvent::Disconnected(event) => Some(event.reason.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(reason).collect()
}

/// Returns the reasons why sessions of this app ended, in order.
pub fn ended(app: &App) -> Vec<EndReason> {
    let reason = |event: &TestEvent| match event {
        TestEvent::Ended(event) => Some(event.reason.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(reason).collect()
}

/// Returns the diagnostics of this app, in order.
pub fn diagnostics(app: &App) -> Vec<String> {
    let text = |event: &TestEvent| match event {
        TestEvent::Diagnostic(event) => Some(event.text.clone()),
        _ => None,
    };
    TestLog::of(app).0.iter().filter_map(text).collect()
}

/// Returns the only peer of this app.
#[track_caller]
pub fn the_peer(app: &mut App) -> Entity {
    let peer = app.world_mut().query_filtered::<Entity, With<UhstPeer>>().single(app.world());
    peer.unwrap_or_else(|error| panic!("{error}; the app says: {}", told(app)))
}

/// Returns the address of the embedded relay of this app's host.
pub fn address(host: &App) -> String {
    let relay = link(host).relay.unwrap();
    format!("{}:{}", relay.host_str().unwrap(), relay.port().unwrap())
}

/// Returns the `node_modules` with these packages. Installs them into a folder of this name if they are missing.
pub fn npm_packages(folder: &str, packages: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let installed = folder.join("installed");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        std::fs::create_dir_all(&folder).unwrap();
        let install = Command::new("npm")
            .args(["install", "--no-save", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&folder)
            .args(packages)
            .status()
            .expect("npm is installed");
        assert!(install.success(), "npm could not install {wanted}");
        std::fs::write(installed, wanted).unwrap();
    }
    folder.join("node_modules")
}

/// The original relay from npm, 2.1.1.
pub struct NpmRelay {
    process: Child,
    address: String,
}

impl NpmRelay {
    /// Starts the relay on a free port. Installs it if it is missing.
    pub fn start() -> Self {
        // Another process may take the port in between.
        let mut ports =
            std::iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        ports.by_ref().take(5).find_map(Self::try_start_at).expect("uhst-server listens")
    }

    /// Starts the relay on this port. Returns `None` if it ended instead of listening.
    fn try_start_at(port: u16) -> Option<Self> {
        // Tests that run in parallel install it once.
        static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
        let installed = INSTALLED.get_or_init(|| npm_packages("uhst-server-2.1.1", &["uhst-server@2.1.1"]));
        let process = Command::new("node")
            .arg(installed.join("uhst-server/src/server.js"))
            .env("PORT", port.to_string())
            .env("HOST", "127.0.0.1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let mut relay = NpmRelay { process, address: format!("127.0.0.1:{port}") };
        let mut output = BufReader::new(relay.process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("is running") {
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
        }
        Some(relay)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Kills the relay.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the relay again on the same port, without any session.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.address.rsplit(':').next().unwrap().parse().unwrap();
        *self = Self::try_start_at(port).expect("uhst-server listens again");
    }
}

impl Drop for NpmRelay {
    fn drop(&mut self) {
        self.kill();
    }
}
