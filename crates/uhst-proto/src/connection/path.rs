//! Paths and lanes, and values kept for each path.

use std::ops::{Index, IndexMut};

/// A route to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Over the relay.
    Relay,
    /// Over WebRTC data channels.
    Direct,
}

impl Path {
    pub(super) const ALL: [Path; 2] = [Path::Relay, Path::Direct];
}

/// A transport within a path. Every lane delivers in order, except [`DirectUnreliable`](Self::DirectUnreliable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// POST requests to the relay, one at a time.
    Relay,
    /// The ordered, reliable data channel.
    DirectReliable,
    /// The unordered data channel without retransmission.
    DirectUnreliable,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 3] = [Lane::Relay, Lane::DirectReliable, Lane::DirectUnreliable];

    /// The path that this lane belongs to.
    pub fn path(self) -> Path {
        match self {
            Lane::Relay => Path::Relay,
            Lane::DirectReliable | Lane::DirectUnreliable => Path::Direct,
        }
    }
}

/// What a path may carry now.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathContents {
    pub(super) signals: bool,
    pub(super) messages: bool,
}

/// A value for each path. The array is in the order of [`Path::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerPath<T>(pub(super) [T; 2]);

impl<T> Index<Path> for PerPath<T> {
    type Output = T;

    fn index(&self, path: Path) -> &T {
        &self.0[path as usize]
    }
}

impl<T> IndexMut<Path> for PerPath<T> {
    fn index_mut(&mut self, path: Path) -> &mut T {
        &mut self.0[path as usize]
    }
}
