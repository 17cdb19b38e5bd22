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

/// Every address of this machine that a peer may reach, and loopback. The library's own list leaves loopback out.
pub(super) fn local_addresses() -> Vec<SocketAddr> {
    let mut addresses = reachable().unwrap_or_default();
    addresses.truncate(MAX_ADDRESSES - 1);
    addresses.push(Ipv4Addr::LOCALHOST.into());
    addresses.sort();
    addresses.dedup();
    addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// In order. `None`: the system does not tell.
fn reachable() -> Option<Vec<IpAddr>> {
    let mut addresses: Vec<_> = if_addrs::get_if_addrs()
        .ok()?
        .iter()
        .map(if_addrs::Interface::ip)
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
            // A link-local address means nothing without its interface, which a candidate cannot name.
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
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
    fn loopback_is_among_the_addresses_and_they_are_few() {
        let addresses = local_addresses();
        assert!(addresses.contains(&(Ipv4Addr::LOCALHOST, 0).into()));
        assert!(addresses.len() <= MAX_ADDRESSES);
    }
}
