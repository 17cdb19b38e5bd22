//! What a browser lists: bounded, whatever is announced, and told no faster than it is taken.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use n0_future::time::Instant;

use super::{BrowseEvent, FoundKey, FoundSession, MAX_FOUND};

/// What a developer is told once a browser, so that who causes it cannot flood the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trouble {
    /// An announcement that cannot be read.
    Malformed,
    /// More sessions than are listed.
    Crowded,
    /// More records than an honest network has.
    Flooded,
    /// No daemon.
    NotStarted,
}

/// The sessions a browser knows of.
pub(super) struct Listing {
    events: crossbeam_channel::Sender<BrowseEvent>,
    /// How long a session may be silent.
    silence: Duration,
    entries: HashMap<String, Entry>,
    last_key: u64,
    reported: HashSet<Trouble>,
}

struct Entry {
    key: FoundKey,
    session: FoundSession,
    heard: Instant,
    /// Whether the other side knows of it.
    told: bool,
    news: Option<News>,
}

/// What is still to be told of a session.
#[derive(Clone, Copy)]
enum News {
    Listed,
    Lost,
}

impl Listing {
    pub fn new(events: crossbeam_channel::Sender<BrowseEvent>, silence: Duration) -> Self {
        Listing { events, silence, entries: HashMap::new(), last_key: 0, reported: HashSet::new() }
    }

    /// The service of this name announces this.
    pub fn heard(&mut self, name: &str, session: FoundSession, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.heard = now;
            if entry.session != session || matches!(entry.news, Some(News::Lost)) {
                entry.session = session;
                entry.news = Some(News::Listed);
            }
            return;
        }
        if self.entries.len() >= MAX_FOUND {
            return self.once(Trouble::Crowded, || {
                format!("more than {MAX_FOUND} sessions are announced on this network: the others are not listed")
            });
        }
        self.last_key += 1;
        let key = FoundKey(self.last_key);
        let entry = Entry { key, session, heard: now, told: false, news: Some(News::Listed) };
        self.entries.insert(name.to_owned(), entry);
    }

    /// The service of this name is gone.
    pub fn gone(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.news = Some(News::Lost);
        }
    }

    /// Takes off what has not been heard of for too long.
    pub fn expire(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            if now.saturating_duration_since(entry.heard) > self.silence {
                entry.news = Some(News::Lost);
            }
        }
    }

    /// Tells the news, as far as the last ones have been taken.
    pub fn flush(&mut self) {
        let events = &self.events;
        self.entries.retain(|_, entry| {
            let Some(news) = entry.news else { return true };
            if let News::Lost = news
                && !entry.told
            {
                return false;
            }
            if events.len() >= MAX_FOUND {
                return true;
            }
            entry.news = None;
            match news {
                News::Listed => {
                    entry.told = true;
                    let _ = events.send(BrowseEvent::Listed(entry.key, Box::new(entry.session.clone())));
                    true
                }
                News::Lost => {
                    let _ = events.send(BrowseEvent::Lost(entry.key));
                    false
                }
            }
        });
    }

    /// Tells the developer, unless this kind of trouble was told before.
    pub fn once(&mut self, trouble: Trouble, text: impl FnOnce() -> String) {
        if self.reported.insert(trouble) {
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
        FoundSession { announcement, link: JoinLink { relay: None, id: "1".to_owned() } }
    }

    fn listed(key: FoundKey, name: &str) -> BrowseEvent {
        BrowseEvent::Listed(key, Box::new(session(name)))
    }

    fn listing() -> (Listing, crossbeam_channel::Receiver<BrowseEvent>, Instant) {
        let (sender, events) = crossbeam_channel::unbounded();
        (Listing::new(sender, SILENCE), events, Instant::now())
    }

    fn news(listing: &mut Listing, events: &crossbeam_channel::Receiver<BrowseEvent>) -> Vec<BrowseEvent> {
        listing.flush();
        events.try_iter().collect()
    }

    #[test]
    fn a_session_is_listed_changed_and_lost_under_one_key() {
        let (mut listing, events, now) = listing();
        listing.heard("a", session("one"), now);
        assert_eq!(news(&mut listing, &events), [listed(FoundKey(1), "one")]);
        // The same again is no news.
        listing.heard("a", session("one"), now);
        assert_eq!(news(&mut listing, &events), []);
        listing.heard("a", session("two"), now);
        assert_eq!(news(&mut listing, &events), [listed(FoundKey(1), "two")]);
        listing.gone("a");
        assert_eq!(news(&mut listing, &events), [BrowseEvent::Lost(FoundKey(1))]);
        listing.gone("a");
        assert_eq!(news(&mut listing, &events), []);
        listing.heard("a", session("two"), now);
        assert_eq!(news(&mut listing, &events), [listed(FoundKey(2), "two")]);
    }

    #[test]
    fn a_session_that_falls_silent_is_lost() {
        let (mut listing, events, now) = listing();
        listing.heard("a", session("one"), now);
        listing.heard("b", session("two"), now);
        news(&mut listing, &events);
        listing.heard("b", session("two"), now + SILENCE);
        listing.expire(now + SILENCE);
        assert_eq!(news(&mut listing, &events), []);
        listing.expire(now + SILENCE + Duration::from_secs(1));
        assert_eq!(news(&mut listing, &events), [BrowseEvent::Lost(FoundKey(1))]);
    }

    #[test]
    fn a_crowd_is_listed_up_to_the_limit_and_said_once() {
        let (mut listing, events, now) = listing();
        for number in 0..10 * MAX_FOUND {
            listing.heard(&number.to_string(), session("one"), now);
            listing.flush();
        }
        let told: Vec<_> = events.try_iter().collect();
        let count = told.iter().filter(|event| matches!(event, BrowseEvent::Listed(..))).count();
        assert_eq!((count, told.len()), (MAX_FOUND, MAX_FOUND + 1));
        // One place is free again.
        listing.gone("0");
        listing.flush();
        listing.heard("new", session("new"), now);
        assert_eq!(news(&mut listing, &events).len(), 2);
    }

    #[test]
    fn who_does_not_listen_has_a_bounded_queue_and_hears_the_latest_in_the_end() {
        let (mut listing, events, now) = listing();
        for round in 0..1000 {
            for name in ["a", "b"] {
                listing.heard(name, session(&round.to_string()), now);
                listing.flush();
            }
        }
        assert!(events.len() <= MAX_FOUND + 1);
        let mut last = HashMap::new();
        for event in events.try_iter().collect::<Vec<_>>().into_iter().chain(news(&mut listing, &events)) {
            if let BrowseEvent::Listed(key, session) = event {
                last.insert(key, session.announcement.name);
            }
        }
        assert_eq!(last, HashMap::from([(FoundKey(1), "999".to_owned()), (FoundKey(2), "999".to_owned())]));
    }

    #[test]
    fn what_was_lost_before_it_was_told_is_not_told() {
        let (mut listing, events, now) = listing();
        listing.heard("a", session("one"), now);
        listing.gone("a");
        assert_eq!(news(&mut listing, &events), []);
        assert!(listing.entries.is_empty());
    }
}
