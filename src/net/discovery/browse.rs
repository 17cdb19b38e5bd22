//! The task of a browser.

use if_addrs::Interface;
use mdns_sd::{Receiver, ResolvedService, ScopedIp, ServiceEvent};
use n0_future::time::{Instant, interval};
use tokio::sync::mpsc;
use url::{Host, Url};

use super::{
    BrowseEvent, Discovery, FoundSession, Intervals,
    daemon::Daemon,
    listing::{Listing, Problem},
    reach::{AnnouncedAddress, best, is_from_this_machine},
};
use crate::protocol::{Announcement, AnnouncementError, JoinLink, SERVICE_TYPE};

/// The limit on the addresses of one host.
const MAX_ADDRESSES: usize = 64;

/// Lists the sessions of this game until the handle is dropped.
pub(in crate::net) async fn run(
    scope: Discovery,
    game: String,
    events: crossbeam_channel::Sender<BrowseEvent>,
    mut dropped: mpsc::Receiver<()>,
) {
    let intervals = Intervals::of(scope);
    let mut listing = Listing::new(events, intervals.silence);
    let mut browsing: Option<(Daemon, Receiver<ServiceEvent>)> = None;
    let mut ours = Vec::new();
    let mut start = Instant::now();
    let mut ticks = interval(intervals.tick);
    loop {
        let event = async {
            match &browsing {
                Some((_, events)) => events.recv_async().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = event => match event {
                Ok(event) => handle_event(&mut listing, &game, event, &ours),
                // The library closes the queue when the reader falls a thousand events behind.
                Err(_) => {
                    browsing = None;
                    start = Instant::now() + intervals.pause;
                    flooded(&mut listing);
                }
            },
            _ = ticks.tick() => {
                ours = if_addrs::get_if_addrs().unwrap_or_default();
                listing.expire(Instant::now());
                match &browsing {
                    Some((daemon, _)) if daemon.is_flooded().await => {
                        browsing = None;
                        start = Instant::now() + intervals.pause;
                        flooded(&mut listing);
                    }
                    Some(_) => {}
                    None if Instant::now() < start => {}
                    None => match browse(scope) {
                        Ok(started) => browsing = Some(started),
                        Err(error) => {
                            start = Instant::now() + intervals.pause;
                            listing.report_once(Problem::NotStarted, || format!("cannot look for sessions here: {error}"));
                        }
                    },
                }
            }
            _ = dropped.recv() => break,
        }
        listing.flush();
    }
    if let Some((daemon, _)) = browsing {
        daemon.end().await;
    }
}

fn browse(scope: Discovery) -> mdns_sd::Result<(Daemon, Receiver<ServiceEvent>)> {
    let daemon = Daemon::start(scope)?;
    let events = daemon.0.browse(SERVICE_TYPE)?;
    Ok((daemon, events))
}

/// Reports a flood once. Sessions stay listed for longer than the pause, and their next announcement renews them.
fn flooded(listing: &mut Listing) {
    listing.report_once(Problem::Flooded, || "this network is flooded with announcements".to_owned());
}

fn handle_event(listing: &mut Listing, game: &str, event: ServiceEvent, ours: &[Interface]) {
    match event {
        // Not all records have arrived yet.
        ServiceEvent::ServiceResolved(service) if service.txt_properties.is_empty() => {}
        ServiceEvent::ServiceResolved(service) => match read(&service) {
            Ok(announcement) if announcement.game == game => {
                if let Some(link) = link(&announcement, &service, ours) {
                    listing.announced(&service.fullname, FoundSession { announcement, link }, Instant::now());
                }
            }
            Ok(_) | Err(AnnouncementError::OtherVersion(_)) => {}
            Err(error) => listing.report_once(Problem::Malformed, || {
                format!("an announcement on this network is no valid session: {error}")
            }),
        },
        ServiceEvent::ServiceRemoved(_, name) => listing.removed(&name),
        _ => {}
    }
}

fn read(service: &ResolvedService) -> Result<Announcement, AnnouncementError> {
    Announcement::from_txt(|key| service.txt_properties.get_property_val(key).flatten())
}

/// The link to join from this machine, if the session is reachable. More addresses may follow.
fn link(announcement: &Announcement, service: &ResolvedService, ours: &[Interface]) -> Option<JoinLink> {
    let announced: Vec<_> = service.addresses.iter().take(MAX_ADDRESSES).filter_map(announced_address).collect();
    let relay = match &announcement.relay {
        Some(relay) => {
            let is_here = announced.iter().any(|announced| is_from_this_machine(&announced.received_on, ours));
            (!is_this_machine(relay) || is_here).then(|| relay.clone())?
        }
        None => {
            // A URL with port 0 would mean port 80.
            let port = Some(service.port).filter(|port| *port != 0)?;
            let mut relay = Url::parse("http://localhost/").ok()?;
            relay.set_ip_host(best(&announced, ours)?).ok()?;
            relay.set_port(Some(port)).ok()?;
            relay
        }
    };
    Some(JoinLink::new(Some(relay), announcement.id.clone()))
}

fn announced_address(address: &ScopedIp) -> Option<AnnouncedAddress> {
    let received_on = match address {
        ScopedIp::V4(address) => address.interface_ids().iter().map(|id| id.index).collect(),
        ScopedIp::V6(address) => vec![address.scope_id().index],
        _ => return None,
    };
    Some(AnnouncedAddress { address: address.to_ip_addr(), received_on })
}

/// Whether a URL names the machine of its reader.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceInfo;

    use super::*;

    fn link_of(port: u16, relay: Option<&str>, address: &str) -> Option<String> {
        let mut pairs = vec![
            ("uhst", "2"),
            ("game", "game"),
            ("name", "name"),
            ("id", "my id"),
            ("players", "1"),
            ("limit", "2"),
            ("password", "0"),
        ];
        pairs.extend(relay.map(|relay| ("relay", relay)));
        let service = ServiceInfo::new(SERVICE_TYPE, "x", "x.local.", address, port, &pairs[..]).unwrap();
        let service = service.as_resolved_service();
        let ours = if_addrs::get_if_addrs().unwrap();
        Some(link(&read(&service).unwrap(), &service, &ours)?.to_string())
    }

    #[test]
    fn a_relay_elsewhere_is_joined_by_its_url_and_not_on_this_machine() {
        let relay = "https://relay.example.com/";
        assert_eq!(link_of(443, Some(relay), "127.0.0.1").as_deref(), Some("https://relay.example.com/#my%20id"));
        for relay in ["http://127.0.0.1:80/", "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"] {
            assert_eq!(link_of(80, Some(relay), "127.0.0.1"), None, "{relay}");
        }
    }

    #[test]
    fn an_address_outside_of_our_networks_makes_no_link() {
        for address in ["127.0.0.1", "203.0.113.9", "255.255.255.255"] {
            assert_eq!(link_of(3000, None, address), None, "{address}");
        }
    }

    #[test]
    fn a_host_on_this_machine_is_joined_by_its_port() {
        // Only a real daemon reports the receiving interface, so the address is built here.
        let ours = if_addrs::get_if_addrs().unwrap();
        let index = ours.iter().find(|our| our.is_loopback()).and_then(|our| our.index).unwrap();
        let address = best(&[AnnouncedAddress { address: [127, 0, 0, 1].into(), received_on: vec![index] }], &ours);
        assert_eq!(address, Some([127, 0, 0, 1].into()));
    }
}
