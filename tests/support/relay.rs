//! A relay that tests start and kill.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bevy_uhst::{
    Relay,
    relay::{RelayConfig, RelayServer},
};

/// Our relay outside of a host, so that it can be killed and restarted.
pub struct StandaloneRelay {
    runtime: tokio::runtime::Runtime,
    relay: Option<RelayServer>,
    address: String,
}

impl StandaloneRelay {
    /// Starts a relay on a free port, with a random secret.
    pub fn start() -> Self {
        Self::start_with(RelayConfig::default())
    }

    /// Starts a relay on a free port with these settings.
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

    /// The relay setting of sessions.
    pub fn relay(&self) -> Relay {
        Relay::Url(format!("http://{}/", self.address))
    }

    /// The number of tasks of the relay.
    pub fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Stops the relay at once, as a killed process does.
    pub fn kill(&mut self) {
        self.relay = None;
    }

    /// Drains the relay in the background.
    pub fn drain(&mut self, within: Duration) {
        if let Some(relay) = self.relay.take() {
            self.runtime.spawn(relay.drain(within));
        }
    }

    /// Starts the relay again on the same port.
    pub fn restart(&mut self, config: RelayConfig) {
        self.kill();
        let config = RelayConfig { bind: self.address.parse().unwrap(), port_attempts: 1, ..config };
        let since = Instant::now();
        let relay = loop {
            match self.runtime.block_on(RelayServer::start(config.clone())) {
                Ok(relay) => break relay,
                // The sockets of the former relay are closed in the background, without a signal.
                Err(error) if since.elapsed() > Duration::from_secs(5) => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.address = relay.local_addr().to_string();
        self.relay = Some(relay);
    }
}
