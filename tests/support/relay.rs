//! A relay to start and kill.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bevy_uhst::{
    Relay,
    relay::{RelayConfig, RelayServer},
};

/// Our relay, apart from any host, so that it can die and come back.
pub struct StandaloneRelay {
    runtime: tokio::runtime::Runtime,
    relay: Option<RelayServer>,
    address: String,
}

impl StandaloneRelay {
    /// On a free port, with a secret of its own.
    pub fn start() -> Self {
        Self::start_with(RelayConfig::default())
    }

    /// On a free port, by these settings.
    pub fn start_with(config: RelayConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut relay =
            StandaloneRelay { runtime, relay: None, address: SocketAddr::from(([127, 0, 0, 1], 0)).to_string() };
        relay.restart(config);
        relay
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// For sessions.
    pub fn relay(&self) -> Relay {
        Relay::Url(format!("http://{}/", self.address))
    }

    /// How many tasks serve it now.
    pub fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Dies, as a process does.
    pub fn kill(&mut self) {
        self.relay = None;
    }

    /// Makes room for another one, in the background.
    pub fn drain(&mut self, within: Duration) {
        if let Some(relay) = self.relay.take() {
            self.runtime.spawn(relay.drain(within));
        }
    }

    /// Comes back on the same port.
    pub fn restart(&mut self, config: RelayConfig) {
        self.kill();
        let config = RelayConfig { bind: self.address.parse().unwrap(), port_attempts: 1, ..config };
        let since = Instant::now();
        let relay = loop {
            match self.runtime.block_on(RelayServer::start(config.clone())) {
                Ok(relay) => break relay,
                // What the one before it held is closed in the background, and tells nobody when it is.
                Err(error) if since.elapsed() > Duration::from_secs(5) => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.address = relay.local_addr().to_string();
        self.relay = Some(relay);
    }
}
