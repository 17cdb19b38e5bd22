//! Why a connection or a session ended.

/// Why a session or the connection with a peer ended. Programs match on it, and `Display` explains it to a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The other side ended it on purpose.
    #[error("the other side left")]
    Left,
    /// This side ended it on purpose: the game left, disconnected the peer, or despawned an entity, or the player left the
    /// page of a game in a browser. The other side sees [`Left`](Self::Left).
    #[error("this side left")]
    EndedLocally,
    /// The host removed this player, for the given reason.
    #[error("removed by the host: {0}")]
    Kicked(String),
    /// The host did not admit this player, for the given reason.
    #[error("the host refused: {0}")]
    Refused(String),
    /// The session has as many players as its host allows.
    #[error("the session is full")]
    Full,
    /// The host runs another version of the game, or other typed messages. The text names the differences.
    #[error("another version of the game: {0}")]
    GameMismatch(String),
    /// The password does not match the host's.
    #[error("wrong password")]
    WrongPassword,
    /// The other side was interrupted, and did not come back in time.
    #[error("the other side stopped answering")]
    TimedOut,
    /// No relay answered.
    #[error("the relay cannot be reached: {0}")]
    RelayUnreachable(String),
    /// Another host uses this id.
    #[error("another host is using this id: take another one, or end that host")]
    HostIdInUse,
    /// No host uses this id.
    #[error("no host has this id: check it, or join by the link that the host shows")]
    NoSuchHost,
    /// The other side or the relay violated the protocol.
    #[error("protocol error: {0}")]
    ProtocolError(String),
    /// The session never started: the link names no session, or no background task can run on this machine.
    #[error("could not start: {0}")]
    NotStarted(String),
    /// The other side sent more than the limits allow.
    #[error("more data than the limits allow")]
    TooMuchData,
    /// This player missed broadcasts of the host, and did not catch up within the `catch_up_timeout` of the connection.
    #[error("too slow: messages to this player waited for too long")]
    TooSlow,
    /// The session was full, and the host gave the place of this interrupted player to another.
    #[error("the place was given to another player")]
    Replaced,
    /// The same player has joined again, from another window or after a crash, and has taken the place of this one.
    #[error("the same player has joined again, and takes this place")]
    Rejoined,
    /// The host was restarted and does not know this connection. Each run of a host has a new key unless its game keeps the
    /// identity, so a join by an old link with a key ends with [`WrongHostKey`](Self::WrongHostKey).
    #[error("the host was restarted: join again by the link or code that it shows now")]
    HostRestarted,
    /// The host that answered has another key than the link: the link is of another host, or somebody answers in the host's
    /// place. Nothing of this player was told to it.
    #[error(
        "the host that answered is not the one of the link: get a new link from the host, since this one is of another or \
         an earlier session, or somebody, such as the relay, answers in the host's place"
    )]
    WrongHostKey,
    /// One side allows only direct paths, and none came up or the other side allows none.
    #[error("no direct path: {0}")]
    NoDirectPath(String),
}

impl EndReason {
    /// Returns the reason that the other side sees when this side ends with this reason.
    #[must_use]
    pub fn seen_by_peer(&self) -> EndReason {
        match self {
            // A session that never started has no peer.
            EndReason::EndedLocally | EndReason::NotStarted(_) => EndReason::Left,
            reason => reason.clone(),
        }
    }
}
