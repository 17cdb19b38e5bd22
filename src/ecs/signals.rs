//! Signals that ask a process to stop, as [`AppExit`].

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bevy::{
    app::{AppExit, TerminalCtrlCHandlerPlugin},
    prelude::*,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

/// Which signals have come.
#[derive(Resource, Default)]
struct Signals {
    stop: Arc<AtomicBool>,
    interrupt: Arc<AtomicBool>,
}

/// Turns SIGTERM, SIGHUP and SIGINT into [`AppExit`].
///
/// It runs once all plugins are added: then it is known whether Bevy itself takes SIGINT.
pub(super) fn exit_on_signals(app: &mut App) {
    let signals = Signals::default();
    let mut watched = vec![(SIGTERM, &signals.stop), (SIGHUP, &signals.stop)];
    if !app.is_plugin_added::<TerminalCtrlCHandlerPlugin>() {
        watched.push((SIGINT, &signals.interrupt));
    }
    for (signal, flag) in watched {
        // A second signal ends a process that hangs in its first.
        let code = 128 + signal;
        let registered = flag::register_conditional_shutdown(signal, code, flag.clone())
            .and_then(|_| flag::register(signal, flag.clone()));
        if let Err(error) = registered {
            tracing::warn!("signal {signal} ends this app without a goodbye: {error}");
        }
    }
    app.insert_resource(signals).add_systems(First, exit);
}

fn exit(signals: Res<Signals>, mut exits: MessageWriter<AppExit>) {
    if signals.stop.load(Ordering::Relaxed) {
        exits.write(AppExit::Success);
    } else if signals.interrupt.load(Ordering::Relaxed) {
        // As Bevy's own plugin does.
        exits.write(AppExit::from_code(130));
    }
}
