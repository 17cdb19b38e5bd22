//! Multiplayer for [Bevy](https://bevy.org) without a game server: one player hosts, the others join by a short code.
//!
//! ```no_run
//! use bevy::prelude::*;
//! use bevy_uhst::prelude::*;
//!
//! fn main() {
//!     App::new()
//!         .add_plugins((DefaultPlugins, UhstPlugin::default()))
//!         .add_systems(Startup, |mut commands: Commands| {
//!             commands.spawn(UhstHost::new("my-game")); // the others: UhstClient::join("my-game")
//!         })
//!         .add_systems(Update, echo)
//!         .run();
//! }
//!
//! fn echo(mut messages: MessageReader<UhstMessage>, host: Single<&UhstHost>) -> Result {
//!     for message in messages.read() {
//!         host.broadcast(message.payload.clone())?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Sessions
//!
//! A session is an entity. Spawn [`UhstHost`] or [`UhstClient`] to start it, despawn it to leave, or call
//! [`leave`](UhstHost::leave). An app may have several. [`UhstPlugin::host`] and [`UhstPlugin::join`] start one with
//! the app.
//!
//! With the default [`Relay::Embedded`], a host needs nothing else on a LAN: other machines join by the link that
//! [`UhstReady`] brings. To be found by a bare code over the internet, name a relay that all can reach:
//!
//! ```
//! # use bevy_uhst::prelude::*;
//! let plugin = UhstPlugin::default().relay(Relay::Url("https://relay.example.com/".to_owned()));
//! ```
//!
//! Who may join is the host's decision: up to [`max_peers`](UhstHost::max_peers), with the
//! [`password`](UhstHost::password), and, with [`Admission::Ask`], as the game answers:
//!
//! ```
//! # use bevy::prelude::*;
//! # use bevy_uhst::prelude::*;
//! # let mut app = App::new();
//! app.add_observer(|request: On<UhstJoinRequest>| match &*request.metadata {
//!     b"version 2" => request.accept(),
//!     _ => request.refuse("this host plays version 2"),
//! });
//! ```
//!
//! # Peers
//!
//! A connected peer is an entity, too, with [`UhstPeer`], [`PeerOf`] its session. On a client, the one peer is the
//! host. Put your own components on it:
//!
//! ```
//! # use bevy::prelude::*;
//! # use bevy_uhst::prelude::*;
//! # #[derive(Component, Default)]
//! # struct Score(u32);
//! # let mut app = App::new();
//! app.add_observer(|connected: On<UhstConnected>, peers: Query<&UhstPeer>, mut commands: Commands| -> Result {
//!     peers.get(connected.entity)?.send("welcome")?;
//!     commands.entity(connected.entity).insert(Score::default());
//!     Ok(())
//! });
//! ```
//!
//! # Messages
//!
//! [`UhstPeer::send`], [`UhstHost::broadcast`] and their kin take text or bytes, never wait, and need no `&mut`: any
//! number of systems can send in parallel. What has arrived is written as [`UhstMessage`] in
//! [`UhstSystems::Receive`], in `PreUpdate`, so that `Update` reads what this frame has brought.
//!
//! Each message travels under a promise, its [`Channel`](protocol::Channel), which is kept for the life of the
//! connection: when it moves between the relay and a direct path, when requests are lost, when the relay restarts.
//!
//! | channel | promise |
//! |---|---|
//! | `Reliable` (default) | every message once, in order |
//! | `ReliableUnordered` | every message once, as it arrives |
//! | `Unreliable` | at most once, never late by resending |
//! | `UnreliableSequenced` | as above, and an older message never follows a newer one |
//!
//! # Typed messages
//!
//! Instead of bytes, a game may register types of its own with [`UhstAppExt`], each for a channel. Systems read them as
//! [`FromPeer`], which says who sent them, and send them with [`UhstSender`]:
//!
//! ```
//! use bevy::prelude::*;
//! use bevy_uhst::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Jump {
//!     height: f32,
//! }
//!
//! fn plugin(app: &mut App) {
//!     app.add_uhst_message::<Jump>(Channel::Reliable).add_systems(Update, (jump, tell_others));
//! }
//!
//! /// Of a player.
//! fn jump(keys: Res<ButtonInput<KeyCode>>, sender: UhstSender<Jump>) -> Result {
//!     if keys.just_pressed(KeyCode::Space) {
//!         sender.to_host(&Jump { height: 1.5 })?;
//!     }
//!     Ok(())
//! }
//!
//! /// Of the host.
//! fn tell_others(
//!     mut jumps: MessageReader<FromPeer<Jump>>,
//!     host: Single<Entity, With<UhstHost>>,
//!     sender: UhstSender<Jump>,
//! ) -> Result {
//!     for jump in jumps.read().filter(|jump| jump.session == *host) {
//!         sender.broadcast_except(jump.peer, jump)?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! They travel as `postcard`, a few bytes each. Those registered with
//! [`add_uhst_message_json`](UhstAppExt::add_uhst_message_json) are texts like `{"Jump":{"height":1.5}}`, which peers of
//! the original protocol and web pages can write and read, too.
//!
//! A joiner whose game has registered other messages, or calls itself another
//! [`version`](UhstPlugin::version), is refused with [`EndReason::GameMismatch`](protocol::EndReason::GameMismatch). A
//! message that cannot be read ends nothing: it is told once, as a [`UhstDiagnostic`].
//!
//! # The host plays, too
//!
//! [`UhstClient::local`] joins a host of the same app, without a network. The player at the host's machine is then a peer
//! like all others, and the systems of a client work there unchanged:
//!
//! ```
//! # use bevy::prelude::*;
//! # use bevy_uhst::prelude::*;
//! fn host_and_play(mut commands: Commands) {
//!     let host = commands.spawn(UhstHost::new("my-game")).id();
//!     commands.spawn(UhstClient::local(host));
//! }
//! ```
//!
//! Such an app reads the messages of both its sessions. Give each direction a type of its own, or tell them apart by
//! [`FromPeer::session`], as above.
//!
//! # Beginnings and ends
//!
//! Observers are told: [`UhstReady`], [`UhstConnected`], [`UhstPathChanged`], [`UhstDisconnected`], [`UhstEnded`].
//! Every session that is spawned gets exactly one [`UhstEnded`], every peer that connected exactly one
//! [`UhstDisconnected`], both with a [reason](protocol::EndReason) that a program can match and a player can read.
//! What has ended is despawned at the end of that frame.
//!
//! Systems can ask with the run conditions [`hosting`], [`joining`], [`connected`] and [`offline`].
//!
//! # Errors
//!
//! Sending fails with a [`SendError`] or a [`BroadcastError`]. Returned from a system with `?` they become warnings,
//! since a slow peer must not end the game, unless the app has set an error handler of its own. Everything that fails
//! later is the reason of an end, or a [`UhstDiagnostic`].
//!
//! # Replication
//!
//! With the feature `replicon`, [bevy_replicon](https://docs.rs/bevy_replicon) runs over these sessions: the host is its
//! server and plays too, clients are its clients. Add its plugins and ours; everything else is as replicon's own guide
//! says. Connected clients are the entities with [`UhstPeer`].
//!
#![cfg_attr(feature = "replicon", doc = "```")]
#![cfg_attr(not(feature = "replicon"), doc = "```ignore")]
//! # use bevy::{prelude::*, state::app::StatesPlugin};
//! use bevy_replicon::prelude::*;
//! use bevy_uhst::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Component, Serialize, Deserialize)]
//! struct Health(u32);
//!
//! # let mut app = App::new();
//! # app.add_plugins((MinimalPlugins, StatesPlugin));
//! app.add_plugins((UhstPlugin::default(), RepliconPlugins, RepliconUhstPlugins))
//!     .replicate::<Health>()
//!     .add_systems(OnEnter(ServerState::Running), |mut commands: Commands| {
//!         commands.spawn((Replicated, Health(100))); // every player sees it
//!     });
//! ```
//!
//! The module `replicon` says who is who, what clients carry, and what to know.
//!
//! # Sessions nearby
//!
//! A host with a [`UhstAnnounce`] tells the local network of its session, by mDNS. A [`UhstBrowser`] lists what is
//! around: each session is an entity with a [`DiscoveredSession`], which comes and goes with it.
//!
//! ```
//! # #[cfg(feature = "discovery")] {
//! # use bevy::prelude::*;
//! # use bevy_uhst::prelude::*;
//! # let mut app = App::new();
//! # let mut commands = app.world_mut().commands();
//! commands.spawn((UhstHost::any_id(), UhstAnnounce::new("my-game", "Ada's round")));
//! // On the other machines:
//! commands.spawn(UhstBrowser::new("my-game"));
//! app.add_systems(Update, |found: Query<&DiscoveredSession, Added<DiscoveredSession>>| {
//!     for session in &found {
//!         println!("{}: {} of {} players", session.name, session.players, session.limit);
//!         // To join it: commands.spawn(UhstClient::from(session.link.clone()))
//!     }
//! });
//! # }
//! ```
//!
//! Only networks that carry multicast are searched: most homes do, many offices and hotels do not.
//!
//! # Testing your game
//!
//! [`test_app`] connects apps within one process, without a socket or over real ones, and waits for what you expect.
//!
//! It can also make the network worse on purpose, for one peer, a session, or all of them:
//!
//! ```
//! # use bevy::prelude::*;
//! # use bevy_uhst::prelude::*;
//! # fn join(mut commands: Commands) {
//! commands.spawn(UhstClient::join("483920").conditions(NetworkConditions::MOBILE));
//! # }
//! ```
//!
//! # Features
//!
//! * `relay` (default): the embedded relay.
//! * `discovery` (default): sessions on the local network, [announced](UhstAnnounce) and [found](UhstBrowser).
//! * `overlay`: `UhstOverlayPlugin`, which shows the developer what the network does, over the game.
//! * `relay-cli`: the program `uhst-relay`.
//! * `replicon`: the backend for bevy_replicon.

