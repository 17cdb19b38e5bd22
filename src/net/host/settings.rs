//! Commands that change a running host.

use super::Host;
use crate::net::{contract::SessionCommand, peer_link::PeerInput};

/// The words for joiners of a locked session.
pub(super) const LOCKED: &str = "nobody new may join this session now";

impl Host {
    /// Executes a command other than [`SessionCommand::Leave`].
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
                    self.refuse_joiners("the password has just been changed: join again").await;
                }
            }
            SessionCommand::Locked(locked) => {
                self.options.locked = locked;
                if locked {
                    self.refuse_joiners(LOCKED).await;
                }
            }
            SessionCommand::Leave => {}
        }
    }

    /// Refuses all who are still joining, since they began under the former setting. Connected peers ignore this.
    async fn refuse_joiners(&mut self, words: &str) {
        self.peers.send_to_all(|| PeerInput::Decide(Err(words.to_owned()))).await;
    }
}
