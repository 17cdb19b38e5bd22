//! The handle of one session, for the ECS.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::{command::SessionCommand, peer::PeerHandle};
use crate::{connection::Password, net::conditions::NetworkConditions, protocol::EndReason};

/// A handle to one session. Dropping it leaves the session.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    sink: SessionSink,
    leaves: AtomicBool,
}

#[derive(Debug)]
enum SessionSink {
    /// The task of the session.
    Network(mpsc::UnboundedSender<SessionCommand>),
    /// The connection to a host in this app, which is all that such a client's session has.
    Local(PeerHandle),
}

impl SessionHandle {
    fn of(sink: SessionSink) -> Self {
        Self { sink, leaves: AtomicBool::new(false) }
    }

    /// Whether the session was told to leave.
    pub fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// Creates a handle, and the receiver of its commands for the network.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<SessionCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Self::of(SessionSink::Network(commands)), receiver)
    }

    /// Creates the handle of a client whose host is in this app.
    pub fn local(host: PeerHandle) -> Self {
        Self::of(SessionSink::Local(host))
    }

    /// A sender for the game's answers to join requests, which may come after this handle is dropped.
    pub fn commands(&self) -> Option<mpsc::UnboundedSender<SessionCommand>> {
        match &self.sink {
            SessionSink::Network(commands) => Some(commands.clone()),
            SessionSink::Local(_) => None,
        }
    }

    /// Changes the simulated network conditions of every peer, now and later.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        self.send(SessionCommand::Conditions(conditions));
    }

    /// Changes a host's limit on peers. Nobody is disconnected.
    pub fn set_max_peers(&self, peers: usize) {
        self.send(SessionCommand::MaxPeers(peers));
    }

    /// Changes a host's password, or removes it.
    pub fn set_password(&self, password: Option<Password>) {
        self.send(SessionCommand::Password(password));
    }

    /// Locks or unlocks a host for new peers.
    pub fn set_locked(&self, locked: bool) {
        self.send(SessionCommand::Locked(locked));
    }

    fn send(&self, command: SessionCommand) {
        // A session that has just ended needs no settings.
        if let SessionSink::Network(commands) = &self.sink {
            let _ = commands.send(command);
        }
    }

    /// Returns a function that leaves the session, unless it has ended. It does not keep the session.
    pub fn leave_later(&self) -> impl Fn() + use<> {
        let commands = match &self.sink {
            SessionSink::Network(commands) => Some(commands.downgrade()),
            SessionSink::Local(_) => None,
        };
        move || {
            if let Some(commands) = commands.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade) {
                let _ = commands.send(SessionCommand::Leave);
            }
        }
    }

    /// Says goodbye to every peer and ends the session.
    pub fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        match &self.sink {
            SessionSink::Network(commands) => drop(commands.send(SessionCommand::Leave)),
            SessionSink::Local(host) => host.disconnect(EndReason::EndedLocally),
        }
    }
}

impl Drop for SessionHandle {
    /// Leaves explicitly, since a sender from [`SessionHandle::commands`] may keep the channel open.
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until the game leaves the session. Discards other commands.
pub(in crate::net) async fn wait_for_leave(commands: &mut mpsc::UnboundedReceiver<SessionCommand>) {
    while let Some(command) = commands.recv().await {
        if matches!(command, SessionCommand::Leave) {
            return;
        }
    }
}
