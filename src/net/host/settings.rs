//! Settings of a host that change while it runs.

use super::Host;
use crate::net::contract::SessionCommand;

impl Host {
    /// Takes a setting; other commands are not for this.
    pub(super) fn set(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::MaxPeers(peers) => {
                self.places.resize(self.options.max_peers, peers);
                self.options.max_peers = peers;
            }
            SessionCommand::Password(password) => self.options.session.password = password,
            SessionCommand::Locked(locked) => self.options.locked = locked,
            SessionCommand::Decide { .. } | SessionCommand::Conditions(_) | SessionCommand::Leave => {}
        }
    }
}
