//! Handles what the tasks of peers send to the host.

use n0_future::time::Instant;

use super::Host;
use crate::{
    connection::Tombstone,
    net::{
        contract::PeerKey,
        peer_link::{PeerEnd, PeerInput, PeerOutput},
    },
};

impl Host {
    pub(super) async fn output(&mut self, key: PeerKey, output: PeerOutput) {
        match output {
            PeerOutput::Identified(id) => self.peers.identify(key, id),
            PeerOutput::HasSlot => {
                if let Some(entry) = self.peers.get_mut(key) {
                    entry.has_slot = true;
                }
            }
            PeerOutput::WrongPassword => {
                if let Some(entry) = self.peers.get_mut(key)
                    && let Some(wrong) = self.limits.wrong_password(&entry.origin, Instant::now())
                {
                    self.reporter.report(format!("joiners gave a wrong password {wrong} times so far"));
                }
            }
            PeerOutput::Interrupted(interrupted) => {
                if let Some(entry) = self.peers.get_mut(key) {
                    entry.interrupted = interrupted.then(Instant::now);
                }
            }
            PeerOutput::JoinsAgain(former) => self.peers.send(former, PeerInput::JoinsAgain).await,
            PeerOutput::Was(former) => self.peers.send(former, PeerInput::Rejoined).await,
            PeerOutput::Dismissed(joining) => {
                if self.slots.is_locked() {
                    self.peers.send(joining, PeerInput::Locked).await;
                }
            }
            PeerOutput::WantsSlot => self.peers.replace_longest_interrupted(),
            PeerOutput::Rebound(client) => {
                if let Some(former) = self.peers.rebind(key, client) {
                    self.former.remember_client(former, None);
                }
            }
            // The stream itself would stay silent for long before it broke.
            PeerOutput::RelayGone(error) => {
                if self.relay.give_up_stream() {
                    self.relay_lost(&error).await;
                }
            }
            // The route is stale. The peer brings a new one when it resumes.
            PeerOutput::BadToken | PeerOutput::RelaySilent => {}
            PeerOutput::Ended(end) => self.peer_ended(key, end),
        }
    }

    fn peer_ended(&mut self, key: PeerKey, PeerEnd { reason, tombstone }: PeerEnd) {
        tracing::debug!(peer = key.0, "a peer's task ended: {reason}");
        match self.peers.remove(key) {
            Some(entry) if entry.is_native() => {
                self.former.remember_client(entry.client, tombstone.as_ref().map(Tombstone::id));
            }
            // The next message of an original would begin a new connection.
            Some(entry) if !entry.stream_closed => self.former.block(entry.client),
            _ => {}
        }
        if let Some(tombstone) = tombstone {
            self.former.remember_connection(tombstone);
        }
    }
}
