//! What a developer may set for a host, for a client, and for all sessions of an app.

use bytes::Bytes;

use super::UhstIdentity;
use crate::{
    connection::{ConnectionConfig, Password},
    net::{DirectConfig, IceServer, NetworkConditions, PathPolicy, Relay, contract::SessionOptions},
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
    pub fn options(&self, defaults: &Settings, game: GameId, identity: Option<&UhstIdentity>) -> SessionOptions {
        let mut direct = DirectConfig::default();
        if let Some(servers) = self.ice_servers.as_ref().or(defaults.ice_servers.as_ref()) {
            direct.ice_servers.clone_from(servers);
        }
        SessionOptions {
            relay: self.relay(defaults),
            password: self.password.clone(),
            key: identity.map(UhstIdentity::key),
            game,
            metadata: self.metadata.clone(),
            connection: self.connection(defaults),
            paths: self.paths.or(defaults.paths).unwrap_or_default(),
            direct,
            conditions: self.conditions.or(defaults.conditions).unwrap_or_default(),
        }
    }
}

/// A method that sets a field of the [`Settings`] of a host, a client or the plugin. Each documents it in its own words.
macro_rules! setting {
    ($(#[$doc:meta])* relay) => {
        $(#[$doc])*
        #[must_use]
        pub fn relay(mut self, relay: crate::net::Relay) -> Self {
            self.settings.relay = Some(relay);
            self
        }
    };
    ($(#[$doc:meta])* password) => {
        $(#[$doc])*
        #[must_use]
        pub fn password(mut self, password: impl Into<String>) -> Self {
            self.settings.password = Some(password.into().into());
            self
        }
    };
    ($(#[$doc:meta])* metadata) => {
        $(#[$doc])*
        #[must_use]
        pub fn metadata(mut self, metadata: impl Into<bytes::Bytes>) -> Self {
            self.settings.metadata = metadata.into();
            self
        }
    };
    ($(#[$doc:meta])* connection) => {
        $(#[$doc])*
        #[must_use]
        pub fn connection(mut self, config: crate::ConnectionConfig) -> Self {
            self.settings.connection = Some(config);
            self
        }
    };
    ($(#[$doc:meta])* paths) => {
        $(#[$doc])*
        #[must_use]
        pub fn paths(mut self, paths: crate::PathPolicy) -> Self {
            self.settings.paths = Some(paths);
            self
        }
    };
    ($(#[$doc:meta])* ice_servers) => {
        $(#[$doc])*
        #[must_use]
        pub fn ice_servers(mut self, servers: impl IntoIterator<Item = crate::IceServer>) -> Self {
            self.settings.ice_servers = Some(servers.into_iter().collect());
            self
        }
    };
    ($(#[$doc:meta])* conditions) => {
        $(#[$doc])*
        #[must_use]
        pub fn conditions(mut self, conditions: crate::NetworkConditions) -> Self {
            self.settings.conditions = Some(conditions);
            self
        }
    };
}

/// The settings that mean the same for a host and for a client.
macro_rules! session_settings {
    () => {
        crate::ecs::settings::setting! {
            /// Sets timeouts and limits. Default: those of the [plugin](crate::UhstPlugin::connection).
            connection
        }

        crate::ecs::settings::setting! {
            /// Sets which paths connections may use. Default: those of the [plugin](crate::UhstPlugin::paths). A direct path
            /// needs the consent of both sides.
            paths
        }

        crate::ecs::settings::setting! {
            /// Sets the STUN and TURN servers that help to find direct paths. Default: those of the
            /// [plugin](crate::UhstPlugin::ice_servers). With an empty list, the machine offers its own addresses only.
            ice_servers
        }

        crate::ecs::settings::setting! {
            /// Degrades the session's network, to test the game. Default: as the [plugin](crate::UhstPlugin::conditions) does.
            /// [`set_conditions`](Self::set_conditions) changes it while the session runs.
            conditions
        }

        /// Degrades or restores the network of all present and future connections, to test the game. Before the session is
        /// spawned, use [`conditions`](Self::conditions).
        pub fn set_conditions(&self, conditions: crate::NetworkConditions) {
            if let Some(handle) = &self.state.handle {
                handle.set_conditions(conditions);
            }
        }
    };
}

pub(super) use {session_settings, setting};
