//! What a relay grants to a host or a client: a token, and the URLs where it is valid.

use std::{fmt, sync::Arc};

use url::Url;

/// A token and the URLs where it is used. Its `Debug` hides the token.
#[derive(Clone)]
pub(super) struct Access {
    /// The token from the relay.
    pub token: Arc<str>,
    /// The URL to post messages to: the relay, or the `sendUrl` of its reply.
    pub send_to: Arc<Url>,
    /// The URL to read events from: the relay, or the `receiveUrl` of its reply.
    pub listen_at: Url,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("send_to", &self.send_to.as_str()).finish_non_exhaustive()
    }
}

/// The relay's answer to a join.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    /// The client's token.
    pub access: Access,
    /// The dialect of the host, if the relay reports it. Original relays do not.
    pub hint: Option<HostHint>,
}

/// The dialect of a host, as its relay reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostHint {
    /// The native dialect.
    Native,
    /// The plain dialect, over the relay.
    Texts,
}
