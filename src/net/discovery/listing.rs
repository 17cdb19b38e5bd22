//! The list of a browser. It is bounded, and reports changes no faster than they are read.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use n0_future::time::Instant;

use super::{BrowseEvent, FoundKey, FoundSession, MAX_FOUND};

/// A problem that is reported once per browser, so that its cause cannot flood the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Problem {
    /// An announcement cannot be read.
    Malformed,
    /// More sessions are announced than are listed.
    Crowded,
    /// More records are announced than an honest network has.
    Flooded,
    /// The daemon cannot start.
    NotStarted,
}

/// The sessions that a browser lists.
pub(super) struct Listing {
    events: crossbeam_channel::Sender<BrowseEvent>,
    /// The silence after which a session is removed.
    silence: Duration,
    entries: HashMap<String, Entry>,
    last_key: u64,
    reported: HashSet<Problem>,
}

struct Entry {
    key: FoundKey,
    session: FoundSession,
    last_announced: Instant,
    /// Whether the session was reported.
    reported: bool,
    change: Option<Change>,
}

/// A change that is not reported yet.
#[derive(Clone, Copy)]
enum Change {
    Listed,
    Lost,
}

impl Listing {
    pub fn new(events: crossbeam_channel::Sender<BrowseEvent>, silence: Duration) -> Self {
        Listing { events, silence, entries: HashMap::new(), last_key: 0, reported: HashSet::new() }
    }

