//! The configuration of a relay, and the reasons why it may fail to start.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use url::Url;

use uhst_proto::protocol::WebFile;

/// Configuration of a [`RelayServer`](super::RelayServer).
///
/// The default is an open relay: it listens on every IPv4 interface, on port 3000 or the next free one of sixteen, with
/// a random secret and no rate limit. A host embeds a relay with [`RelayConfig::for_one_game`] instead.
#[derive(Clone)]
pub struct RelayConfig {
    /// The address to listen on. Port 0 picks a free port. Default: `0.0.0.0:3000`.
    pub bind: SocketAddr,
    /// The number of ports to try, counting up from the port in [`bind`](Self::bind), while they are in use. 0 acts as
    /// 1. Default: 16.
    pub port_attempts: u16,
    /// The key that signs tokens, of at least [`RelayConfig::SHORTEST_SECRET`] bytes. `None` and an empty string mean
    /// random bytes; tokens are then invalid after a restart. Default: `None`.
    pub secret: Option<String>,
    /// The number of random digits in generated ids, from 1 to 18. Values outside that range are clamped. Default: 9.
    ///
    /// Nine digits give 10⁹ ids. An address that may guess [30 times a minute](RelayLimits::wrong_joins_per_minute)
    /// finds one given session after 32 years on average, and one of a thousand sessions after 23 days. With six
    /// digits, as in the original, this takes 12 days and 33 minutes.
    pub id_digits: u32,
    /// The key required to host. A request for a host token must contain it as `key=` in the query. `None` lets
    /// everybody host. Default: `None`.
    pub host_key: Option<String>,
    /// The host names under which this relay answers, besides addresses, names without a dot and names in `.local`.
    /// Requests with another `Host` header are refused (421). `None` allows every name. Default: `None`.
    ///
    /// Set a list, even an empty one, for a relay on a player's machine: a web page can point a name of its own at that
    /// machine (DNS rebinding).
    pub names: Option<Vec<String>>,
    /// The origins of web pages that may send requests, such as `https://game.example`, besides the relay's own pages.
    /// Requests from other pages are refused (403). `None` and a list that contains `*` allow every origin. Requests
    /// without an `Origin` header are always allowed. Default: `None`.
    pub origins: Option<Vec<String>>,
    /// Networks of trusted proxies. Their `X-Forwarded-For` header, or `Forwarded` if there is none, names the client's
    /// address, which limits then count. Configure the proxy to set one of the two and to remove the other. Default:
    /// none.
    pub trusted_proxies: Vec<IpNet>,
    /// How long an id stays reserved for a host whose stream was lost, while clients still listen. Zero releases it at
    /// once, as the original relay does. Default: 30 s.
    pub hold: Duration,
    /// The interval between keep-alive comments on every stream. Default: 5 s, as in the original.
    pub keep_alive: Duration,
    /// How long a message waits for room in the queue of a listener that reads nothing. The relay then drops the
    /// listener. If the listener reads slowly, the message waits four times as long and is then refused (429). Default:
    /// 5 s.
    pub patience: Duration,
    /// How long a connection stays open while its peer reads nothing of the data that waits for it. Default: 30 s.
    pub write_timeout: Duration,
    /// How long a graceful shutdown waits for open connections. Default: 5 s.
    pub shutdown_timeout: Duration,
    /// The relay that takes over while this one [drains](super::RelayServer::drain). Requests to host, to join and to
    /// listen are redirected there (307). `None` refuses them (503). Default: `None`.
    ///
    /// Native peers follow a redirect only to an `https` URL. Original peers keep their tokens, so the other relay
    /// needs the same secret.
    pub moved_to: Option<Url>,
    /// Limits on the resources that clients can use.
    pub limits: RelayLimits,
    /// The files for HTTPS. `None` serves plain HTTP. Default: `None`.
    pub tls: Option<TlsFiles>,
    /// Files to serve to browsers, such as a [web build](super::read_web_build). They do not affect peers: a request with a
    /// token or an action is never a request for a file. Of two files with one path, the later counts. Default: none.
    pub web_files: Vec<WebFile>,
    /// The list of public relays, in which a public relay finds the prefix for its generated ids. `None` means that
    /// this relay is not public. Default: `None`.
    pub directory: Option<Url>,
    /// The URL of this relay in the list of public relays. `None` derives it from the `Host` header of each request.
    /// Default: `None`.
    pub public_url: Option<Url>,
}

impl RelayConfig {
    /// The minimum length of a secret in bytes. Anyone who has a token can guess a shorter secret.
    pub const SHORTEST_SECRET: usize = 16;

    /// Returns the configuration for a single game on a player's machine. Only clients with the key may host, only the
    /// relay's own web page and programs may join, and the limits are [`RelayLimits::for_one_game`].
    #[must_use]
    pub fn for_one_game(host_key: String) -> Self {
        RelayConfig {
            host_key: Some(host_key),
            names: Some(Vec::new()),
            origins: Some(Vec::new()),
            limits: RelayLimits::for_one_game(),
            ..RelayConfig::default()
        }
    }
}

