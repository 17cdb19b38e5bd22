//! The keys of sessions and peers.

/// Identifies a session. The ECS assigns the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// Identifies a peer within its session. The network assigns the keys, and never reuses one in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub u64);
