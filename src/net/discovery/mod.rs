//! Discovers sessions on the local network by mDNS: hosts announce them, browsers list them.
//!
//! This file is the contract with the ECS. Each announcement and each browser has its own daemon, so that dropping the handle
//! ends it, and a flood against one does not affect the others.

mod announce;
mod browse;
mod daemon;
mod listing;
mod reach;

use std::{net::IpAddr, time::Duration};

pub(super) use announce::run as run_announcement;
pub(super) use browse::run as run_browser;
use crossbeam_channel::TryRecvError;
use tokio::sync::{mpsc, watch};

use super::relay_options::Relay;
use crate::protocol::{Announcement, JoinLink};

/// The networks on which sessions are announced and searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discovery {
    /// Every network of this machine that carries multicast, and the machine itself.
    #[default]
    LocalNetwork,
    /// This machine alone, for tests. No packet leaves it. Hosts repeat their announcements every second instead of every
    /// ten, and browsers drop a session after 4 seconds of silence instead of 25.
    ThisMachine,
}

/// The intervals of announcements and browsers.
#[derive(Clone, Copy, Debug)]
struct Intervals {
    /// The interval of announcements. A host that was killed sends no goodbye; only its silence shows the end.
    beat: Duration,
    /// The silence after which a session is removed from the list. Each announcement is sent twice, so this tolerates the
    /// loss of four packets in a row.
    silence: Duration,
    /// The pause after a daemon was flooded, or could not start.
    pause: Duration,
    /// The interval of a browser's checks for silent sessions and a flooded daemon.
    tick: Duration,
}

impl Intervals {
    /// The intervals of a scope. Packets within one machine are not lost and cost little, so its intervals are shorter.
    const fn of(scope: Discovery) -> Self {
        let (beat, silence, tick) = match scope {
            Discovery::LocalNetwork => (10_000, 25_500, 1_000),
            Discovery::ThisMachine => (1_000, 4_000, 100),
        };
        let beat = Duration::from_millis(beat);
        Intervals { beat, silence: Duration::from_millis(silence), pause: beat, tick: Duration::from_millis(tick) }
    }
}

/// The relay of an announced session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RelayPlace {
    /// The relay is on this machine.
    Here {
        /// The address. An unspecified one means all addresses of its family, and the IPv6 one includes IPv4.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// The relay is elsewhere, and the announcement names its URL.
    Elsewhere {
        /// The port of the URL.
        port: u16,
    },
}

impl RelayPlace {
    /// The place of the host with these links, and the URL to announce if the relay is elsewhere. Returns `None` for a host
    /// that no other process can join.
    pub fn of(relay: &Relay, links: &[JoinLink]) -> Option<(Self, Option<url::Url>)> {
        let url = links.first()?.relay.as_ref()?;
        let port = url.port_or_known_default()?;
        match relay {
            Relay::Embedded(embedded) => Some((RelayPlace::Here { address: embedded.bind.ip(), port }, None)),
            Relay::Url(_) | Relay::Directory(_) => Some((RelayPlace::Elsewhere { port }, Some(url.clone()))),
            Relay::Memory(_) => None,
        }
    }
}

/// The announcements of an app.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// Ends all announcements when dropped.
    open: watch::Sender<()>,
    /// One for each announcement without a goodbye, disconnected once the goodbye is sent.
    goodbyes: Vec<crossbeam_channel::Receiver<()>>,
}

impl Announcements {
    /// Adds an announcement. Returns its handle, and the state for its task.
    pub fn begin(&mut self, first: Announcement) -> (AnnounceHandle, AnnounceTask) {
        let (latest, receiver) = watch::channel(first);
        let (sender, goodbye) = crossbeam_channel::bounded(0);
        self.goodbyes.retain(|goodbye| goodbye.try_recv() == Err(TryRecvError::Empty));
        self.goodbyes.push(goodbye);
        let task = AnnounceTask { latest: receiver, open: self.open.subscribe(), _goodbye: sender };
        (AnnounceHandle { latest }, task)
    }