    /// Records the announcement of the service of this name.
    pub fn announced(&mut self, name: &str, session: FoundSession, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.last_announced = now;
            if entry.session != session || matches!(entry.change, Some(Change::Lost)) {
                entry.session = session;
                entry.change = Some(Change::Listed);
            }
            return;
        }
        if self.entries.len() >= MAX_FOUND {
            return self.report_once(Problem::Crowded, || {
                format!("more than {MAX_FOUND} sessions are announced on this network: the others are not listed")
            });
        }
        self.last_key += 1;
        let key = FoundKey(self.last_key);
        let change = Some(Change::Listed);
        let entry = Entry { key, session, last_announced: now, reported: false, change };
        self.entries.insert(name.to_owned(), entry);
    }

    /// Removes the service of this name.
    pub fn removed(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.change = Some(Change::Lost);
        }
    }

    /// Removes the services that have been silent for too long.
    pub fn expire(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            if now.saturating_duration_since(entry.last_announced) > self.silence {
                entry.change = Some(Change::Lost);
            }
        }
    }

    /// Reports the changes, while the queue has room.
    pub fn flush(&mut self) {
        let events = &self.events;
        self.entries.retain(|_, entry| {
            let Some(change) = entry.change else { return true };
            if let Change::Lost = change
                && !entry.reported
            {
                return false;
            }
            if events.len() >= MAX_FOUND {
                return true;
            }
            entry.change = None;
            match change {
                Change::Listed => {
                    entry.reported = true;
                    let _ = events.send(BrowseEvent::Listed(entry.key, Box::new(entry.session.clone())));
                    true
                }
                Change::Lost => {
                    let _ = events.send(BrowseEvent::Lost(entry.key));
                    false
                }
            }
        });
    }

    /// Reports a problem, unless it is reported already.
    pub fn report_once(&mut self, problem: Problem, text: impl FnOnce() -> String) {
        if self.reported.insert(problem) {
            let _ = self.events.send(BrowseEvent::Diagnostic(text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Announcement, JoinLink};

    const SILENCE: Duration = Duration::from_secs(25);

    fn session(name: &str) -> FoundSession {
        let announcement = Announcement {
            game: "game".to_owned(),
            name: name.to_owned(),
            id: "1".to_owned(),
            players: 1,
            limit: 2,
            password: false,
            relay: None,
        };
        FoundSession { announcement, link: JoinLink::new(None, "1".to_owned()) }
    }

    fn listed(key: FoundKey, name: &str) -> BrowseEvent {
        BrowseEvent::Listed(key, Box::new(session(name)))
    }

    fn listing() -> (Listing, crossbeam_channel::Receiver<BrowseEvent>, Instant) {
        let (sender, events) = crossbeam_channel::unbounded();
        (Listing::new(sender, SILENCE), events, Instant::now())
    }

    fn changes(listing: &mut Listing, events: &crossbeam_channel::Receiver<BrowseEvent>) -> Vec<BrowseEvent> {
        listing.flush();
        events.try_iter().collect()
    }

    #[test]
    fn a_session_is_listed_changed_and_lost_under_one_key() {
        let (mut listing, events, now) = listing();
        listing.announced("a", session("one"), now);
        assert_eq!(changes(&mut listing, &events), [listed(FoundKey(1), "one")]);
        // An equal announcement is no change.
        listing.announced("a", session("one"), now);
        assert_eq!(changes(&mut listing, &events), []);
        listing.announced("a", session("two"), now);
        assert_eq!(changes(&mut listing, &events), [listed(FoundKey(1), "two")]);
        listing.removed("a");
        assert_eq!(changes(&mut listing, &events), [BrowseEvent::Lost(FoundKey(1))]);
        listing.removed("a");
        assert_eq!(changes(&mut listing, &events), []);
        listing.announced("a", session("two"), now);
        assert_eq!(changes(&mut listing, &events), [listed(FoundKey(2), "two")]);
    }

    #[test]
    fn a_session_that_falls_silent_is_lost() {
        let (mut listing, events, now) = listing();
        listing.announced("a", session("one"), now);
        listing.announced("b", session("two"), now);
        changes(&mut listing, &events);
        listing.announced("b", session("two"), now + SILENCE);
        listing.expire(now + SILENCE);
        assert_eq!(changes(&mut listing, &events), []);
        listing.expire(now + SILENCE + Duration::from_secs(1));
        assert_eq!(changes(&mut listing, &events), [BrowseEvent::Lost(FoundKey(1))]);
    }

    #[test]
    fn sessions_are_listed_up_to_the_limit_and_the_excess_is_reported_once() {
        let (mut listing, events, now) = listing();
        for number in 0..10 * MAX_FOUND {
            listing.announced(&number.to_string(), session("one"), now);
            listing.flush();
        }
        let reported: Vec<_> = events.try_iter().collect();
        let count = reported.iter().filter(|event| matches!(event, BrowseEvent::Listed(..))).count();
        assert_eq!((count, reported.len()), (MAX_FOUND, MAX_FOUND + 1));
        // One entry is free again.
        listing.removed("0");
        listing.flush();
        listing.announced("new", session("new"), now);
        assert_eq!(changes(&mut listing, &events).len(), 2);
    }

    #[test]
    fn a_slow_reader_has_a_bounded_queue_and_receives_the_latest_state() {
        let (mut listing, events, now) = listing();
        for round in 0..1000 {
            for name in ["a", "b"] {
                listing.announced(name, session(&round.to_string()), now);
                listing.flush();
            }
        }
        assert!(events.len() <= MAX_FOUND + 1);
        let mut last = HashMap::new();
        for event in events.try_iter().collect::<Vec<_>>().into_iter().chain(changes(&mut listing, &events)) {
            if let BrowseEvent::Listed(key, session) = event {
                last.insert(key, session.announcement.name);
            }
        }
        assert_eq!(last, HashMap::from([(FoundKey(1), "999".to_owned()), (FoundKey(2), "999".to_owned())]));
    }

    #[test]
    fn a_session_that_is_lost_before_its_report_is_not_reported() {
        let (mut listing, events, now) = listing();
        listing.announced("a", session("one"), now);
        listing.removed("a");
        assert_eq!(changes(&mut listing, &events), []);
        assert!(listing.entries.is_empty());
    }
}
