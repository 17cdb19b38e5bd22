//! The face: plugin, components, messages and events.

mod admission;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
mod announce;
mod backend;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
mod browser;
mod cleanup;
mod client;
mod conditions;
mod deliver;
mod diagnostics;
mod dispatch;
mod error;
mod goodbye;
mod host;
mod identity;
mod lifecycle;
mod local_client;
mod message;
mod network;
#[cfg(feature = "overlay")]
mod overlay;
mod peer;
mod peer_table;
mod plugin;
mod rates;
mod receive;
mod report;
mod session;
mod settings;
#[cfg(unix)]
mod signals;
mod slow_reader;
mod state;
pub mod test_app;
mod typed;
mod unread;

pub use admission::{JoinId, JoinResponder, UhstJoinAbandoned, UhstJoinRequest};
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub use announce::UhstAnnouncement;
#[cfg(all(feature = "discovery", not(target_family = "wasm")))]
pub use browser::{Discovered, DiscoveredBy, DiscoveredSession, UhstBrowser};
pub use client::UhstClient;
pub use conditions::{connected, hosting, joining, offline};
pub use diagnostics::UhstDiagnostics;
pub use error::{BroadcastReport, NotHost};
pub use host::UhstHost;
pub use identity::UhstIdentity;
pub use lifecycle::{
    UhstConnected, UhstDiagnostic, UhstDisconnected, UhstEnded, UhstInterrupted, UhstPathChanged, UhstReady,
    UhstRejoined, UhstResumed,
};
pub use local_client::{LocalClientOf, LocalClients};
pub use message::UhstMessage;
#[cfg(feature = "overlay")]
pub use overlay::{UhstOverlay, UhstOverlayPlugin};
pub use peer::{PeerOf, Peers, UhstPeer};
pub use plugin::{UhstPlugin, UhstSystems};
pub use rates::Rates;
pub use state::{SessionConnected, SessionEnded, SessionJoining, SessionReady, SessionStarting, UhstSession};
pub use typed::{Encoding, FromPeer, TypedMessage, UhstAppExt, UhstSender};
#[cfg(feature = "replicon")]
pub(crate) use {
    backend::{Backend, BackendMessage},
    report::report_unknown_tag,
    typed::Inboxes,
};
