//! Why a connection or a session ended.

/// Why a session or a peer's connection ended: for a program to match and a person to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The other side chose to end it, and said goodbye.
    #[error("the other side left")]
    Left,
    /// This side chose to end it: the game left, disconnected the peer, or despawned an entity. The other side sees
    /// [`Left`](Self::Left).
    #[error("this side left")]
    EndedLocally,
    /// The host removed this player, with its own words.
    #[error("removed by the host: {0}")]
    Kicked(String),
    /// The host did not admit this player, with its own words.
    #[error("the host refused: {0}")]
    Refused(String),
    /// The session has as many players as its host allows.
    #[error("the session is full")]
    Full,
    /// The host plays another version of the game: another version, or other typed messages. With
    /// words that say which.
    #[error("another version of the game: {0}")]
    GameMismatch(String),
    /// The password did not match the host's.
    #[error("wrong password")]
    WrongPassword,
    /// The other side was [interrupted](crate::connection::ConnectionEvent::Interrupted), and did not come back in time.
    #[error("the other side stopped answering")]
    TimedOut,
    /// No relay answered.
    #[error("the relay cannot be reached: {0}")]
    RelayUnreachable(String),
    /// Another host is listening under this id.
    #[error("another host is using this id: take another one, or end that host")]
    HostIdInUse,
    /// Nobody hosts under this id.
    #[error("no host has this id: check it, or join by the link that the host shows")]
    NoSuchHost,
    /// The other side, or the relay, broke the protocol.
    #[error("protocol error: {0}")]
    ProtocolError(String),
    /// It never began: a link that names no session, or a machine on which no background task can run.
    #[error("could not start: {0}")]
    NotStarted(String),
    /// The other side sent more than the configured bounds allow.
    #[error("more data than the limits allow")]
    TooMuchData,
    /// This player missed broadcasts of the host, and did not catch up within
    /// [`catch_up_timeout`](crate::connection::ConnectionConfig::catch_up_timeout).
    #[error("too slow: messages to this player waited for too long")]
    TooSlow,
    /// The host gave the place of this player, who was [interrupted](crate::connection::ConnectionEvent::Interrupted), to another: the session was
    /// full.
    #[error("the place was given to another player")]
    Replaced,
    /// Another run of the host has its id, and does not know this connection.
    #[error("the host was restarted: join again")]
    HostRestarted,
    /// One side allows direct paths only, and there is none, or the other side allows none.
    #[error("no direct path: {0}")]
    NoDirectPath(String),
}

impl EndReason {
    /// What the other side is told when this side ends for this reason.
    pub fn seen_by_peer(&self) -> EndReason {
        match self {
            // A session that never started has nobody to tell why.
            EndReason::EndedLocally | EndReason::NotStarted(_) => EndReason::Left,
            reason => reason.clone(),
        }
    }
}
