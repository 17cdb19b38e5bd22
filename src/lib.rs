//! Multiplayer for Bevy without a game server.

pub mod connection;
mod ecs;
mod net;
pub mod protocol;
#[cfg(all(feature = "relay", not(target_family = "wasm")))]
pub mod relay;

pub use ecs::*;
pub use net::{Admission, EmbeddedRelay, MemoryRelay, Relay, SendError, Traffic};

/// What most games need.
pub mod prelude {
    pub use crate::{
        connection::{ConnectionConfig, Path},
        ecs::{
            BroadcastError, JoinResponder, PeerOf, Peers, UhstClient, UhstConnected, UhstDiagnostic, UhstDisconnected,
            UhstEnded, UhstHost, UhstJoinRequest, UhstMessage, UhstPathChanged, UhstPeer, UhstPlugin, UhstReady,
            UhstSystems,
        },
        net::{Admission, EmbeddedRelay, MemoryRelay, Relay, SendError, Traffic},
        protocol::{Channel, EndReason, JoinLink, JoinLinkError, Payload},
    };
}
