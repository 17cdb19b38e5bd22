//! One session, as the ECS reaches it.

use tokio::sync::mpsc;

use super::{PeerHandle, Secret, SessionCommand};
use crate::{net::conditions::NetworkConditions, protocol::EndReason};

/// How the ECS reaches one session. Dropping it leaves the session.
#[derive(Debug)]
pub(crate) struct SessionHandle(SessionWay);

#[derive(Debug)]
enum SessionWay {
    Network(mpsc::UnboundedSender<SessionCommand>),
    /// A client's whole session is its connection.
    Local(PeerHandle),
}

impl SessionHandle {
    /// A handle, and the end at which the network receives its commands.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<SessionCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (SessionHandle(SessionWay::Network(commands)), receiver)
    }

    /// Of a client whose host is in this app.
    pub fn local(host: PeerHandle) -> Self {
        SessionHandle(SessionWay::Local(host))
    }

    /// A sender for the game's answers, which may come long after this handle is gone.
    pub fn commands(&self) -> Option<mpsc::UnboundedSender<SessionCommand>> {
        match &self.0 {
            SessionWay::Network(commands) => Some(commands.clone()),
            SessionWay::Local(_) => None,
        }
    }

    /// Makes the network of every peer, now and later, worse or better.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        self.tell(SessionCommand::Conditions(conditions));
    }

    /// Lets so many peers in, from now on.
    pub fn set_max_peers(&self, peers: usize) {
        self.tell(SessionCommand::MaxPeers(peers));
    }

    /// Asks joiners for this password, or for none, from now on.
    pub fn set_password(&self, password: Option<Secret>) {
        self.tell(SessionCommand::Password(password));
    }

    /// Lets nobody new in, or again.
    pub fn set_locked(&self, locked: bool) {
        self.tell(SessionCommand::Locked(locked));
    }

    fn tell(&self, command: SessionCommand) {
        // A session that has just ended needs no settings.
        if let SessionWay::Network(commands) = &self.0 {
            let _ = commands.send(command);
        }
    }

    /// Says goodbye to everyone and ends.
    pub fn leave(&self) {
        match &self.0 {
            SessionWay::Network(commands) => drop(commands.send(SessionCommand::Leave)),
            SessionWay::Local(host) => host.disconnect(EndReason::EndedLocally),
        }
    }
}

impl Drop for SessionHandle {
    /// Says so, since a sender from [`SessionHandle::commands`] may keep the channel open.
    fn drop(&mut self) {
        self.leave();
    }
}
