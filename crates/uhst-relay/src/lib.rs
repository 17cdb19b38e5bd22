//! The embedded relay: a server that speaks the protocol of the original UHST relay 2.7.0.
//!
//! A host and its clients each hold an event stream from the relay and post messages to it. The relay passes messages
//! on and keeps nothing: no accounts, no tables of tokens, no history.
//!
//! ```no_run
//! # async fn run() -> Result<(), uhst_relay::RelayStartError> {
//! use uhst_relay::{RelayServer, RelayConfig};
//!
//! let relay = RelayServer::start(RelayConfig::default()).await?;
//! println!("join at {}", relay.urls()[0]);
//! # Ok(())
//! # }
//! ```
//!
//! # Beyond the original
//!
//! - A host that adds `uhst=<version>` to its listening request is announced to joiners as one of the native dialect.
//! - While clients stay, an id is held for the host whose stream dropped ([`RelayConfig::hold`]): only the same token
//!   may listen under it. `DELETE /?token=<hostToken>` gives it free.
//! - Who hosts or joins with `uhst=<version>` is told `"batch":true`: `POST /?token=…&batch=1` takes a JSON array of up to
//!   64 bodies. Each of them is a message; a listener gets all of them in their order, or none.
//! - Who joins so is told `"texts":true` once the host, an original, has answered a client by a text: then it is on the
//!   relay transport, and needs no offer. A broadcast does not count: it travels so whatever the host's transport.
//! - Messages of one sender are passed on in the order in which they arrived, on however many connections.
//! - Queues are bounded. A message to one listener waits for room ([`RelayConfig::patience`]), which slows its sender
//!   down; a broadcast does not wait. A listener that does not read is dropped.
//! - Limits ([`RelayLimits`]), `/health` for load balancers and `/metrics` for Prometheus.
//!
//! # What differs
//!
//! - An id or a token given more than once is refused (400 or 401); the original takes an id as an array.
//! - Pages of errors name the status, never a stack trace.
//! - A 204 has no `Content-Length: 0`, which HTTP forbids there.
//! - Idle connections are closed after 60 s, not 5 s.

mod admission;
mod answer;
mod arrivals;
mod body;
mod budget;
mod config;
mod connection;
mod connection_limits;
mod delivery;
mod directory;
mod event;
mod fair_queue;
#[doc(hidden)]
pub mod internals;
mod join_limiter;
mod json;
mod listener;
mod metrics;
mod number;
mod proxies;
mod query;
mod request_filter;
mod server;
mod service;
mod sessions;
mod stream;
mod tls;
mod tokens;
mod watched;
mod write_scheduler;
mod write_timeout;

pub use ipnet::IpNet;

pub use config::{RelayConfig, RelayLimits, RelayStartError, TlsFiles};
pub use server::RelayServer;
