//! Errors of sending, and why they do not stop a game.

use bevy::ecs::error::{self, BevyError, ErrorContext, FallbackErrorHandler, Severity};
use bevy::prelude::*;

use crate::net::SendError;

/// How many peers a broadcast was sent to, and how many missed it.
///
/// It may be ignored. A peer that misses a broadcast is reported once, as a [`UhstDiagnostic`](super::UhstDiagnostic), and
/// ends when it does not [catch up](crate::ConnectionConfig::catch_up_timeout); the others get everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BroadcastReport {
    /// How many peers it was meant for.
    pub peers: usize,
    /// How many of them missed it.
    pub missed: usize,
    /// Why the first of those missed it.
    pub cause: Option<SendError>,
}

impl BroadcastReport {
    /// Whether nobody missed it.
    pub fn is_complete(&self) -> bool {
        self.missed == 0
    }

    pub(super) fn count(&mut self, sent: Result<(), SendError>) {
        self.peers += 1;
        match sent {
            // One that is about to be gone misses nothing that it was meant to get.
            Ok(()) | Err(SendError::Disconnected) => {}
            Err(cause) => {
                self.missed += 1;
                self.cause.get_or_insert(cause);
            }
        }
    }
}

/// Only a host removes players with words of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only a host removes a peer: a client leaves with `UhstClient::leave`, or ends with `UhstPeer::disconnect`")]
pub struct NotHost;

/// Logs sends that failed in a system that returns the error with `?`; all else stays as Bevy does it.
///
/// Bevy's default is to panic, but a slow peer must not end the host's game. Does nothing if the app has chosen a
/// handler of its own.
pub(super) fn handle_send_errors(world: &mut World) {
    world.get_resource_or_insert_with(|| FallbackErrorHandler(warn_of_send_errors));
}

fn warn_of_send_errors(error: BevyError, context: ErrorContext) {
    // A severity that the game chose stays.
    if error.is::<SendError>() && matches!(error.severity(), Severity::Panic) {
        error::warn(error, context);
    } else {
        error::match_severity(error, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("something else")]
    struct Other;

    fn run_with(plugin: crate::UhstPlugin, system: fn() -> Result) {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, plugin)).add_systems(Update, system);
        app.update();
    }

    fn run(system: fn() -> Result) {
        run_with(crate::UhstPlugin::default(), system);
    }

    #[test]
    fn a_failed_send_does_not_stop_the_app() {
        run(|| -> Result { Err(SendError::Disconnected.into()) });
    }

    #[test]
    #[should_panic(expected = "this peer is gone")]
    fn an_app_may_keep_the_handler_of_bevy() {
        let plugin = crate::UhstPlugin::default().keep_error_handler();
        run_with(plugin, || -> Result { Err(SendError::Disconnected.into()) });
    }

    #[test]
    #[should_panic(expected = "something else")]
    fn other_errors_stay_as_they_are() {
        run(|| -> Result { Err(Other.into()) });
    }
}
