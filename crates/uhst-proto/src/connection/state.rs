//! The states of a connection.

use core::time::Duration;

use super::{
    Timestamp,
    client_handshake::ClientHandshake,
    closing::Closing,
    host_handshake::{HostHandshake, Refusal},
};
use crate::protocol::EndReason;

/// The state of a connection.
#[derive(Debug)]
pub(super) enum State {
    /// Client: waits for the host's welcome.
    Joining(ClientHandshake),
    /// Host: waits for the client to prove the password, then for the game's decision.
    Admitting(HostHandshake),
    /// Host: repeats the refusal for each further copy of the client's packets.
    Refused {
        refusal: Refusal,
        until: Timestamp,
        reason: EndReason,
        /// Whether this side has closed, and waits only until the refusal is sent.
        leaving: bool,
    },
    /// Messages flow. A host keeps the handshake until the client shows that it has received the welcome.
    Open { handshake: Option<HostHandshake> },
    /// This side has closed, and drains its queues or waits for the peer's confirmation.
    Closing(Closing),
    /// The connection has ended.
    Closed(EndReason),
}

impl State {
    /// Whether the peer is admitted, and neither side has closed.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, State::Open { .. })
    }

    /// Whether packets of an open connection are exchanged.
    pub(super) fn is_established(&self) -> bool {
        matches!(self, State::Open { .. } | State::Closing(_))
    }

    /// Excludes a time in which this side was suspended from all deadlines.
    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        match self {
            State::Joining(handshake) => handshake.slept(time),
            State::Admitting(handshake) => handshake.slept(time),
            State::Refused { until, .. } => *until += time,
            State::Closing(closing) => closing.slept(time, now),
            State::Open { .. } | State::Closed(_) => {}
        }
    }
}
