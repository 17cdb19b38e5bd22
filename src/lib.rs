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
//!             commands.spawn(UhstHost::new("my-game")); // the others: UhstClient::join("the link")
//!         })
//!         .add_systems(Update, echo)
//!         .run();
//! }
//!
//! fn echo(mut messages: MessageReader<UhstMessage>, host: Single<&UhstHost>) {
//!     for message in messages.read() {
//!         host.broadcast(message.payload.clone());
//!     }
//! }
//! ```
//!
//! The link is in [`UhstReady`], once the host listens.
//!
//! This page is the guide, to be read from top to bottom or by its parts:
//!
//! * [Your first session](#your-first-session)
//! * [Messages](#messages)
//! * [Typed messages](#typed-messages)
//! * [Who is connected](#who-is-connected)
//! * [Leaving and errors](#leaving-and-errors)
//! * [Paths and relays](#paths-and-relays)
//! * [Replication](#replication)
//! * [Testing your game](#testing-your-game)
//! * [When it does not connect](#when-it-does-not-connect)
//! * [Features](#features)
//!
#![doc = include_str!("../docs/guide/first-session.md")]
#![doc = include_str!("../docs/guide/messages.md")]
#![doc = include_str!("../docs/guide/typed-messages.md")]
#![doc = include_str!("../docs/guide/peers.md")]
#![doc = include_str!("../docs/guide/leaving-and-errors.md")]
#![doc = include_str!("../docs/guide/paths-and-relays.md")]
#![doc = include_str!("../docs/guide/browser.md")]
#![doc = include_str!("../docs/guide/replication.md")]
#![doc = include_str!("../docs/guide/testing.md")]
#![doc = include_str!("../docs/guide/troubleshooting.md")]
//!
//! # Features
//!
//! * `relay` (default): the embedded relay.
//! * `discovery` (default): sessions on the local network, [announced](UhstAnnouncement) and [found](UhstBrowser).
//! * `overlay`: `UhstOverlayPlugin`, which shows the developer what the network does, over the game.
//! * `replicon`: the backend for bevy_replicon.

mod ecs;
mod net;
#[cfg(feature = "replicon")]
pub mod replicon;

pub use ecs::*;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub use net::Discovery;
pub use net::{
    Admission, EmbeddedRelay, IceCredentials, IceServer, MemoryRelay, NetworkConditions, PageLink, PathPolicy, Relay,
    SendError, Traffic,
};
/// What protects the connection with a peer.
#[doc(inline)]
pub use uhst_proto::connection::Security as UhstSecurity;
/// The promise that a message travels under. (Its name here is one that the prelude of no other networking crate has.)
#[doc(inline)]
pub use uhst_proto::protocol::Channel as UhstChannel;
pub(crate) use uhst_proto::{connection, protocol};
#[doc(inline)]
pub use uhst_proto::{
    connection::{ConnectionConfig, Interruption, Path},
    protocol::{EndReason, JoinLink, JoinLinkError, KeyHash, Payload, PublicKey, WebFile},
};
#[cfg(all(feature = "relay", not(target_family = "wasm")))]
pub use uhst_relay as relay;
/// Crates whose types are part of this API.
pub use {bytes, bytestring, tokio, url};
pub use {bytes::Bytes, url::Url};

/// Fuzz entry points: what reads the bytes of strangers and can otherwise be reached over a socket
/// alone. No part of the API.
#[doc(hidden)]
pub mod internals {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::net::internals::*;
}

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
        ConnectionConfig, EndReason, Interruption, JoinLink, JoinLinkError, Path, Payload, UhstChannel, UhstSecurity,
        WebFile,
        ecs::{
            BroadcastReport, Encoding, FromPeer, JoinId, JoinResponder, LocalClientOf, LocalClients, NotHost, PeerOf,
            Peers, Rates, SessionConnected, SessionEnded, SessionJoining, SessionReady, SessionStarting, TypedMessage,
            UhstAppExt, UhstClient, UhstConnected, UhstDiagnostic, UhstDiagnostics, UhstDisconnected, UhstEnded,
            UhstHost, UhstIdentity, UhstInterrupted, UhstJoinAbandoned, UhstJoinRequest, UhstMessage, UhstPathChanged,
            UhstPeer, UhstPlugin, UhstReady, UhstRejoined, UhstResumed, UhstSender, UhstSession, UhstSystems,
            connected, hosting, joining, offline,
        },
        net::{
            Admission, EmbeddedRelay, IceCredentials, IceServer, MemoryRelay, NetworkConditions, PageLink, PathPolicy,
            Relay, SendError, Traffic,
        },
    };
    #[cfg(all(feature = "discovery", not(target_family = "wasm")))]
    pub use crate::{
        ecs::{Discovered, DiscoveredBy, DiscoveredSession, UhstAnnouncement, UhstBrowser},
        net::Discovery,
    };
}
