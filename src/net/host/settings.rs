//! Commands that change a running host.

use super::Host;
use crate::net::{contract::SessionCommand, peer_link::PeerInput};

impl Host {
    /// Executes a command that does not end the host.
    pub(super) async fn command(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::Decide { peer, decision } => self.peers.send(peer, PeerInput::Decide(decision)).await,
            SessionCommand::Conditions(conditions) => {
                self.options.session.conditions = conditions;
                self.peers.send_to_all(|| PeerInput::Conditions(conditions)).await;
            }
            SessionCommand::MaxPeers(peers) => {
                self.slots.resize(self.options.max_peers, peers);
                self.options.max_peers = peers;
            }
            SessionCommand::Password(password) => {
                if self.options.session.password != password {
                    self.options.session.password = password;
                    // Those who are still joining began under the former one. Connected peers ignore this.
                    self.peers.send_to_all(|| PeerInput::PasswordChanged).await;
                }
            }
            SessionCommand::Locked(locked) => {
                self.slots.lock(locked);
                if locked {
                    self.peers.send_to_all(|| PeerInput::Locked).await;
                }
            }
            SessionCommand::Leave | SessionCommand::GiveUp => {}
        }
    }
}
