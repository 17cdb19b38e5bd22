//! The settings that a session starts with.

use bytes::Bytes;

#[cfg(test)]
use crate::net::memory::MemoryRelay;
use crate::{
    connection::{ConnectionConfig, Password, StaticKey},
    net::{conditions::NetworkConditions, relay_options::Relay, webrtc::DirectConfig},
    protocol::{EndReason, GameId, JoinLink, PathPolicy},
};

/// How a host decides on joiners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Admits every joiner with the right password, up to the limit.
    #[default]
    Open,
    /// The game answers each [`UhstJoinRequest`](crate::UhstJoinRequest).
    Ask,
}

/// The settings of a host.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The id to host under. Without one the relay assigns nine digits.
    pub id: Option<String>,
    /// The limit on connected peers.
    pub max_peers: usize,
    /// Whether new peers are refused.
    pub locked: bool,
    /// Whether the game decides on joiners.
    pub admission: Admission,
    /// Whether a joiner of a full session replaces the peer that is interrupted for longest.
    pub replace_interrupted: bool,
    /// The settings that hosts and clients share.
    pub session: SessionOptions,
}

#[cfg(test)]
impl HostOptions {
    /// The settings of an open host at a relay in memory.
    pub fn of_a_test(id: &str, relay: MemoryRelay) -> Self {
        HostOptions {
            id: Some(id.to_owned()),
            max_peers: 4,
            locked: false,
            admission: Admission::Open,
            replace_interrupted: false,
            session: SessionOptions::of_a_test(relay),
        }
    }
}

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The session to join.
    pub target: JoinLink,
    /// The settings that hosts and clients share.
    pub session: SessionOptions,
}

/// The settings that hosts and clients share.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The relay where a host listens, and where a client looks if its target names none.
    pub relay: Relay,
    /// The password that joiners prove to know. It is never sent.
    pub password: Option<Password>,
    /// The key by which others know this side again. Without one, the session has a fresh key.
    pub key: Option<StaticKey>,
    /// The game, which must be the same on both sides.
    pub game: GameId,
    /// The data shown to the peer: a client's with its join request, a host's when it admits.
    pub metadata: Bytes,
    /// The timeouts and limits of every connection.
    pub connection: ConnectionConfig,
    /// The paths that connections may use.
    pub paths: PathPolicy,
    /// The settings of direct paths.
    pub direct: DirectConfig,
    /// The simulated network conditions.
    pub conditions: NetworkConditions,
}

impl SessionOptions {
    /// Returns the key of this side, which stays the same for the whole session.
    ///
    /// # Errors
    ///
    /// [`EndReason::NotStarted`] if the system has no random bytes.
    pub fn key(&mut self) -> Result<StaticKey, EndReason> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let key = StaticKey::generate()
            .map_err(|error| EndReason::NotStarted(format!("the system has no random bytes: {error}")))?;
        Ok(self.key.insert(key).clone())
    }
}

#[cfg(test)]
impl SessionOptions {
    /// The default settings with a relay in memory.
    pub fn of_a_test(relay: MemoryRelay) -> Self {
        SessionOptions {
            relay: Relay::Memory(relay),
            password: None,
            key: None,
            game: GameId::default(),
            metadata: Bytes::new(),
            connection: ConnectionConfig::default(),
            paths: PathPolicy::default(),
            direct: DirectConfig::default(),
            conditions: NetworkConditions::default(),
        }
    }
}
