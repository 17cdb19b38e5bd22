//! The addresses of this machine, and their changes.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    net::webrtc::AddressChange,
    protocol::{AddressUse, LocalAddress, by_rank, outward},
};

/// The limit on offered addresses. Each needs a socket, and each pair with an address of the peer is checked 20 times a
/// second until one is selected. On a machine with many containers, the checks of all addresses would displace game traffic.
const MAX_ADDRESSES: usize = 6;

/// The poll interval. No portable call reports changes, and a poll takes about forty system calls.
const PERIOD: Duration = Duration::from_secs(1);
/// The age up to which a session uses the result of another session of this process.
const SHARED: Duration = Duration::from_millis(500);

/// The addresses of this machine that a peer is most likely to reach.
pub(super) fn local_addresses() -> Vec<SocketAddr> {
    offered(&ranked().unwrap_or_default())
}

/// The likeliest addresses, of both families if possible. Without any other address, loopback, which the library's own list
/// omits: peers on one machine reach each other by any of its addresses.
fn offered(ranked: &[IpAddr]) -> Vec<SocketAddr> {
    let mut offered: Vec<_> = ranked.iter().take(MAX_ADDRESSES).copied().collect();
    let other_family = |ip: &&IpAddr| ranked.first().is_some_and(|first| first.is_ipv4() != ip.is_ipv4());
    if offered.len() == MAX_ADDRESSES
        && !offered.iter().any(|ip| other_family(&ip))
        && let Some(other) = ranked.iter().find(other_family)
    {
        offered[MAX_ADDRESSES - 1] = *other;
    }
    if offered.is_empty() {
        offered.push(Ipv4Addr::LOCALHOST.into());
    }
    offered.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// All reachable addresses, the likeliest first; `None` if the system does not list them.
fn ranked() -> Option<Vec<IpAddr>> {
    let found: Vec<_> = if_addrs::get_if_addrs()
        .ok()?
        .into_iter()
        .map(|found| LocalAddress { is_up: found.is_oper_up(), address: found.ip(), interface: found.name })
        .collect();
    Some(by_rank(&found, &outward(), AddressUse::Candidate))
}

/// The result of [`ranked`], which all sessions of the process share for the time of [`SHARED`].
fn ranked_recently() -> Option<Vec<IpAddr>> {
    static LATEST: Mutex<Option<(Instant, Option<Vec<IpAddr>>)>> = Mutex::new(None);
    let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*latest {
        Some((at, addresses)) if at.elapsed() < SHARED => addresses.clone(),
        _ => latest.insert((Instant::now(), ranked())).1.clone(),
    }
}

/// Polls the addresses of this machine.
#[derive(Debug)]
pub(crate) struct AddressWatch {
    known: HashSet<IpAddr>,
    /// The addresses that are offered now.
    offered: HashSet<SocketAddr>,
    ticks: Interval,
}

impl AddressWatch {
    /// Creates a watch that reports changes from now on.
    pub fn new() -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = AddressWatch { known: HashSet::new(), offered: HashSet::new(), ticks };
        watch.compare(&ranked_recently().unwrap_or_default());
        watch
    }

    /// Waits for a change. Cancel safe.
    pub async fn changed(&mut self) -> AddressChange {
        loop {
            self.ticks.tick().await;
            if let Some(change) = ranked_recently().and_then(|addresses| self.compare(&addresses)) {
                return change;
            }
        }
    }

    /// Compares with the last poll. Other offered addresses are a change, too, for example when an interface gets its link a
    /// moment after its address.
    fn compare(&mut self, ranked: &[IpAddr]) -> Option<AddressChange> {
        let (known, offered) = (ranked.iter().copied().collect(), offered(ranked).into_iter().collect());
        if (&known, &offered) == (&self.known, &self.offered) {
            return None;
        }
        let gone = !self.known.is_subset(&known);
        (self.known, self.offered) = (known, offered);
        Some(AddressChange { gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_reported_once_and_names_a_loss() {
        let [one, two]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let mut watch = AddressWatch { known: HashSet::new(), offered: HashSet::new(), ticks: interval(PERIOD) };
        assert_eq!(watch.compare(&[one]), Some(AddressChange { gone: false }));
        assert_eq!(watch.compare(&[one]), None);
        assert_eq!(watch.compare(&[one, two]), Some(AddressChange { gone: false }));
        assert_eq!(watch.compare(&[two, one]), None);
        assert_eq!(watch.compare(&[one]), Some(AddressChange { gone: true }));
        assert_eq!(watch.compare(&[two]), Some(AddressChange { gone: true }));

        let mut many: Vec<IpAddr> = (0..40).map(|i| [10, 0, i, 1].into()).collect();
        watch.compare(&many);
        many.rotate_right(1);
        assert_eq!(watch.compare(&many), Some(AddressChange { gone: false }), "another address is offered");
        many[10..].reverse();
        assert_eq!(watch.compare(&many), None, "these are not offered");
    }

    #[test]
    fn loopback_is_offered_without_any_other_address() {
        let lan = [Ipv4Addr::new(192, 168, 0, 2).into(), Ipv4Addr::new(192, 168, 0, 3).into()];
        assert_eq!(offered(&lan), lan.map(|ip| SocketAddr::new(ip, 0)));
        assert_eq!(offered(&[]), [SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)]);
    }

    #[test]
    fn offered_addresses_are_limited_and_of_both_families() {
        let mut many: Vec<IpAddr> = (0..40).map(|i| [10, 0, i, 1].into()).collect();
        assert_eq!(offered(&many), many[..MAX_ADDRESSES].iter().map(|ip| SocketAddr::new(*ip, 0)).collect::<Vec<_>>());
        let v6: IpAddr = "2001:db8::5".parse().expect("an address");
        many.push(v6);
        let offered = offered(&many);
        assert_eq!((offered.len(), offered[0].ip(), offered[MAX_ADDRESSES - 1].ip()), (MAX_ADDRESSES, many[0], v6));
    }
}
