//! The choice of a session's relay.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
};

use super::memory::MemoryRelay;
use crate::protocol::WebFile;

/// The relay where a host listens, and where a client looks for an id that names no relay. Its `Debug` hides the query of a
/// URL, which may contain the key to host.
#[derive(Clone)]
#[non_exhaustive]
pub enum Relay {
    /// A relay in the process of the host; a LAN needs nothing else. A client looks for a bare code on this machine, at every
    /// port that such a relay may have. From other machines, join by the link that the host shows. A second host of this
    /// machine with the same id ends with [`EndReason::HostIdInUse`](crate::prelude::EndReason::HostIdInUse).
    Embedded(EmbeddedRelay),
    /// The relay at this URL, such as `https://relay.example.com/`.
    Url(String),
    /// A relay from the directory at this URL, as the originals use: the quickest of ten. The id's prefix names it.
    Directory(String),
    /// A relay in memory, for the hosts and clients of one process that share this value. For tests.
    Memory(MemoryRelay),
}

/// The settings of an embedded relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedRelay {
    /// The address to listen on, `[::]:3000` by default. Port 0 means any free port. `[::]` includes IPv4, and means IPv4
    /// alone on a machine without IPv6.
    pub bind: SocketAddr,
    /// The number of ports to try, from that of `bind` upwards, 20 by default. A client looks for a bare code on as many, at
    /// most 32.
    pub port_attempts: u16,
    /// The files for browsers, such as a page on which a phone joins by the same link. None by default.
    pub web_files: Vec<WebFile>,
    /// The host names of this machine, besides its addresses, names without a dot and names in `.local`. The relay refuses
    /// requests to other names, so that no web page can reach it under a name of its own. None by default.
    pub names: Vec<String>,
    /// The web origins, such as `https://game.example`, whose players may join besides those of `web_files`; `*` allows all.
    /// Pages of other origins cannot try codes from a player's browser. None by default.
    pub origins: Vec<String>,
    /// Whether other hosts may use this relay, `false` by default. Otherwise it has room for the session of its own host
    /// only.
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
    /// The directory that the original clients use by default. Third parties run its relays.
    pub const PUBLIC_DIRECTORY: &str = "https://raw.githubusercontent.com/uhst/relays/main/list.json";
}

impl EmbeddedRelay {
    /// The default port, the same as that of the original relay.
    pub const DEFAULT_PORT: u16 = 3000;

    /// Serves a game's web build at the join link, so that a friend who has nothing installed plays in a browser. `folder`
    /// holds its `index.html`, and the files beside and below it, which are read now. Files that are compressed there already,
    /// such as `game.wasm.gz`, are sent so to browsers that take them.
    ///
    /// A build that is part of the program goes to [`web_files`](Self::web_files) instead, file by file.
    ///
    /// # Errors
    ///
    /// [`WebBuildError`](crate::relay::WebBuildError) if the folder holds no web build or cannot be read.
    #[cfg(all(feature = "relay", not(target_family = "wasm")))]
    pub fn web_app(mut self, folder: impl AsRef<std::path::Path>) -> Result<Self, crate::relay::WebBuildError> {
        self.web_files.extend(crate::relay::read_web_build(folder)?);
        Ok(self)
    }
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
