//! Errors of sending, and why they do not stop a game.

use bevy::ecs::error::{self, BevyError, ErrorContext, FallbackErrorHandler, Severity};
use bevy::prelude::*;

use crate::net::SendError;

/// A broadcast that did not reach everyone. The peers that are not counted here got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missed} of {peers} peers missed a message: {cause}")]
pub struct BroadcastError {
    /// How many peers it was not sent to.
    pub missed: usize,
    /// How many peers it was meant for.
    pub peers: usize,
    /// Why the first of them missed it.
    pub cause: SendError,
}

/// Counts the sends of a broadcast.
#[derive(Debug, Default)]
pub(super) struct Tally {
    peers: usize,
    missed: usize,
    first: Option<SendError>,
}

impl Tally {
    pub fn count(&mut self, sent: Result<(), SendError>) {
        self.peers += 1;
        match sent {
            // One that is about to be gone misses nothing that it was meant to get.
            Ok(()) | Err(SendError::Disconnected) => {}
            Err(cause) => {
                self.missed += 1;
                self.first.get_or_insert(cause);
            }
        }
    }

    pub fn result(self) -> Result<(), BroadcastError> {
        let Tally { peers, missed, first } = self;
        first.map_or(Ok(()), |cause| Err(BroadcastError { missed, peers, cause }))
    }
}

/// Logs sends that failed in a system that returns the error with `?`; all else stays as Bevy does it.
///
/// Bevy's default is to panic, but a slow peer must not end the host's game. Does nothing if the app has chosen a
/// handler of its own.
pub(super) fn handle_send_errors(world: &mut World) {
    world.get_resource_or_insert_with(|| FallbackErrorHandler(warn_of_send_errors));
}

fn warn_of_send_errors(error: BevyError, context: ErrorContext) {
    // A severity that the game chose stays.
    let ours = error.is::<SendError>() || error.is::<BroadcastError>();
    if ours && matches!(error.severity(), Severity::Panic) {
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

    fn run(system: fn() -> Result) {
        let mut app = App::new();
        app.add_systems(PreStartup, handle_send_errors).add_systems(Update, system);
        app.update();
    }

    #[test]
    fn a_failed_send_does_not_stop_the_app() {
        run(|| -> Result { Err(SendError::Disconnected.into()) });
        run(|| -> Result { Err(BroadcastError { missed: 1, peers: 2, cause: SendError::Disconnected }.into()) });
    }

    #[test]
    #[should_panic(expected = "something else")]
    fn other_errors_stay_as_they_are() {
        run(|| -> Result { Err(Other.into()) });
    }
}
