//! What a developer may set for a host, for a client, and for all sessions of an app.

use bytes::Bytes;

use crate::{
    connection::ConnectionConfig,
    net::{
        DirectConfig, IceServer, NetworkConditions, PathPolicy, Relay,
        contract::{Password, SessionOptions},
    },
    protocol::GameId,
};

/// What a host, a client and the plugin can set alike. Unset fields of a session fall back to the plugin's.
#[derive(Clone, Debug, Default)]
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
    pub fn relay(&self, defaults: &Settings) -> Relay {
        self.relay.as_ref().or(defaults.relay.as_ref()).cloned().unwrap_or_default()
    }

    /// Timeouts and limits.
    pub fn connection(&self, defaults: &Settings) -> ConnectionConfig {
        self.connection.as_ref().or(defaults.connection.as_ref()).cloned().unwrap_or_default()
    }

    /// All that a session of this game is started with.
    pub fn options(&self, defaults: &Settings, game: GameId) -> SessionOptions {
        let mut direct = DirectConfig::default();
        if let Some(servers) = self.ice_servers.as_ref().or(defaults.ice_servers.as_ref()) {
            direct.ice_servers.clone_from(servers);
        }
        SessionOptions {
            relay: self.relay(defaults),
            password: self.password.clone(),
            game,
            metadata: self.metadata.clone(),
            connection: self.connection(defaults),
            paths: self.paths.or(defaults.paths).unwrap_or_default(),
            direct,
            conditions: self.conditions.or(defaults.conditions).unwrap_or_default(),
        }
    }
}
