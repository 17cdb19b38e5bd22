//! Which game, in which version: what both sides of a session must have in common.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::EndReason;

/// On the wire, in bytes, at most.
pub(crate) const MAX_GAME: usize = 64;
const DIGEST: usize = 16;

/// What a joiner shows its host before anything else, and what must be the host's own: a digest of the messages that a
/// game has registered and of the version it calls itself. The default is that of a game which has done neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GameId {
    /// Empty, or the digest and as much of the version as fits, to be shown.
    bytes: Bytes,
}

impl GameId {
    /// From the version, and a description of each message in an order that does not depend on the build.
    pub fn new<'a>(version: Option<&'a str>, messages: impl IntoIterator<Item = &'a str>) -> Self {
        let (version, mut messages) = (version.unwrap_or_default(), messages.into_iter().peekable());
        if version.is_empty() && messages.peek().is_none() {
            return Self::default();
        }
        let mut digest = Sha256::new();
        for part in std::iter::once(version).chain(messages) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let shown = &version[..version.floor_char_boundary(MAX_GAME - DIGEST)];
        let mut bytes = BytesMut::with_capacity(MAX_GAME);
        bytes.put_slice(&digest.finalize()[..DIGEST]);
        bytes.put_slice(shown.as_bytes());
        GameId { bytes: bytes.freeze() }
    }

    pub(crate) fn from_wire(bytes: Bytes) -> Self {
        GameId { bytes }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Why a joiner with this id cannot play on a host with that one; none if it can.
    pub(crate) fn mismatch(&self, host: &Self) -> Option<EndReason> {
        if self == host {
            return None;
        }
        let (host, joiner) = (host.shown(), self.shown());
        Some(EndReason::GameMismatch(if host == joiner {
            "the messages that the host and the joiner have registered are not the same".to_owned()
        } else {
            format!("the host has {host}, the joiner has {joiner}")
        }))
    }

    fn shown(&self) -> String {
        match self.bytes.get(DIGEST..) {
            None | Some([]) => "none".to_owned(),
            Some(version) => format!("“{}”", String::from_utf8_lossy(version)),
        }
    }
}