pub mod connection;
mod ecs;
mod net;
pub mod protocol;
#[cfg(all(feature = "relay", not(target_family = "wasm")))]
pub mod relay;
#[cfg(feature = "replicon")]
pub mod replicon;

pub use ecs::*;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub use net::Discovery;
pub use net::{
    Admission, EmbeddedRelay, IceCredentials, IceServer, MemoryRelay, NetworkConditions, PathPolicy, Relay, SendError,
    Traffic,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What most games need.
pub mod prelude {
    #[cfg(feature = "overlay")]
    pub use crate::ecs::{UhstOverlay, UhstOverlayPlugin};
    #[cfg(feature = "replicon")]
    pub use crate::replicon::{RepliconUhstPlugins, WithoutReplication};
    pub use crate::{
        connection::{ConnectionConfig, Path},
        ecs::{
            BroadcastError, Encoding, FromPeer, JoinResponder, PeerOf, Peers, Rates, UhstAppExt, UhstClient,
            UhstConnected, UhstDiagnostic, UhstDisconnected, UhstEnded, UhstHost, UhstJoinRequest, UhstMessage,
            UhstPathChanged, UhstPeer, UhstPlugin, UhstReady, UhstSender, UhstSystems,
        },
        net::{
            Admission, EmbeddedRelay, IceCredentials, IceServer, MemoryRelay, NetworkConditions, PathPolicy, Relay,
            SendError, Traffic,
        },
        protocol::{Channel, EndReason, JoinLink, JoinLinkError, Payload, WebFile},
    };
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub use crate::{
        ecs::{Discovered, DiscoveredBy, DiscoveredSession, UhstAnnounce, UhstBrowser},
        net::Discovery,
    };
}
