//! What a developer may set for a host as for a client.

use bytes::Bytes;

use super::network::Network;
use crate::{
    connection::ConnectionConfig,
    net::{
        DirectConfig, IceServer, NetworkConditions, PathPolicy, Relay,
        contract::{Password, SessionOptions},
    },
    protocol::GameId,
};

/// The settings of one session. For what is not set, the plugin's count.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub relay: Option<Relay>,
    pub password: Option<Password>,
    pub metadata: Bytes,
    pub connection: Option<ConnectionConfig>,
    pub paths: Option<PathPolicy>,
    pub ice_servers: Option<Vec<IceServer>>,
    pub conditions: Option<NetworkConditions>,
}

impl Settings {
    /// Where to listen, or to look for a bare code.
    pub fn relay<'a>(&'a self, network: &'a Network) -> &'a Relay {
        self.relay.as_ref().unwrap_or(&network.relay)
    }

    /// Timeouts and limits.
    pub fn connection<'a>(&'a self, network: &'a Network) -> &'a ConnectionConfig {
        self.connection.as_ref().unwrap_or(&network.connection)
    }

    /// All that a session of this game is started with.
    pub fn options(&self, network: &Network, game: GameId) -> SessionOptions {
        SessionOptions {
            relay: self.relay(network).clone(),
            password: self.password.clone(),
            game,
            metadata: self.metadata.clone(),
            connection: self.connection(network).clone(),
            paths: self.paths.unwrap_or(network.paths),
            direct: match &self.ice_servers {
                Some(servers) => DirectConfig { ice_servers: servers.clone(), ..network.direct.clone() },
                None => network.direct.clone(),
            },
            conditions: self.conditions.unwrap_or(network.conditions),
        }
    }
}
