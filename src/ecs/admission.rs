//! Asking the game whether a peer may join.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bevy::prelude::*;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    net::contract::{PeerKey, SessionCommand, SessionKey},
    protocol::{EndReason, PublicKey},
};

/// One attempt to join a host: of a [`UhstJoinRequest`], and of the [`UhstPeer`](super::UhstPeer) that it becomes. No two
/// attempts in one app have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JoinId(pub(super) (SessionKey, PeerKey));

/// Somebody wants to join a host with [`Admission::Ask`](crate::Admission::Ask).
///
/// Answer at once, or keep a [`responder`](UhstJoinRequest::responder) and answer later: the joiner waits until it gives
/// up. The first answer counts. When the request and every responder are dropped without one, the joiner is refused.
///
/// A joiner that is not refused is followed by [`UhstConnected`](super::UhstConnected), for a peer with the same
/// [`join_id`](super::UhstPeer::join_id), or by [`UhstJoinAbandoned`], unless the game despawns the session before.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstJoinRequest {
    /// The host's session.
    pub entity: Entity,
    /// This attempt to join.
    pub join: JoinId,
    /// The joiner's [`UhstClient::metadata`](super::UhstClient::metadata). It may be anything: do not trust it.
    pub metadata: Bytes,
    /// Who the joiner is, as its later [`UhstPeer::identity`](super::UhstPeer::identity). It has proved it. `None` for an
    /// original.
    pub identity: Option<PublicKey>,
    pub(super) responder: JoinResponder,
}

impl UhstJoinRequest {
    /// Admits the peer: [`UhstConnected`](super::UhstConnected) follows, or [`UhstJoinAbandoned`] if it has given up.
    pub fn accept(&self) {
        self.responder.accept();
    }

    /// Refuses the peer, which ends with [`EndReason::Refused`](crate::EndReason::Refused) and this reason.
    pub fn refuse(&self, why: impl Into<String>) {
        self.responder.refuse(why);
    }

    /// The means to answer in a later frame.
    pub fn responder(&self) -> JoinResponder {
        self.responder.clone()
    }
}

/// A joiner that a [`UhstJoinRequest`] was about will not connect, though the game has not refused it: a list of those
/// who ask is shorter by one.
#[derive(EntityEvent, Clone, Debug)]
pub struct UhstJoinAbandoned {
    /// The host's session.
    pub entity: Entity,
    /// The attempt to join, as in the request.
    pub join: JoinId,
    /// Why: [`EndReason::Left`] if it gave up, [`EndReason::TimedOut`] if it was lost, [`EndReason::Full`] if all places were
    /// taken when the game admitted it, [`EndReason::Refused`] if a lock or a new password turned it away,
    /// [`EndReason::Rejoined`] if another attempt of the same player took its place, or [`EndReason::EndedLocally`] if the
    /// host left. There are others, such as [`EndReason::TooMuchData`].
    pub reason: EndReason,
}

/// Answers one [`UhstJoinRequest`]. Clones answer the same request; the first answer counts.
#[derive(Clone, Debug)]
pub struct JoinResponder(Arc<Answer>);

impl JoinResponder {
    pub(super) fn new(peer: PeerKey, commands: mpsc::UnboundedSender<SessionCommand>) -> Self {
        JoinResponder(Arc::new(Answer { peer, commands, given: AtomicBool::new(false) }))
    }

    /// Admits the peer.
    pub fn accept(&self) {
        self.0.give(Ok(()));
    }

    /// Refuses the peer, with a reason that its player may read.
    pub fn refuse(&self, why: impl Into<String>) {
        self.0.give(Err(why.into()));
    }
}

#[derive(Debug)]
struct Answer {
    peer: PeerKey,
    commands: mpsc::UnboundedSender<SessionCommand>,
    given: AtomicBool,
}

impl Answer {
    fn give(&self, decision: Result<(), String>) {
        if !self.given.swap(true, Ordering::Relaxed) {
            // A session that is over needs no answer.
            let _ = self.commands.send(SessionCommand::Decide { peer: self.peer, decision });
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(Err("the host did not answer".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(receiver: &mut mpsc::UnboundedReceiver<SessionCommand>) -> Option<Result<(), String>> {
        match receiver.try_recv() {
            Ok(SessionCommand::Decide { decision, .. }) => Some(decision),
            _ => None,
        }
    }

    #[test]
    fn the_first_answer_counts() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let responder = JoinResponder::new(PeerKey(1), sender);
        responder.clone().accept();
        responder.refuse("too late");
        drop(responder);
        assert_eq!(decision(&mut receiver), Some(Ok(())));
        assert_eq!(decision(&mut receiver), None);
    }

    #[test]
    fn no_answer_refuses_once_nobody_can_answer() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let responder = JoinResponder::new(PeerKey(1), sender);
        let kept = responder.clone();
        drop(responder);
        assert_eq!(decision(&mut receiver), None);
        drop(kept);
        assert!(matches!(decision(&mut receiver), Some(Err(_))));
    }
}
