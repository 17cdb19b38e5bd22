//! The embedded relay: a server that speaks the protocol of the original UHST relay 2.7.0.
//!
//! A host and its clients each hold an event stream from the relay and post messages to it. The relay passes messages
//! on and keeps nothing: no accounts, no tables of tokens, no history.
//!
//! ```no_run
//! # async fn run() -> Result<(), uhst_relay::RelayError> {
//! use uhst_relay::{Relay, RelayConfig};
//!
//! let relay = Relay::start(RelayConfig::default()).await?;
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

mod answer;
mod arrivals;
mod body;
mod budget;
mod callers;
mod config;
mod connection;
mod directory;
mod doors;
mod frame;
mod guesses;
#[doc(hidden)]
pub mod internals;
mod json;
mod lanes;
mod listener;
mod metrics;
mod number;
mod pace;
mod proxies;
mod query;
mod rooms;
mod server;
mod service;
mod stream;
mod tls;
mod tokens;
mod turns;
mod watched;

pub use ipnet::IpNet;

pub use config::{RelayConfig, RelayError, RelayLimits, TlsFiles};
pub use server::Relay;