    /// Makes all announcements send their goodbye, also those whose handle was dropped just now. Each receiver is
    /// disconnected once a goodbye is sent.
    pub fn withdraw(&mut self) -> Vec<crossbeam_channel::Receiver<()>> {
        self.open = watch::Sender::default();
        std::mem::take(&mut self.goodbyes)
    }
}

/// The state of an announcement's task. Dropping it shows that the goodbye is sent.
#[derive(Debug)]
pub(crate) struct AnnounceTask {
    /// The current announcement. Closed when the handle is dropped.
    pub latest: watch::Receiver<Announcement>,
    /// Closed when all announcements are withdrawn.
    pub open: watch::Receiver<()>,
    _goodbye: crossbeam_channel::Sender<()>,
}

/// A running announcement. Dropping it sends the goodbye.
#[derive(Debug)]
pub(crate) struct AnnounceHandle {
    latest: watch::Sender<Announcement>,
}

impl AnnounceHandle {
    /// Changes the announcement. An equal one has no cost.
    pub fn update(&self, announcement: Announcement) {
        self.latest.send_if_modified(|latest| {
            let changed = *latest != announcement;
            *latest = announcement;
            changed
        });
    }
}

/// Identifies a session within its browser. Keys are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FoundKey(pub u64);

/// A session found on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundSession {
    /// The host's announcement.
    pub announcement: Announcement,
    /// The link to join it from this machine.
    pub link: JoinLink,
}

/// An event of a browser.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BrowseEvent {
    /// A session appeared or changed.
    Listed(FoundKey, Box<FoundSession>),
    /// A session is gone.
    Lost(FoundKey),
    /// A note for the developer.
    Diagnostic(String),
}

/// The limit on the sessions that a browser lists.
pub(crate) const MAX_FOUND: usize = 256;

/// A running browser. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct BrowseHandle {
    /// The events, never much more than [`MAX_FOUND`] at a time.
    pub events: crossbeam_channel::Receiver<BrowseEvent>,
    _alive: mpsc::Sender<()>,
}

impl BrowseHandle {
    /// Creates a handle. Returns the sender of events for the task, and a receiver that closes when the handle is dropped.
    pub fn new() -> (Self, crossbeam_channel::Sender<BrowseEvent>, mpsc::Receiver<()>) {
        let (sender, events) = crossbeam_channel::unbounded();
        let (alive, dropped) = mpsc::channel(1);
        (BrowseHandle { events, _alive: alive }, sender, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{EmbeddedRelay, MemoryRelay};

    fn links(url: &str) -> Vec<JoinLink> {
        vec![JoinLink::new(url.parse().ok(), "1".to_owned())]
    }

    #[test]
    fn an_embedded_relay_is_announced_by_its_machine_and_port() {
        let relay = Relay::Embedded(EmbeddedRelay::default());
        let place = RelayPlace::Here { address: std::net::Ipv6Addr::UNSPECIFIED.into(), port: 3001 };
        assert_eq!(RelayPlace::of(&relay, &links("http://192.168.1.5:3001/")), Some((place, None)));
    }

    #[test]
    fn another_relay_is_announced_by_its_url() {
        let url: url::Url = "https://relay.example.com/".parse().unwrap();
        let relay = Relay::Url(url.to_string());
        assert_eq!(
            RelayPlace::of(&relay, &links(url.as_str())),
            Some((RelayPlace::Elsewhere { port: 443 }, Some(url)))
        );
    }

    #[test]
    fn a_session_that_no_other_process_can_join_is_not_announced() {
        assert_eq!(RelayPlace::of(&Relay::Memory(MemoryRelay::default()), &links("memory:/")), None);
        assert_eq!(RelayPlace::of(&Relay::default(), &[]), None);
    }
}
