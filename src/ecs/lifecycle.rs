//! The events of sessions and peers, for observers.
//!
//! Every beginning has exactly one end: a session that was spawned gets one [`UhstEnded`], a peer that
//! [connected](UhstConnected) one [`UhstDisconnected`], whichever side ended it and for whatever reason. Nothing is reported of an
//! entity after its end. It still exists while its end is observed, unless the game itself has just despawned it.

use bevy::prelude::*;

use crate::{
    connection::{Interruption, Path},
    protocol::{EndReason, JoinLink},
};

/// The host listens, or the client has found its host. Once per session, before its first [`UhstConnected`].
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstReady {
    /// The session.
    pub entity: Entity,
    /// The id that the relay assigned: what other players type in.
    pub id: String,
    /// Links that join this session, the one most likely to work from another machine first.
    pub links: Vec<JoinLink>,
}

/// A peer is connected: its entity with [`UhstPeer`](super::UhstPeer) has just been spawned.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstConnected {
    /// The peer.
    pub entity: Entity,
    /// Its session.
    pub session: Entity,
}

/// A player has joined a host again while the host still had its former peer: after a crash, or from another window. It
/// has proved that it is the [same](super::UhstPeer::identity).
///
/// [`UhstConnected`] of the new peer came just before. The former one still exists with all that the game has put on it, to
/// be moved to the new one; its [`UhstDisconnected`] follows, with [`EndReason::Rejoined`].
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// # #[derive(Component, Clone)] struct Score(u32);
/// fn keep_score(rejoined: On<UhstRejoined>, scores: Query<&Score>, mut commands: Commands) {
///     if let Ok(score) = scores.get(rejoined.former) {
///         commands.entity(rejoined.entity).insert(score.clone());
///     }
/// }
/// ```
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstRejoined {
    /// The new peer of the player.
    pub entity: Entity,
    /// Its session.
    pub session: Entity,
    /// The former peer of the player.
    pub former: Entity,
}

/// The path to a peer has changed. No message is lost or duplicated by it.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstPathChanged {
    /// The peer.
    pub entity: Entity,
    /// The path that messages take now.
    pub path: Path,
}

/// A peer is silent, or no path leads to it: its machine sleeps, its cable is out, its game has crashed. It may come
/// back, and its place is kept.
///
/// Meanwhile [`UhstPeer::is_reachable`](super::UhstPeer::is_reachable) is `false`, reliable messages wait, and unreliable
/// ones are dropped. [`UhstResumed`] follows when it is back, or [`UhstDisconnected`]: with [`EndReason::TimedOut`] after
/// [`resume_timeout`](crate::ConnectionConfig::resume_timeout). The other side notices the same by the same
/// numbers.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstInterrupted {
    /// The peer.
    pub entity: Entity,
    /// Its session.
    pub session: Entity,
    /// Why.
    pub reason: Interruption,
}

/// A peer that was [interrupted](UhstInterrupted) is back. No reliable message was lost or doubled meanwhile.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstResumed {
    /// The peer.
    pub entity: Entity,
    /// Its session.
    pub session: Entity,
}

/// A peer is gone. Systems in `Update` and `FixedUpdate` have had its last messages (see
/// [`UhstMessage`](super::UhstMessage)), and its entity is despawned at the end of this frame. Sending to it works until
/// now, though nothing of that arrives. On a client, the [`UhstEnded`] of its session follows at once.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstDisconnected {
    /// The peer.
    pub entity: Entity,
    /// Its session.
    pub session: Entity,
    /// Why: [`EndReason::Left`] if the other side left, [`EndReason::EndedLocally`] if this side ended it.
    pub reason: EndReason,
    /// How much of what this side had sent reliably before it ended the connection was not confirmed within
    /// [`drain_timeout`](crate::ConnectionConfig::drain_timeout), in bytes, with 160 for each message: it may not
    /// have arrived. 0 when the other side ended it, and when this side despawned the peer or its session, since what waits
    /// is delivered after this event then; a warning names what is cut.
    pub unconfirmed: usize,
}

/// A session is over, or could not start. Its peers' [`UhstDisconnected`] came first.
///
/// The session's entity is despawned at the end of this frame, unless an observer inserts a new session on it. An
/// entity that the game itself despawned is gone by now; then the reason is [`EndReason::EndedLocally`].
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstEnded {
    /// The session.
    pub entity: Entity,
    /// Why: [`EndReason::Left`] if a client's host left, [`EndReason::EndedLocally`] if this side ended it.
    pub reason: EndReason,
}

/// Something a developer wants to know that ends nothing: a relay lost and found, nonsense received.
///
/// It is logged as a warning, too.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstDiagnostic {
    /// The session, or the browser.
    pub entity: Entity,
    /// About which peer, if about one that is connected.
    pub peer: Option<Entity>,
    /// A description for a person to read.
    pub text: String,
}
