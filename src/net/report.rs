//! Reports bad input to the app: each kind once, so that its sender cannot flood the log.

use std::collections::HashSet;

use super::contract::{Event, EventKind, SessionKey};

/// A kind of bad input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BadInput {
    /// An event of the relay's stream that cannot be read.
    Event,
    /// A message without a token that names its sender.
    Token,
    /// A message of no dialect.
    Body,
    /// A packet of an unknown peer.
    Packet,
    /// A transport of an original that this session does not allow.
    Transport,
    /// A message of an original that this session cannot admit.
    Original,
}

/// Sends the diagnostics of one session to the app.
#[derive(Debug)]
pub(super) struct Reporter {
    session: SessionKey,
    events: crossbeam_channel::Sender<Event>,
    reported: HashSet<BadInput>,
}

impl Reporter {
    pub fn new(session: SessionKey, events: crossbeam_channel::Sender<Event>) -> Self {
        Reporter { session, events, reported: HashSet::new() }
    }

    /// Reports bad input, unless its kind is reported already.
    pub fn report_once(&mut self, kind: BadInput, text: impl FnOnce() -> String) {
        if self.reported.insert(kind) {
            self.report(text());
        }
    }

    /// Reports a diagnostic.
    pub fn report(&self, text: String) {
        let kind = EventKind::Diagnostic { peer: None, text };
        let _ = self.events.send(Event { session: self.session, kind });
    }
}
