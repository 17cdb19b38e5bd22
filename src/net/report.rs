//! What a session says of bad input: each kind once, so that who sends it cannot flood the log.

use std::collections::HashSet;

use super::contract::{Event, EventKind, SessionKey};

/// A kind of bad input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Nonsense {
    /// An event of the relay's stream that cannot be read.
    Event,
    /// A message without a token that says who sent it.
    Token,
    /// A message that is none of any dialect.
    Body,
    /// A packet of nobody we know.
    Packet,
    /// WebRTC signalling of an original, where only the relay is allowed.
    Signal,
    /// A message of an original, whom this session cannot let in.
    Plain,
}

/// Reports each kind of nonsense once a session.
#[derive(Debug)]
pub(super) struct Reports {
    session: SessionKey,
    events: crossbeam_channel::Sender<Event>,
    seen: HashSet<Nonsense>,
}

impl Reports {
    pub fn new(session: SessionKey, events: crossbeam_channel::Sender<Event>) -> Self {
        Reports { session, events, seen: HashSet::new() }
    }

    /// Tells the developer, unless this kind was told before.
    pub fn once(&mut self, kind: Nonsense, text: impl FnOnce() -> String) {
        if self.seen.insert(kind) {
            self.say(text());
        }
    }

    /// Tells the developer.
    pub fn say(&self, text: String) {
        let kind = EventKind::Diagnostic { peer: None, text };
        let _ = self.events.send(Event { session: self.session, kind });
    }
}
