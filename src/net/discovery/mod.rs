//! Sessions on the local network, by mDNS: hosts announce theirs, browsers list what is around.
//!
//! This file is the contract with the ECS. Each announcement and each browser has a daemon of its own, so that ending
//! one is dropping its handle, and what a stranger sends to one does not trouble the others.

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

/// Which networks are told of sessions, and asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discovery {
    /// Every network this machine is on that carries multicast, and the machine itself.
    #[default]
    LocalNetwork,
    /// This machine alone: nothing leaves it. Tests are short: hosts repeat their announcements every second instead of
    /// every ten, and browsers drop a session after 4 seconds of silence instead of 25.
    ThisMachine,
}

/// The times of announcements and lists.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    /// How often a host repeats its announcement. A host that was killed says no goodbye: its silence is what tells.
    beat: Duration,
    /// How long a session may be silent before it is taken off the list. Each beat is sent twice, so this forgives the
    /// loss of four packets in a row.
    silence: Duration,
    /// How long to wait after a daemon was flooded, or could not start.
    pause: Duration,
    /// How often a browser looks for silent sessions, and whether its daemon is flooded.
    tick: Duration,
}

impl Rhythm {
    /// The intervals of a scope. Packets within one machine are not lost and cost little, so its intervals are shorter.
    const fn of(scope: Discovery) -> Self {
        let (beat, silence, tick) = match scope {
            Discovery::LocalNetwork => (10_000, 25_500, 1_000),
            Discovery::ThisMachine => (1_000, 4_000, 100),
        };
        let beat = Duration::from_millis(beat);
        Rhythm { beat, silence: Duration::from_millis(silence), pause: beat, tick: Duration::from_millis(tick) }
    }
}

/// Where joiners find an announced session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine, at this port of this address, or of all that it has.
    Here {
        /// The address; an unspecified one stands for all of its family, and all IPv6 ones for IPv4 too.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// On a relay elsewhere, which the announcement names. The port is that of its URL.
    There {
        /// The port.
        port: u16,
    },
}

impl Place {
    /// Where a host listens that has these links, with the relay to name where it is not the host itself; nothing
    /// for one that no other process can join.
    pub fn of(relay: &Relay, links: &[JoinLink]) -> Option<(Self, Option<url::Url>)> {
        let url = links.first()?.relay.as_ref()?;
        let port = url.port_or_known_default()?;
        match relay {
            Relay::Embedded(embedded) => Some((Place::Here { address: embedded.bind.ip(), port }, None)),
            Relay::Url(_) | Relay::Directory(_) => Some((Place::There { port }, Some(url.clone()))),
            Relay::Memory(_) => None,
        }
    }
}

/// The announcements of an app, which end with it at the latest.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// Dropped, it ends them all.
    open: watch::Sender<()>,
    /// Of each that has not said its goodbye: disconnected when that is said.
    unsaid: Vec<crossbeam_channel::Receiver<()>>,
}

impl Announcements {
    /// One more: a handle, and what its task holds.
    pub fn begin(&mut self, first: Announcement) -> (AnnounceHandle, AnnounceTask) {
        let (latest, receiver) = watch::channel(first);
        let (saying, unsaid) = crossbeam_channel::bounded(0);
        self.unsaid.retain(|unsaid| unsaid.try_recv() == Err(TryRecvError::Empty));
        self.unsaid.push(unsaid);
        let task = AnnounceTask { latest: receiver, open: self.open.subscribe(), _saying: saying };
        (AnnounceHandle { latest }, task)
    }

    /// Has all say goodbye, also those whose handle was dropped just now. What it returns is disconnected when that is
    /// said.
    pub fn withdraw(&mut self) -> Vec<crossbeam_channel::Receiver<()>> {
        self.open = watch::Sender::default();
        std::mem::take(&mut self.unsaid)
    }
}

/// What the task of an announcement holds. Dropped when the goodbye is said.
#[derive(Debug)]
pub(crate) struct AnnounceTask {
    /// What to announce, until the handle is dropped.
    pub latest: watch::Receiver<Announcement>,
    /// Closed when all announcements are taken back.
    pub open: watch::Receiver<()>,
    _saying: crossbeam_channel::Sender<()>,
}

/// A running announcement. Dropping it says goodbye.
#[derive(Debug)]
pub(crate) struct AnnounceHandle {
    latest: watch::Sender<Announcement>,
}

impl AnnounceHandle {
    /// Announces this from now on. What has not changed costs nothing.
    pub fn update(&self, announcement: Announcement) {
        self.latest.send_if_modified(|latest| {
            let changed = *latest != announcement;
            *latest = announcement;
            changed
        });
    }
}

/// Names a session within its browser; never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FoundKey(pub u64);

/// A session that can be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundSession {
    /// What its host says of it.
    pub announcement: Announcement,
    /// How to join it from here.
    pub link: JoinLink,
}

/// News from a browser.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BrowseEvent {
    /// A session is there, or not as it was.
    Listed(FoundKey, Box<FoundSession>),
    /// A session is gone.
    Lost(FoundKey),
    /// Something a developer wants to know.
    Diagnostic(String),
}

/// How many sessions a browser lists. More than this is no game night.
pub(crate) const MAX_FOUND: usize = 256;

/// A running browser. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct BrowseHandle {
    /// What it has to say; never much more than [`MAX_FOUND`] events, however slowly they are taken.
    pub events: crossbeam_channel::Receiver<BrowseEvent>,
    _alive: mpsc::Sender<()>,
}

impl BrowseHandle {
    /// A handle, and the ends for the task: where news go, and what closes when the handle is dropped.
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
        vec![JoinLink { relay: url.parse().ok(), id: "1".to_owned() }]
    }

    #[test]
    fn an_embedded_relay_is_announced_by_its_machine_and_port() {
        let relay = Relay::Embedded(EmbeddedRelay::default());
        let place = Place::Here { address: std::net::Ipv6Addr::UNSPECIFIED.into(), port: 3001 };
        assert_eq!(Place::of(&relay, &links("http://192.168.1.5:3001/")), Some((place, None)));
    }

    #[test]
    fn another_relay_is_announced_by_its_url() {
        let url: url::Url = "https://relay.example.com/".parse().unwrap();
        let relay = Relay::Url(url.to_string());
        assert_eq!(Place::of(&relay, &links(url.as_str())), Some((Place::There { port: 443 }, Some(url))));
    }

    #[test]
    fn what_no_other_process_can_join_is_not_announced() {
        assert_eq!(Place::of(&Relay::Memory(MemoryRelay::default()), &links("memory:/")), None);
        assert_eq!(Place::of(&Relay::default(), &[]), None);
    }
}
