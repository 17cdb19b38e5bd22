//! The face: plugin, components, messages and events.

mod admission;
mod client;
mod conditions;
mod diagnostics;
mod error;
mod host;
mod lifecycle;
mod message;
mod network;
#[cfg(feature = "overlay")]
mod overlay;
mod peer;
mod plugin;
mod rates;
mod receive;
mod session;
pub mod test_app;
mod typed;

pub use admission::{JoinResponder, UhstJoinRequest};
pub use client::UhstClient;
pub use conditions::{connected, hosting, joining, offline};
pub use diagnostics::UhstDiagnostics;
pub use error::BroadcastError;
pub use host::UhstHost;
pub use lifecycle::{UhstConnected, UhstDiagnostic, UhstDisconnected, UhstEnded, UhstPathChanged, UhstReady};
pub use message::UhstMessage;
#[cfg(feature = "overlay")]
pub use overlay::{UhstOverlay, UhstOverlayPlugin};
pub use peer::{PeerOf, Peers, UhstPeer};
pub use plugin::{UhstPlugin, UhstSystems};
pub use rates::Rates;
pub use typed::{Encoding, FromPeer, TypedMessage, UhstAppExt, UhstSender};
