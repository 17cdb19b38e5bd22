//! Who the player at this machine is.

use bevy::prelude::*;

use crate::{connection::StaticKey, protocol::PublicKey};

/// The key of the player at this machine, by which hosts and clients know it again: see [`UhstPeer::identity`].
///
/// [`UhstPlugin`](super::UhstPlugin) makes a new one at each start. A game whose players shall be known after a restart saves
/// the [bytes](Self::to_bytes), and inserts the resource before its first session starts. A session keeps the identity that
/// it has started with. The links of a host carry the hash of its key, so they are good for one run of a host that does not
/// keep its identity.
///
/// Whoever has the bytes is this player to every host. Two running games with the same identity replace each other at a
/// host: [`EndReason::Rejoined`](crate::EndReason::Rejoined). Of several clients of one app at the same time, the first has
/// this identity; each other one has a new one, or that of [`UhstClient::identity`]. A host does not replace the clients of its
/// own app.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// fn load(path: &std::path::Path) -> std::io::Result<UhstIdentity> {
///     if let Ok(bytes) = std::fs::read(path)
///         && let Ok(bytes) = bytes.try_into()
///     {
///         return Ok(UhstIdentity::from_bytes(bytes));
///     }
///     let identity = UhstIdentity::generate()?;
///     std::fs::write(path, identity.to_bytes())?;
///     Ok(identity)
/// }
/// ```
///
/// [`UhstClient::identity`]: super::UhstClient::identity
/// [`UhstPeer::identity`]: super::UhstPeer::identity
#[derive(Resource, Clone, Debug)]
pub struct UhstIdentity(StaticKey);

impl UhstIdentity {
    /// Makes a new identity.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn generate() -> std::io::Result<Self> {
        StaticKey::generate().map(UhstIdentity).map_err(|error| std::io::Error::other(error.to_string()))
    }

    /// Restores an identity from its [bytes](Self::to_bytes).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        UhstIdentity(StaticKey::from_bytes(bytes))
    }

    /// Returns the secret bytes. Keep them where no other player can read them.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns the public half, which others see as [`UhstPeer::identity`](super::UhstPeer::identity).
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }

    pub(super) fn key(&self) -> StaticKey {
        self.0.clone()
    }
}
