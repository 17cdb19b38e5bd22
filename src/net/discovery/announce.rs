//! The task of an announcement.

use std::{net::IpAddr, time::Duration};

use mdns_sd::{IfKind, ServiceInfo};
use n0_future::time::{Instant, sleep_until};

use super::{AnnounceTask, Discovery, Intervals, RelayPlace, daemon::Daemon};
use crate::protocol::{Announcement, SERVICE_TYPE};

/// The shortest time between two announcements, so that players who come and go in numbers cause one.
const SPACING: Duration = Duration::from_millis(500);

/// Announces the session until the announcement is withdrawn, then sends the goodbye and drops `task`.
pub(in crate::net) async fn run(scope: Discovery, place: RelayPlace, mut task: AnnounceTask) {
    // A random instance name needs no probing. Players see the name in the record.
    let instance = format!("{:016x}", getrandom::u64().unwrap_or_default());
    let intervals = Intervals::of(scope);
    let mut daemon: Option<Daemon> = None;
    let (mut beat, mut warned) = (0_u32, false);
    let (mut last, mut due) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            _ = task.open.changed() => break,
            changed = task.latest.changed() => match changed {
                Ok(()) => due = due.min((last + SPACING).max(Instant::now())),
                Err(_) => break,
            },
            () = sleep_until(due) => {
                last = Instant::now();
                due = last + intervals.beat;
                if let Some(running) = &daemon && running.is_flooded().await {
                    daemon = None;
                    due = last + intervals.pause;
                    continue;
                }
                let announcement = task.latest.borrow_and_update().clone();
                match announce(&mut daemon, scope, &place, &instance, &announcement, beat) {
                    Ok(()) => {}
                    Err(error) if warned => tracing::debug!("not announced: {error}"),
                    Err(error) => {
                        tracing::warn!("this session cannot be announced on the local network: {error}");
                        warned = true;
                    }
                }
                beat = beat.wrapping_add(1);
            }
        }
    }
    if let Some(daemon) = daemon {
        daemon.end().await;
    }
}

fn announce(
    daemon: &mut Option<Daemon>,
    scope: Discovery,
    place: &RelayPlace,
    instance: &str,
    announcement: &Announcement,
    beat: u32,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let info = service(place, instance, announcement, beat)?;
    let daemon = match daemon {
        Some(daemon) => daemon,
        None => daemon.insert(Daemon::start(scope)?),
    };
    daemon.0.register(info)?;
    Ok(())
}

/// The records of the service. The beat makes each differ from the last, so that browsers report it.
fn service(
    place: &RelayPlace,
    instance: &str,
    announcement: &Announcement,
    beat: u32,
) -> Result<ServiceInfo, Box<dyn std::error::Error + Send + Sync>> {
    let mut pairs = announcement.to_txt()?;
    pairs.push(("beat", beat.to_string()));
    let host = format!("{instance}.local.");
    let new = |address: &str, port| ServiceInfo::new(SERVICE_TYPE, instance, &host, address, port, &pairs[..]);
    let mut info = match place {
        RelayPlace::Here { address, port } if !address.is_unspecified() => new(&address.to_string(), *port)?,
        RelayPlace::Here { address: IpAddr::V4(_), port } => {
            // The relay does not listen on IPv6.
            let mut info = new("", *port)?.enable_addr_auto();
            info.set_interfaces(vec![IfKind::IPv4]);
            info
        }
        RelayPlace::Here { port, .. } | RelayPlace::Elsewhere { port } => new("", *port)?.enable_addr_auto(),
    };
    info.set_requires_probe(false);
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(id: &str) -> Announcement {
        Announcement {
            game: "game".to_owned(),
            name: "name".to_owned(),
            id: id.to_owned(),
            players: 1,
            limit: 2,
            password: false,
            relay: None,
        }
    }

    #[test]
    fn a_relay_on_one_address_is_announced_there_alone() {
        let place = RelayPlace::Here { address: [127, 0, 0, 1].into(), port: 3000 };
        let info = service(&place, "x", &announcement("1"), 7).unwrap();
        assert!(!info.is_addr_auto() && info.get_addresses().iter().eq([&IpAddr::from([127, 0, 0, 1])]));
        assert_eq!((info.get_port(), info.get_property_val_str("beat")), (3000, Some("7")));
        let everywhere = RelayPlace::Here { address: [0, 0, 0, 0].into(), port: 3000 };
        assert!(service(&everywhere, "x", &announcement("1"), 7).unwrap().is_addr_auto());
    }

    #[test]
    fn a_session_that_does_not_fit_a_record_is_an_error() {
        let place = RelayPlace::Elsewhere { port: 443 };
        let error = service(&place, "x", &announcement(&"i".repeat(200)), 0).unwrap_err();
        assert_eq!(error.to_string(), "`id` has 200 bytes, the limit is 128");
    }
}
