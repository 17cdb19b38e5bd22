//! What protects a connection from others.

/// What protects the connection with a peer from others, above all from the relay.
///
/// It is about who may read and change what crosses. No level protects from the peer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// Nothing: the peer is an original. Whoever runs the relay can read and change everything.
    Plain,
    /// Everything is encrypted. A relay that was in between from the first packet on could still be the peer: nothing showed
    /// that the key belongs to the host, or to a player who may join.
    Sealed,
    /// Everything is encrypted, and the key of the host is that of the link, or both sides have proved the same password.
    /// After a join by a link with a key, nobody is in between. After a join by a code with a password, a player who knows
    /// the password and also runs the relay can be. A host that has no password cannot know its joiners, so to it they are
    /// only [`Sealed`](Self::Sealed).
    Authenticated,
}
