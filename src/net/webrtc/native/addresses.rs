//! The addresses of this machine, and how to learn that they have changed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How many local addresses are offered. Each costs a socket.
const MAX_ADDRESSES: usize = 16;

/// How often they are looked at, which takes some ten microseconds. No portable call tells of changes.
const PERIOD: Duration = Duration::from_secs(1);

/// Every address of this machine that a peer may reach.
pub(super) fn local_addresses() -> Vec<SocketAddr> {
    offered(reachable().unwrap_or_default())
}

/// Loopback, which the library's own list leaves out, where there is nothing else. Peers on one machine reach each other
/// by any address of it, others by none of loopback's, and each address costs both a socket and checks.
fn offered(mut addresses: Vec<IpAddr>) -> Vec<SocketAddr> {
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// In order. `None`: the system does not tell.
fn reachable() -> Option<Vec<IpAddr>> {
    let mut addresses: Vec<_> = if_addrs::get_if_addrs()
        .ok()?
        .iter()
        .map(if_addrs::Interface::ip)
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            // A link-local address means nothing without its interface, which a candidate cannot name.
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    Some(addresses)
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressChange {
    /// An address is gone, and what was connected from it is dead.
    pub gone: bool,
}

/// Looks again and again.
#[derive(Debug)]
pub(crate) struct AddressWatch {
    known: Vec<IpAddr>,
    ticks: Interval,
}

impl AddressWatch {
    /// Compares with the addresses of now.
    pub fn new() -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        AddressWatch { known: reachable().unwrap_or_default(), ticks }
    }

    /// Returns when they have changed. Cancel safe.
    pub async fn changed(&mut self) -> AddressChange {
        loop {
            self.ticks.tick().await;
            if let Some(change) = reachable().and_then(|addresses| self.compare(addresses)) {
                return change;
            }
        }
    }

    fn compare(&mut self, addresses: Vec<IpAddr>) -> Option<AddressChange> {
        if addresses == self.known {
            return None;
        }
        let gone = self.known.iter().any(|known| addresses.binary_search(known).is_err());
        self.known = addresses;
        Some(AddressChange { gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_once_and_whether_something_is_gone() {
        let [one, two]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let mut watch = AddressWatch { known: vec![one], ticks: interval(PERIOD) };
        assert_eq!(watch.compare(vec![one]), None);
        assert_eq!(watch.compare(vec![one, two]), Some(AddressChange { gone: false }));
        assert_eq!(watch.compare(vec![one, two]), None);
        assert_eq!(watch.compare(vec![one]), Some(AddressChange { gone: true }));
        assert_eq!(watch.compare(vec![two]), Some(AddressChange { gone: true }));
    }

    #[test]
    fn loopback_is_offered_where_there_is_nothing_else() {
        let lan = [Ipv4Addr::new(192, 168, 0, 2).into(), Ipv4Addr::new(192, 168, 0, 3).into()];
        assert_eq!(offered(lan.to_vec()), lan.map(|ip| SocketAddr::new(ip, 0)));
        assert_eq!(offered(Vec::new()), [SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)]);
        assert_eq!(offered(vec![lan[0]; 2 * MAX_ADDRESSES]).len(), MAX_ADDRESSES);
    }
}
