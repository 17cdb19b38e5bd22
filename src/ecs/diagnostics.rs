//! Numbers for Bevy's [`DiagnosticsStore`].

use std::time::Duration;

use bevy::{
    diagnostic::{Diagnostic, DiagnosticMeasurement, DiagnosticPath, DiagnosticsStore, RegisterDiagnostic},
    platform::time::Instant,
    prelude::*,
};

use super::{Rates, UhstPeer, network::Network, rates::add};
use crate::connection::Path;

/// Paths of the numbers in the [`DiagnosticsStore`], over all sessions and peers, renewed once a second.
///
/// [`UhstPeer`] has the numbers of one peer. The store never forgets a path, so that it would grow with every peer.
#[derive(Debug)]
pub struct UhstDiagnostics;

impl UhstDiagnostics {
    /// Connected peers.
    pub const PEERS: DiagnosticPath = DiagnosticPath::const_new("uhst/peers");
    /// Those of them on a direct path; the others are reached over a relay.
    pub const DIRECT_PEERS: DiagnosticPath = DiagnosticPath::const_new("uhst/direct_peers");
    /// Mean round-trip time over the peers, in milliseconds.
    pub const RTT: DiagnosticPath = DiagnosticPath::const_new("uhst/rtt");
    /// Bytes that wait to be sent or acknowledged.
    pub const QUEUED: DiagnosticPath = DiagnosticPath::const_new("uhst/queued");
    /// Messages sent per second.
    pub const SENT_MESSAGES: DiagnosticPath = DiagnosticPath::const_new("uhst/sent_messages");
    /// Bytes sent per second, as [`Traffic`](crate::Traffic) counts them.
    pub const SENT_BYTES: DiagnosticPath = DiagnosticPath::const_new("uhst/sent_bytes");
    /// Messages received per second.
    pub const RECEIVED_MESSAGES: DiagnosticPath = DiagnosticPath::const_new("uhst/received_messages");
    /// Bytes received per second, as [`Traffic`](crate::Traffic) counts them.
    pub const RECEIVED_BYTES: DiagnosticPath = DiagnosticPath::const_new("uhst/received_bytes");
    /// Losses per second, as [`Traffic::lost`](crate::Traffic::lost) counts them.
    pub const LOST: DiagnosticPath = DiagnosticPath::const_new("uhst/lost");
}

const PERIOD: Duration = Duration::from_secs(1);

pub(super) fn plugin(app: &mut App) {
    app.register_diagnostic(Diagnostic::new(UhstDiagnostics::PEERS))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::DIRECT_PEERS))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::RTT).with_suffix("ms"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::QUEUED).with_suffix(" B"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::SENT_MESSAGES).with_suffix("/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::SENT_BYTES).with_suffix(" B/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::RECEIVED_MESSAGES).with_suffix("/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::RECEIVED_BYTES).with_suffix(" B/s"))
        .register_diagnostic(Diagnostic::new(UhstDiagnostics::LOST).with_suffix("/s"))
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
fn publish(
    mut network: ResMut<Network>,
    mut peers: Query<&mut UhstPeer>,
    mut store: ResMut<DiagnosticsStore>,
    mut last: Local<Option<Instant>>,
) {
    let time = Instant::now();
    let elapsed = last.replace(time).map_or(PERIOD, |last| time - last);
    let mut sum = std::mem::take(&mut network.departed);
    let (mut connected, mut direct, mut queued, mut rtt, mut measured) = (0, 0, 0, 0.0, 0);
    for mut peer in &mut peers {
        // Not a change to react to: like its other numbers, which change by themselves.
        let Some(counted) = peer.bypass_change_detection().count(elapsed) else { continue };
        add(&mut sum, counted);
        connected += 1;
        direct += u32::from(peer.path() == Path::Direct);
        queued += peer.queued();
        if let Some(time) = peer.rtt() {
            rtt += time.as_secs_f64() * 1000.0;
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
    measure(UhstDiagnostics::PEERS, f64::from(connected));
    measure(UhstDiagnostics::DIRECT_PEERS, f64::from(direct));
    measure(UhstDiagnostics::QUEUED, queued as f64);
    if measured > 0 {
        measure(UhstDiagnostics::RTT, rtt / f64::from(measured));
    }
    let rates = Rates::over(sum, elapsed);
    measure(UhstDiagnostics::SENT_MESSAGES, rates.sent_messages.into());
    measure(UhstDiagnostics::SENT_BYTES, rates.sent_bytes.into());
    measure(UhstDiagnostics::RECEIVED_MESSAGES, rates.received_messages.into());
    measure(UhstDiagnostics::RECEIVED_BYTES, rates.received_bytes.into());
    measure(UhstDiagnostics::LOST, rates.lost.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Traffic, UhstHost,
        ecs::network::fake::{app, connect, peer_of, started},
    };

    /// Updates until the numbers of a second have been shown.
    fn next_second(app: &mut App) {
        let shown = |app: &App| {
            let diagnostic = app.world().resource::<DiagnosticsStore>().get(&UhstDiagnostics::PEERS);
            diagnostic.and_then(Diagnostic::measurement).map(|measurement| measurement.time)
        };
        let before = shown(app);
        while shown(app) == before {
            app.update();
        }
    }

    #[test]
    fn a_second_is_shown_on_the_peer_and_in_the_store() {
        let mut app = app();
        app.world_mut().spawn(UhstHost::any_id());
        let key = started(&app).key;
        let (first, _first) = connect(&mut app, key, 1);
        let (second, _second) = connect(&mut app, key, 2);
        next_second(&mut app);
        let rates = |app: &App, peer| app.world().get::<UhstPeer>(peer).map(UhstPeer::rates);
        assert_eq!(rates(&app, first), Some(Rates::default()));

        let shared = |app: &App, number| peer_of(app, key, number).handle.shared().clone();
        let traffic =
            Traffic { sent_messages: 10, sent_bytes: 4000, received_messages: 30, received_bytes: 9000, lost: 2 };
        shared(&app, 1).set_traffic(traffic);
        shared(&app, 1).set_path(Path::Direct);
        shared(&app, 2).set_traffic(Traffic { lost: 2, ..default() });
        next_second(&mut app);
        let (one, two) = (rates(&app, first).unwrap(), rates(&app, second).unwrap());
        // How long the second was depends on the machine; it was no shorter.
        let seconds = 10.0 / one.sent_messages;
        assert!((0.99..60.0).contains(&seconds), "{one:?}");
        let near = |a: f32, b: f32| (a * seconds - b).abs() < 0.01 * b;
        assert!(near(one.sent_bytes, 4000.0) && near(one.received_messages, 30.0), "{one:?}");
        assert!(near(one.received_bytes, 9000.0) && near(one.lost, 2.0), "{one:?}");
        assert_eq!(two, Rates { lost: one.lost, ..default() });
        let store = app.world().resource::<DiagnosticsStore>();
        let value = |path| store.get(&path).and_then(Diagnostic::value).unwrap() as f32;
        assert_eq!((value(UhstDiagnostics::PEERS), value(UhstDiagnostics::DIRECT_PEERS)), (2.0, 1.0));
        assert!(near(value(UhstDiagnostics::LOST), 4.0) && near(value(UhstDiagnostics::SENT_BYTES), 4000.0));

        next_second(&mut app);
        assert_eq!(rates(&app, first), Some(Rates::default()));
    }
}
