//! Which relay a session uses.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
};

use super::memory::MemoryRelay;
use crate::protocol::WebFile;

/// Where a host listens, and where a client looks for an id that names no relay. Its `Debug` hides the query of a URL, in
/// which may be the key to host.
#[derive(Clone)]
#[non_exhaustive]
pub enum Relay {
    /// A host starts a relay of its own, in this process: on a LAN nothing else is needed. A client looks for a bare
    /// code on this machine, at every port that such a relay may have; from other machines, join by the link that the
    /// host shows. A second host of this machine that wants the same id ends with
    /// [`EndReason::HostIdInUse`](crate::prelude::EndReason::HostIdInUse).
    Embedded(EmbeddedRelay),
    /// A relay by its URL, such as `https://relay.example.com/`.
    Url(String),
    /// A directory of public relays, as the originals use: the quickest of ten is taken, and the id's prefix names it.
    Directory(String),
    /// No network: hosts and clients that share this value, in one process. For tests.
    Memory(MemoryRelay),
}

/// How the embedded relay is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedRelay {
    /// The address to listen on. Port 0 takes any free port. `[::]`, the default, takes IPv6 and IPv4, and IPv4 alone
    /// on a machine without IPv6.
    pub bind: SocketAddr,
    /// How many ports to try, from that of `bind` upwards, when it is taken. A client looks for a bare code on as many,
    /// at most 32.
    pub port_attempts: u16,
    /// Files for browsers, such as a page on which a phone joins by the same link.
    pub web_files: Vec<WebFile>,
    /// By which names players reach this machine, besides its addresses, names without a dot and names in `.local`.
    /// Requests by other names are refused, so that no web page can have a name of its own lead here.
    pub names: Vec<String>,
    /// Web pages, as `https://game.example`, whose players may join besides those of `web_files`; `*` for all. Pages
    /// that are not in here cannot try codes from a player's browser.
    pub origins: Vec<String>,
    /// Whether others may host on this relay, too. It has room for one session otherwise: that of its host.
    pub other_hosts: bool,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relay::Embedded(embedded) => f.debug_tuple("Embedded").field(embedded).finish(),
            Relay::Url(url) => f.debug_tuple("Url").field(&url.split('?').next()).finish(),
            Relay::Directory(url) => f.debug_tuple("Directory").field(url).finish(),
            Relay::Memory(memory) => f.debug_tuple("Memory").field(memory).finish(),
        }
    }
}

impl Relay {
    /// The directory that the original clients use when they are given no relay. Its relays are run by others.
    pub const PUBLIC_DIRECTORY: &str = "https://raw.githubusercontent.com/uhst/relays/main/list.json";
}

impl EmbeddedRelay {
    /// The port the originals' relay listens on, too.
    pub const DEFAULT_PORT: u16 = 3000;
}

impl Default for EmbeddedRelay {
    fn default() -> Self {
        EmbeddedRelay {
            bind: (Ipv6Addr::UNSPECIFIED, Self::DEFAULT_PORT).into(),
            port_attempts: 20,
            web_files: Vec::new(),
            names: Vec::new(),
            origins: Vec::new(),
            other_hosts: false,
        }
    }
}

impl Default for Relay {
    /// The embedded relay.
    fn default() -> Self {
        Relay::Embedded(EmbeddedRelay::default())
    }
}