impl fmt::Debug for RelayConfig {
    /// Omits secrets and keys, which must not appear in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "…");
        f.debug_struct("RelayConfig")
            .field("bind", &self.bind)
            .field("port_attempts", &self.port_attempts)
            .field("secret", &hidden(&self.secret))
            .field("id_digits", &self.id_digits)
            .field("host_key", &hidden(&self.host_key))
            .field("names", &self.names)
            .field("origins", &self.origins)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("hold", &self.hold)
            .field("keep_alive", &self.keep_alive)
            .field("patience", &self.patience)
            .field("write_timeout", &self.write_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("moved_to", &self.moved_to.as_ref().map(Url::as_str))
            .field("limits", &self.limits)
            .field("tls", &self.tls)
            .field("web_files", &self.web_files.len())
            .field("directory", &self.directory.as_ref().map(Url::as_str))
            .field("public_url", &self.public_url.as_ref().map(Url::as_str))
            .finish()
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        RelayConfig {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3000)),
            port_attempts: 16,
            secret: None,
            id_digits: 9,
            host_key: None,
            names: None,
            origins: None,
            trusted_proxies: Vec::new(),
            hold: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
            moved_to: None,
            limits: RelayLimits::default(),
            tls: None,
            web_files: Vec::new(),
            directory: None,
            public_url: None,
        }
    }
}

/// Limits on the resources that clients can use.
///
/// The relay refuses what exceeds a limit with the status stated for it, and counts the refusal in `/metrics`. One
/// address is an IPv4 address or an IPv6 network of 64 bits.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// The largest message body in bytes after decompression (413). Default: 102,400, as in the original.
    pub body_bytes: usize,
    /// The most bytes in the queue of one listener, shared among its senders. The relay drops a listener that reads
    /// nothing while its queue is full. Default: 1 MiB.
    pub queue_bytes: u32,
    /// The most bytes of messages that are being read or wait for a listener (503). One address may use half of them.
    /// Default: 512 MiB.
    pub memory_bytes: usize,
    /// The most host ids in use at once (503). Default: 10,000.
    pub hosts: usize,
    /// The most host ids in use by hosts of one address (503). Default: 1,000.
    pub hosts_per_address: usize,
    /// The most clients that listen to one host (503). Default: 10,000.
    pub clients_per_host: usize,
    /// The most open streams (503). Default: 20,000.
    pub listeners: usize,
    /// The most open streams of one address (503). Default: 4,000.
    pub listeners_per_address: usize,
    /// The most open connections. To accept another one, the relay closes an idle connection of the address that has
    /// the most. Default: 40,000.
    pub connections: usize,
    /// The most open connections of one address. To accept another one, the relay closes the oldest idle connection of
    /// that address; if none is idle, it closes the new one. Default: 8,000.
    pub connections_per_address: usize,
    /// How many joins with an unknown id one address may attempt per minute, with a burst of the same size. The relay
    /// then refuses every join from that address (429) until the count decreases. Ids of hosts that left within the
    /// last two minutes do not count. `None` disables the limit. Default: 30.
    pub wrong_joins_per_minute: Option<NonZeroU32>,
    /// How many requests per second one address may send, with a burst of the same size (429). `None` disables the
    /// limit. Default: `None`, because a busy host on a LAN sends thousands.
    pub requests_per_second: Option<NonZeroU32>,
}

impl Default for RelayLimits {
    fn default() -> Self {
        RelayLimits {
            body_bytes: 102_400,
            queue_bytes: 1 << 20,
            memory_bytes: 512 << 20,
            hosts: 10_000,
            hosts_per_address: 1000,
            clients_per_host: 10_000,
            listeners: 20_000,
            listeners_per_address: 4000,
            connections: 40_000,
            connections_per_address: 8000,
            wrong_joins_per_minute: NonZeroU32::new(30),
            requests_per_second: None,
        }
    }
}

impl RelayLimits {
    /// Returns the limits for a single session in the process of a game, which shares its file handles and memory with
    /// the relay.
    #[must_use]
    pub fn for_one_game() -> Self {
        RelayLimits {
            memory_bytes: 64 << 20,
            hosts: 1,
            hosts_per_address: 1,
            clients_per_host: 250,
            listeners: 251,
            listeners_per_address: 150,
            connections: 600,
            connections_per_address: 400,
            ..RelayLimits::default()
        }
    }
}

/// Paths of the PEM files for HTTPS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// An error that prevents a relay from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayStartError {
    /// Another program uses the port, and all ports that follow if several may be tried.
    #[error("{addr} is in use by another program: stop it, or choose another port")]
    PortInUse {
        /// The first address that was tried.
        addr: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("cannot use the TLS file {}: {reason}", path.display())]
    Tls {
        /// The path of the file.
        path: PathBuf,
        /// The reason why it cannot be used.
        reason: String,
    },
    /// The content type of a file for browsers is no value of a header.
    #[error("the content type of the web file {path:?} has characters that no header may have")]
    WebFile {
        /// The path of the file in the URL.
        path: String,
    },
    /// The secret is so short that it can be guessed.
    #[error("the secret has {length} bytes: give it at least {shortest}, such as the output of `openssl rand -hex 32`")]
    ShortSecret {
        /// The length of the secret in bytes.
        length: usize,
        /// The minimum length in bytes.
        shortest: usize,
    },
    /// The operating system provides no random bytes for a secret.
    #[error("the system provides no random bytes ({0}): set a secret")]
    Random(String),
}
