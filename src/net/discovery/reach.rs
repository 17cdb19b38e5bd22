//! Selects the address of a host by which to join.

use std::net::IpAddr;

use if_addrs::{IfAddr, Interface};

/// An announced address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnnouncedAddress {
    pub address: IpAddr,
    /// The indices of our interfaces that received the announcement.
    pub received_on: Vec<u32>,
}

/// The best of these addresses: loopback if the host is on this machine, else one on a shared network, IPv4 first.
///
/// All others are refused. An announcement comes from the same network, so an honest host needs no others. An attacker
/// could use them to make the game connect to other machines, or to other services of this machine.
pub(super) fn best(announced: &[AnnouncedAddress], ours: &[Interface]) -> Option<IpAddr> {
    let ranked = announced.iter().filter_map(|announced| Some((rank(announced, ours)?, announced.address)));
    ranked.min().map(|(_, address)| address)
}

fn rank(AnnouncedAddress { address, received_on }: &AnnouncedAddress, ours: &[Interface]) -> Option<u8> {
    if address.is_loopback() {
        return is_from_this_machine(received_on, ours).then_some(0);
    }
    let scoped = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    if scoped || address.is_unspecified() || address.is_multicast() || !ours.iter().any(|our| shares(our, *address)) {
        return None;
    }
    Some(if address.is_ipv4() { 1 } else { 2 })
}

/// Whether one of these interfaces is loopback, so that the announcement comes from this machine.
pub(super) fn is_from_this_machine(received_on: &[u32], ours: &[Interface]) -> bool {
    ours.iter().any(|our| our.is_loopback() && our.index.is_some_and(|index| received_on.contains(&index)))
}

/// Whether an address is on the network of an interface, and is not its broadcast address.
fn shares(our: &Interface, address: IpAddr) -> bool {
    match (&our.addr, address) {
        (IfAddr::V4(our), IpAddr::V4(address)) => {
            let mask = u32::from(our.netmask);
            let (our, theirs) = (u32::from(our.ip), u32::from(address));
            mask != 0 && our & mask == theirs & mask && (theirs != our | !mask || theirs == our)
        }
        (IfAddr::V6(our), IpAddr::V6(address)) => {
            let mask = u128::from(our.netmask);
            mask != 0 && u128::from(our.ip) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    const LOOPBACK: u32 = 1;
    const WIFI: u32 = 2;

    fn interface(index: u32, address: IpAddr, prefix: u32) -> Interface {
        let addr = match address {
            IpAddr::V4(ip) => {
                let netmask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0).into();
                IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen: prefix as u8, broadcast: None })
            }
            IpAddr::V6(ip) => {
                let netmask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0).into();
                IfAddr::V6(Ifv6Addr { ip, netmask, prefixlen: prefix as u8, broadcast: None })
            }
        };
        Interface {
            name: format!("if{index}"),
            addr,
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
            #[cfg(windows)]
            adapter_name: String::new(),
        }
    }

    fn ours() -> Vec<Interface> {
        vec![
            interface(LOOPBACK, [127, 0, 0, 1].into(), 8),
            interface(WIFI, [192, 168, 1, 5].into(), 24),
            interface(WIFI, "fd00::5".parse().unwrap(), 64),
        ]
    }

    fn best_of(addresses: &[(&str, u32)]) -> Option<String> {
        let announced = |(address, index): &(&str, u32)| AnnouncedAddress {
            address: address.parse().unwrap(),
            received_on: vec![*index],
        };
        let announced: Vec<_> = addresses.iter().map(announced).collect();
        best(&announced, &ours()).map(|address| address.to_string())
    }

    #[test]
    fn a_neighbour_is_joined_by_a_shared_network_and_by_ipv4_first() {
        let neighbour = [("fd00::9", WIFI), ("10.8.0.9", WIFI), ("192.168.1.9", WIFI), ("fe80::9", WIFI)];
        assert_eq!(best_of(&neighbour).as_deref(), Some("192.168.1.9"));
        assert_eq!(best_of(&neighbour[..2]).as_deref(), Some("fd00::9"));
    }

    #[test]
    fn a_host_on_this_machine_is_joined_without_any_network() {
        assert_eq!(best_of(&[("192.168.1.5", WIFI), ("127.0.0.1", LOOPBACK)]).as_deref(), Some("127.0.0.1"));
        assert_eq!(best_of(&[("192.168.1.5", WIFI)]).as_deref(), Some("192.168.1.5"));
    }

    #[test]
    fn other_hosts_cannot_direct_us_to_this_machine_or_to_foreign_networks() {
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            "255.255.255.255",
            "192.168.1.255",
            "8.8.8.8",
            "2001:db8::1",
            "fe80::9",
        ] {
            assert_eq!(best_of(&[(address, WIFI)]), None, "{address}");
        }
        assert_eq!(best_of(&[]), None);
    }
}
