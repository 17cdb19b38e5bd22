//! A relay server for the protocol of the original UHST relay 2.7.0, as a library and as a program.
//!
//! A host and its clients each receive messages over an event stream and send them with POST requests. The relay passes
//! messages on and stores nothing: no accounts, no token tables, no history.
//!
//! ```no_run
//! # async fn run() -> Result<(), uhst_relay::RelayStartError> {
//! use uhst_relay::{RelayConfig, RelayServer};
//!
//! let relay = RelayServer::start(RelayConfig::default()).await?;
//! println!("join at {}", relay.urls()[0]);
//! # Ok(())
//! # }
//! ```
//!
//! # Extensions of the protocol
//!
//! - A host that adds `uhst=<version>` to its listening request is announced to joining clients as a native host.
//! - The relay reserves an id for a host whose stream was lost while clients still listen ([`RelayConfig::hold`]): only
//!   the same token may listen under it. `DELETE /?token=<hostToken>` releases the id.
//! - A peer that hosts or joins with `uhst=<version>` receives `"batch":true`. It may then send `POST
//!   /?token=…&batch=1` with a JSON array of up to 64 bodies, each of which is a message. A listener receives all of
//!   them in order, or none.
//! - A client that joins with `uhst=<version>` receives `"texts":true` once an original host has answered a client with
//!   a text. Such a host uses the relay transport and needs no offer. Broadcasts do not count, because an original host
//!   sends them over the relay in either mode.
//! - The relay delivers the messages of one sender in the order in which they arrived, on any number of connections.
//! - Queues are bounded. A message to one listener waits for room ([`RelayConfig::patience`]), which slows its sender
//!   down; a broadcast does not wait. The relay drops a listener that does not read.
//! - The relay has limits ([`RelayLimits`]), `/health` for load balancers and `/metrics` for Prometheus.
//!
//! # Differences from the original
//!
//! - The relay refuses an id or a token that is given more than once (400 or 401). The original accepts an id as an
//!   array.
//! - Error pages name the status and never contain a stack trace.
//! - A 204 has no `Content-Length: 0`, which HTTP forbids there.
//! - Idle connections are closed after 60 s instead of 5 s.

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
mod subscribers;
mod ticket;
mod tls;
mod tokens;
mod watched;
mod web_build;
mod web_files;
mod write_scheduler;
mod write_timeout;

pub use ipnet::IpNet;

pub use config::{RelayConfig, RelayLimits, RelayStartError, TlsFiles};
pub use server::RelayServer;
pub use web_build::{WebBuildError, read_web_build};
