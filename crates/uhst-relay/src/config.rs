//! What can be set about a relay, and why it may not start.

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

/// How to run a [`RelayServer`](super::RelayServer). The default is a relay for everybody: every IPv4 interface, port 3000 or the
/// next free one of sixteen, a random secret, no rate limit. [`RelayConfig::for_one_game`] is what a host embeds.
#[derive(Clone)]
pub struct RelayConfig {
    /// Where to listen. Port 0 takes any free one.
    pub bind: SocketAddr,
    /// How many ports to try, counting up from the wanted one, while they are in use. 0 is as good as 1.
    pub port_attempts: u16,
    /// Signs the tokens: at least [`RelayConfig::SHORTEST_SECRET`] bytes. `None`, or an empty text, takes random bytes:
    /// then all tokens end with this relay.
    pub secret: Option<String>,
    /// How many random digits the ids have that the relay picks. 0 is as good as 1, and more than 18 as 18.
    ///
    /// With nine digits, the default, there are 10⁹ ids. An address that may guess
    /// [30 times a minute](RelayLimits::wrong_joins_per_minute) meets one given session after 32 years on average, and
    /// one of a thousand sessions after 23 days. With six digits, as the original has, these are 12 days and 33 minutes.
    pub id_digits: u32,
    /// Who may host: with a key, only those whose request for a host token has it, as `key=` in the query. `None`:
    /// everybody.
    pub host_key: Option<String>,
    /// By which names this relay may be called, besides addresses, names without a dot and names in `.local`: requests
    /// with another `Host` are refused (421). `None`: by any. A relay on a player's machine has a list, be it an empty
    /// one, since web pages can have names of their own lead to that machine (DNS rebinding).
    pub names: Option<Vec<String>>,
    /// Which web pages may send requests, as `https://game.example`, besides those of this relay: requests of others
    /// are refused (403). `None`, or a list with `*`: all. Requests that come from no web page are let in.
    pub origins: Option<Vec<String>>,
    /// Proxies whose `X-Forwarded-For` (or, without one, `Forwarded`) says who sends a request. Limits count by that
    /// address then. Have the proxy set one of the two, and remove the other.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a host id is kept for its host after its stream dropped, while clients still listen. Zero frees it at
    /// once, as the original relay does.
    pub hold: Duration,
    /// The interval of comments on every stream: 5 s in the original.
    pub keep_alive: Duration,
    /// How long a message waits for room in the queue of a listener that reads nothing, before that is dropped. For one
    /// that reads slowly it waits four times as long, and is refused then (429).
    pub patience: Duration,
    /// How long a connection stays open whose peer reads nothing of what waits for it.
    pub write_timeout: Duration,
    /// How long a graceful shutdown waits for connections.
    pub shutdown_timeout: Duration,
    /// While this relay [drains](super::RelayServer::drain): the relay that takes over. Requests to host, to join and to
    /// listen are sent there (307). Without one they are asked to come again (503). Peers of this crate follow to one
    /// with https alone; originals take their tokens along, for which it needs the same secret.
    pub moved_to: Option<Url>,
    /// Bounds for what others can make this relay do.
    pub limits: RelayLimits,
    /// Serves HTTPS instead of HTTP.
    pub tls: Option<TlsFiles>,
    /// Files for browsers. They change nothing for peers: a request with a token or an action is never one for a file.
    pub web_files: Vec<WebFile>,
    /// For a public relay: the list in which it looks up the prefix of the ids it generates.
    pub directory: Option<Url>,
    /// The URL under which a public relay is in that list. Without it, each request is answered by the name it calls
    /// the relay.
    pub public_url: Option<Url>,
}

impl RelayConfig {
    /// The shortest secret in bytes: what is shorter can be guessed by anyone who has a token.
    pub const SHORTEST_SECRET: usize = 16;

    /// For one game on a player's machine: only who knows the key may host, only its own web page and programs may
    /// join, and the limits are those of one session.
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
    /// Without what nobody may learn from a log.
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

/// Bounds for what others can make a relay do. What is above them is refused with the status named, and counted in
/// `/metrics`. What counts as one address is one of IPv4, or a network of 64 bits of IPv6.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// The largest message body in bytes, decompressed: 413. The original's is 102,400.
    pub body_bytes: usize,
    /// What may wait for one listener, in bytes. Its senders share them. A listener whose queue stays full although it
    /// could read is dropped.
    pub queue_bytes: u32,
    /// All messages that are being read or wait for a listener, in bytes: 503. One address may send half of them.
    pub memory_bytes: usize,
    /// Host ids in use at once: 503.
    pub hosts: usize,
    /// Of these, the ids whose hosts listen from one address: 503.
    pub hosts_per_address: usize,
    /// Clients that listen under one host id: 503.
    pub clients_per_host: usize,
    /// Open streams in all: 503.
    pub listeners: usize,
    /// Open streams of one address: 503.
    pub listeners_per_address: usize,
    /// Open connections. For one more, an idle one of the address that has most is closed.
    pub connections: usize,
    /// Open connections of one address. For one more, its oldest idle one is closed, or the new one, if none is idle.
    pub connections_per_address: usize,
    /// How often an address may join under an id that is none, at once and in each minute: then its joins are refused,
    /// right or wrong, until some of that has passed (429). Ids of hosts that have just left do not count. `None` for
    /// no limit.
    pub wrong_joins_per_minute: Option<NonZeroU32>,
    /// Requests a second from one address, with bursts of as many: 429. `None` for no limit, which a relay on a LAN
    /// wants: a busy host sends thousands.
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
    /// For one session in the process of a game, whose file handles and memory these are too.
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
pub enum RelayStartError {
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
    /// The secret is so short that it can be guessed.
    #[error("the secret has {length} bytes: give it at least {shortest}, such as the output of `openssl rand -hex 32`")]
    ShortSecret {
        /// How many bytes it has.
        length: usize,
        /// How many it needs.
        shortest: usize,
    },
    /// The system has no random bytes for a secret.
    #[error("no random bytes for a secret ({0}): set one")]
    Random(String),
}
