//! The id and the statistics of a connection, for replicon.

use bevy_replicon::{prelude::*, shared::backend::connected_client::NetworkId};

use crate::UhstPeer;

/// The number by which both sides know a connection: the beginning of its id, which is random. None for peers that cannot
/// replicate: those of the original protocol, and the player of this very app.
pub(super) fn network_id(peer: &UhstPeer) -> Option<NetworkId> {
    let id = peer.handle().shared().connection()?;
    let (beginning, _) = id.0.split_first_chunk()?;
    Some(NetworkId::new(u64::from_be_bytes(*beginning)))
}

/// Updates the statistics, and returns whether anything has changed.
pub(super) fn renew(stats: &mut ClientStats, peer: &UhstPeer) -> bool {
    let rates = peer.rates();
    // Losses are known a second late, and some messages were lost before they were sent.
    let sent = f64::from(rates.sent_messages.max(rates.lost));
    let now = ClientStats {
        rtt: peer.rtt().unwrap_or_default().as_secs_f64(),
        packet_loss: if sent > 0.0 { 100.0 * f64::from(rates.lost) / sent } else { 0.0 },
        sent_bps: rates.sent_bytes.into(),
        received_bps: rates.received_bytes.into(),
    };
    let numbers = |stats: &ClientStats| [stats.rtt, stats.packet_loss, stats.sent_bps, stats.received_bps];
    let news = numbers(stats) != numbers(&now);
    *stats = now;
    news
}
