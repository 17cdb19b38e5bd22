//! Settings of a host that change while it runs.

use super::{Host, LOCKED};
use crate::net::{contract::SessionCommand, peer_link::PeerInput};

impl Host {
    /// Takes a setting; other commands are not for this.
    pub(super) async fn set(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::MaxPeers(peers) => {
                self.places.resize(self.options.max_peers, peers);
                self.options.max_peers = peers;
            }
            SessionCommand::Password(password) => {
                if self.options.session.password != password {
                    self.options.session.password = password;
                    self.turn_away("the password has just been changed: join again").await;
                }
            }
            SessionCommand::Locked(locked) => {
                self.options.locked = locked;
                if locked {
                    self.turn_away(LOCKED).await;
                }
            }
            SessionCommand::Decide { .. } | SessionCommand::Conditions(_) | SessionCommand::Leave => {}
        }
    }

    /// Refuses all who are on their way in, by the rule that held when they began. Peers that are in take no notice.
    async fn turn_away(&mut self, words: &str) {
        self.tell_all(|| PeerInput::Decide(Err(words.to_owned()))).await;
    }
}
