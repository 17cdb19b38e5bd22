//! What can be set about a relay, and why it may not start.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use url::Url;

use crate::protocol::WebFile;

/// How to run a [`Relay`](super::Relay). The default suits a game that embeds one: every IPv4 interface, port 3000 or
/// the next free one of sixteen, a random secret, no rate limit.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where to listen. Port 0 takes any free one.
    pub bind: SocketAddr,
    /// How many ports to try, counting up from the wanted one, while they are in use. 0 is as good as 1.
    pub port_attempts: u16,
    /// Signs the tokens. `None`, or an empty text, takes random bytes: then all tokens end with this relay.
    pub secret: Option<String>,
    /// How long a host id is kept for its host after its stream dropped, while clients still listen. Zero frees it at
    /// once, as the original relay does.
    pub hold: Duration,
    /// The interval of comments on every stream: 5 s in the original.
    pub keep_alive: Duration,
    /// How long the answer to a message waits for room in the queue of a listener, before that is dropped.
    pub patience: Duration,
    /// How long a graceful shutdown waits for connections.
    pub shutdown_timeout: Duration,
    /// Bounds for what others can make this relay do.
    pub limits: RelayLimits,
    /// Serves HTTPS instead of HTTP.
    pub tls: Option<TlsFiles>,
    /// Files for browsers. They change nothing for peers: a request with a token or an action is never one for a file.
    pub web_files: Vec<WebFile>,
    /// For a public relay: the list in which it looks up the prefix of the ids it generates.
    pub directory: Option<Url>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        RelayConfig {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3000)),
            port_attempts: 16,
            secret: None,
            hold: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(5),
            limits: RelayLimits::default(),
            tls: None,
            web_files: Vec::new(),
            directory: None,
        }
    }
}

/// Bounds for what others can make a relay do. What is above them is refused with the status named.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// The largest message body in bytes, decompressed: 413. The original's is 102,400.
    pub body_bytes: usize,
    /// What may wait for one listener, in bytes. A listener whose queue stays full is dropped.
    pub queue_bytes: u32,
    /// Host ids in use at once: 503.
    pub hosts: usize,
    /// Clients that listen under one host id: 503.
    pub clients_per_host: usize,
    /// Open streams in all: 503.
    pub listeners: usize,
    /// Open connections. More are closed at once.
    pub connections: usize,
    /// Requests a second from one address (an IPv6 network of 64 bits counts as one), with bursts of as many: 429.
    /// `None` for no limit, which a relay on a LAN wants: a busy host sends thousands.
    pub requests_per_second: Option<NonZeroU32>,
}

impl Default for RelayLimits {
    fn default() -> Self {
        RelayLimits {
            body_bytes: 102_400,
            queue_bytes: 1 << 20,
            hosts: 10_000,
            clients_per_host: 10_000,
            listeners: 20_000,
            connections: 40_000,
            requests_per_second: None,
        }
    }
}

/// PEM files for HTTPS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// Another program has the port, and, if more than one was allowed, all that follow.
    #[error("{addr} is in use by another program: stop it, or choose another port")]
    PortInUse {
        /// The first address that was tried.
        addr: SocketAddr,
    },
    /// The address is not one to listen on.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or the key does not work.
    #[error("cannot use the TLS file {}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no random bytes for a secret.
    #[error("no random bytes for a secret ({0}): set one")]
    Random(String),
}
