//! What replicon wants to know about a connection: its name, and numbers.

use std::time::Duration;

use bevy::{platform::time::Instant, prelude::*};
use bevy_replicon::{prelude::*, shared::backend::connected_client::NetworkId};

use crate::{Traffic, UhstPeer};

/// How often rates are renewed.
const PERIOD: Duration = Duration::from_secs(1);

/// The number by which both sides know a connection: the beginning of its id, which is random. None for peers of the
/// original protocol.
pub(super) fn network_id(peer: &UhstPeer) -> Option<NetworkId> {
    let id = peer.handle().shared().connection()?;
    let (beginning, _) = id.0.split_first_chunk()?;
    Some(NetworkId::new(u64::from_be_bytes(*beginning)))
}

/// On a peer of replicon's session: what was counted when its rates were last renewed.
#[derive(Component, Debug, Default)]
pub(super) struct Meter(Option<(Instant, Traffic)>);

impl Meter {
    /// The numbers, if there are new ones.
    pub fn read(&mut self, peer: &UhstPeer, shown: &ClientStats) -> Option<ClientStats> {
        let now = Instant::now();
        let rtt = peer.rtt().unwrap_or_default().as_secs_f64();
        let Some((since, before)) = self.0 else {
            self.0 = Some((now, peer.traffic()));
            return Some(ClientStats { rtt, ..ClientStats::default() });
        };
        let elapsed = now - since;
        if elapsed >= PERIOD {
            let traffic = peer.traffic();
            self.0 = Some((now, traffic));
            return Some(rates(rtt, before, traffic, elapsed));
        }
        (rtt != shown.rtt).then(|| ClientStats { rtt, ..*shown })
    }
}

fn rates(rtt: f64, before: Traffic, now: Traffic, elapsed: Duration) -> ClientStats {
    let difference = |now: u64, before: u64| now.saturating_sub(before) as f64;
    let lost = difference(now.lost, before.lost);
    let all = difference(now.sent_messages, before.sent_messages) + lost;
    ClientStats {
        rtt,
        packet_loss: if all > 0.0 { 100.0 * lost / all } else { 0.0 },
        sent_bps: difference(now.sent_bytes, before.sent_bytes) / elapsed.as_secs_f64(),
        received_bps: difference(now.received_bytes, before.received_bytes) / elapsed.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_loss_is_in_percent() {
        let before =
            Traffic { sent_messages: 10, sent_bytes: 1000, received_bytes: 500, lost: 1, ..Traffic::default() };
        let now = Traffic { sent_messages: 40, sent_bytes: 3000, received_bytes: 900, lost: 11, ..before };
        let stats = rates(0.05, before, now, Duration::from_secs(2));
        assert_eq!((stats.rtt, stats.packet_loss), (0.05, 25.0));
        assert_eq!((stats.sent_bps, stats.received_bps), (1000.0, 200.0));
        assert_eq!(rates(0.0, now, now, PERIOD).packet_loss, 0.0);
    }
}
