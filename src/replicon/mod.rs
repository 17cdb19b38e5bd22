//! Replication by [`bevy_replicon`]: our host is its server, our clients are its clients.
//!
//! Add [`RepliconUhstPlugins`] beside [`UhstPlugin`](crate::UhstPlugin) and replicon's own `RepliconPlugins`, and start
//! sessions as ever: by spawning [`UhstHost`](crate::UhstHost) or [`UhstClient`](crate::UhstClient).
//!
//! ```
//! use bevy::{prelude::*, state::app::StatesPlugin};
//! use bevy_replicon::prelude::*;
//! use bevy_uhst::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Component, Serialize, Deserialize)]
//! struct Position(Vec2);
//!
//! let mut app = App::new();
//! app.add_plugins((MinimalPlugins, StatesPlugin, UhstPlugin::default(), RepliconPlugins, RepliconUhstPlugins))
//!     .replicate::<Position>();
//! ```
//!
//! # Who is who
//!
//! | replicon | here |
//! |---|---|
//! | `ServerState::Running` | the [`UhstHost`](crate::UhstHost) [listens](crate::UhstHost::is_ready) |
//! | `ClientState::Connecting`, `Connected` | the [`UhstClient`](crate::UhstClient) is [on its way](crate::UhstClient::is_joining), [connected](crate::UhstClient::is_connected) |
//! | an entity with `ConnectedClient` | the entity with [`UhstPeer`](crate::UhstPeer) |
//! | `Channel::Unreliable`, `Unordered`, `Ordered` | [`Unreliable`], [`ReliableUnordered`], [`Reliable`], with what they promise across changes of path |
//! | `DisconnectRequest` | a [kick](crate::UhstPeer::kick), after everything that was sent before, also by the next tick |
//!
//! The host plays too: it is a listen server, on which replicon hands the host's own messages and events to the host.
//!
//! Beside `ConnectedClient`, a client's entity has
//!
//! * `ConnectedClientStats`, renewed every second, with the round-trip time as soon as it changes. Loss is the share of
//!   what was sent again, or dropped before it was sent. On a client, the same numbers are in `ClientStats`.
//! * `NetworkId`, a random number that host and client know the connection by. It stays for the life of the connection:
//!   across changes of path, and when the connection is resumed after both paths were lost. A player who leaves and
//!   joins again has another one. On a client it is on the host's entity, and tells the client which of the replicated
//!   players is its own.
//!
//! Messages and typed messages of the game go on beside replication, over the same connection.
//!
//! # What to know
//!
//! * Peers of the original UHST protocol cannot take part: they get no `ConnectedClient`. Neither does the host's own
//!   player that joined by [`LocalClientOf`](crate::LocalClientOf): replicon reaches it without.
//! * Replicon knows one session at a time. Where an app has several, it is the one that was started first, as long as it
//!   runs; then the next, unless that is a host which already has peers. Sessions with [`WithoutReplication`] are never
//!   chosen. A message for replicon in another session is dropped, and reported once.
//! * A client that is so slow that its queue is full of reliable messages is disconnected, with words that say so:
//!   replication cannot go on with a gap.
//!
//! [`Unreliable`]: crate::UhstChannel::Unreliable
//! [`ReliableUnordered`]: crate::UhstChannel::ReliableUnordered
//! [`Reliable`]: crate::UhstChannel::Reliable

mod channels;
mod client;
mod inbox;
mod server;
mod session;
mod stats;

use bevy::{app::PluginGroupBuilder, prelude::*};

pub use client::RepliconUhstClientPlugin;
pub use server::RepliconUhstServerPlugin;
pub use session::WithoutReplication;

/// Lets replicon use this app's sessions: [`RepliconUhstServerPlugin`] and [`RepliconUhstClientPlugin`].
///
/// It needs [`UhstPlugin`](crate::UhstPlugin) and `RepliconPlugins`, in any order.
#[derive(Debug)]
pub struct RepliconUhstPlugins;

impl PluginGroup for RepliconUhstPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>().add(RepliconUhstServerPlugin).add(RepliconUhstClientPlugin)
    }
}
