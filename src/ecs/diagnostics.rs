//! Numbers for Bevy's [`DiagnosticsStore`].

use std::time::Duration;

use bevy::{
    diagnostic::{Diagnostic, DiagnosticMeasurement, DiagnosticPath, DiagnosticsStore, RegisterDiagnostic},
    platform::time::Instant,
    prelude::*,
};

use super::network::Network;
use crate::net::Traffic;

/// Paths of the numbers in the [`DiagnosticsStore`], over all sessions and peers, renewed once a second.
///
/// For one peer, ask [`UhstPeer`](super::UhstPeer), whose numbers are always current.
#[derive(Debug)]
pub struct UhstDiagnostics;

impl UhstDiagnostics {
    /// Connected peers.
    pub const PEERS: DiagnosticPath = DiagnosticPath::const_new("uhst/peers");
    /// Mean round-trip time over the peers, in milliseconds.
    pub const RTT: DiagnosticPath = DiagnosticPath::const_new("uhst/rtt");
    /// Bytes that wait to be sent or acknowledged.
    pub const QUEUED: DiagnosticPath = DiagnosticPath::const_new("uhst/queued");
    /// Messages sent per second.
    pub const SENT_MESSAGES: DiagnosticPath = DiagnosticPath::const_new("uhst/sent_messages");
    /// Bytes sent per second, as [`Traffic`] counts them.
    pub const SENT_BYTES: DiagnosticPath = DiagnosticPath::const_new("uhst/sent_bytes");
    /// Messages received per second.
    pub const RECEIVED_MESSAGES: DiagnosticPath = DiagnosticPath::const_new("uhst/received_messages");
    /// Bytes received per second, as [`Traffic`] counts them.
    pub const RECEIVED_BYTES: DiagnosticPath = DiagnosticPath::const_new("uhst/received_bytes");
}

const PERIOD: Duration = Duration::from_secs(1);

pub(super) fn plugin(app: &mut App) {
    app.register_diagnostic(Diagnostic::new(UhstDiagnostics::PEERS))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::RTT).with_suffix("ms"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::QUEUED).with_suffix(" B"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::SENT_MESSAGES).with_suffix("/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::SENT_BYTES).with_suffix(" B/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::RECEIVED_MESSAGES).with_suffix("/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::RECEIVED_BYTES).with_suffix(" B/s"))
        .add_systems(Last, publish.run_if(a_period_has_passed));
}

fn a_period_has_passed(mut last: Local<Option<Instant>>, network: Res<Network>) -> bool {
    let now = Instant::now();
    if network.is_idle() && last.is_none() {
        return false;
    }
    let due = last.is_none_or(|last| now - last >= PERIOD);
    if due {
        // Once more after the last session, to show that nothing goes on.
        *last = (!network.is_idle()).then_some(now);
    }
    due
}

// The store itself, not `Diagnostics`: that one queues, and so allocates.
fn publish(mut network: ResMut<Network>, mut store: ResMut<DiagnosticsStore>, mut last: Local<Option<Instant>>) {
    let time = Instant::now();
    let elapsed = last.replace(time).map_or(PERIOD, |last| time - last).as_secs_f64();
    let mut sum = std::mem::take(&mut network.departed);
    let (mut peers, mut queued, mut rtt, mut measured) = (0, 0, 0.0, 0);
    for remote in network.peers_mut() {
        let now = remote.handle.shared().traffic();
        add_difference(&mut sum, now, remote.published);
        remote.published = now;
        peers += 1;
        queued += remote.handle.shared().queued();
        if let Some(peer) = remote.handle.shared().rtt() {
            rtt += peer.as_secs_f64() * 1000.0;
            measured += 1;
        }
    }
    let mut measure = |path: DiagnosticPath, value| {
        if let Some(diagnostic) = store.get_mut(&path)
            && diagnostic.is_enabled
        {
            diagnostic.add_measurement(DiagnosticMeasurement { time, value });
        }
    };
    measure(UhstDiagnostics::PEERS, f64::from(peers));
    measure(UhstDiagnostics::QUEUED, queued as f64);
    if measured > 0 {
        measure(UhstDiagnostics::RTT, rtt / f64::from(measured));
    }
    measure(UhstDiagnostics::SENT_MESSAGES, sum.sent_messages as f64 / elapsed);
    measure(UhstDiagnostics::SENT_BYTES, sum.sent_bytes as f64 / elapsed);
    measure(UhstDiagnostics::RECEIVED_MESSAGES, sum.received_messages as f64 / elapsed);
    measure(UhstDiagnostics::RECEIVED_BYTES, sum.received_bytes as f64 / elapsed);
}

/// Adds what has happened between two counts of one peer.
pub(super) fn add_difference(sum: &mut Traffic, now: Traffic, before: Traffic) {
    sum.sent_messages += now.sent_messages.saturating_sub(before.sent_messages);
    sum.sent_bytes += now.sent_bytes.saturating_sub(before.sent_bytes);
    sum.received_messages += now.received_messages.saturating_sub(before.received_messages);
    sum.received_bytes += now.received_bytes.saturating_sub(before.received_bytes);
}
