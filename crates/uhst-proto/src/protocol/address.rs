//! Ranks the addresses of a machine by how likely others reach them, for join links and direct paths.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
};

/// Where Linux describes each interface.
const INTERFACES: &str = "/sys/class/net";

/// How likely others reach an address, the likeliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum AddressRank {
    /// IPv4 on the interface of the default route.
    Outward,
    /// IPv4 on another local network.
    Private,
    /// Public IPv4.
    Public,
    /// IPv6 on the interface of the default route.
    OutwardV6,
    /// Other IPv6.
    V6,
    /// Shared by the customers of a provider (100.64.0.0/10), or of a VPN that uses this range.
    Shared,
    /// Link-local IPv4 (169.254.0.0/16), which an interface takes when no address is assigned.
    LinkLocal,
    /// Of containers and virtual machines on this machine, or of an interface without a link.
    Virtual,
    /// Link-local IPv6, which is valid only with its interface. Links cannot name one.
    LinkLocalV6,
    /// This machine.
    Loopback,
}

/// How others are told an address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressUse {
    /// In the URL of a link to join. It may lead to this machine only, or to one cable, but a URL cannot name the
    /// interface that a link-local IPv6 address needs.
    Link,
    /// As a candidate for a direct path. It must lead here from another machine, without a named interface.
    Candidate,
}

impl AddressUse {
    /// Whether an address of this rank is of use.
    fn takes(self, rank: AddressRank) -> bool {
        match rank {
            AddressRank::LinkLocalV6 => false,
            AddressRank::LinkLocal | AddressRank::Loopback => self == AddressUse::Link,
            _ => true,
        }
    }
}

/// An address of this machine, as listed by its system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The name of the interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Whether the interface is up and has a link, as far as the system knows.
    pub is_up: bool,
}

impl LocalAddress {
    /// The rank of this address. `outward` are the addresses from [`outward`].
    fn rank(&self, outward: &[IpAddr], wires: &Wires) -> AddressRank {
        let is_outward = outward.contains(&self.address);
        match self.address {
            address if address.is_loopback() => AddressRank::Loopback,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => AddressRank::LinkLocalV6,
            IpAddr::V4(ip) if ip.is_link_local() => AddressRank::LinkLocal,
            IpAddr::V4(ip) if is_shared(ip) => AddressRank::Shared,
            _ if !is_outward && (!self.is_up || is_virtual(&self.interface) || wires.end_here(&self.interface)) => {
                AddressRank::Virtual
            }
            IpAddr::V4(_) if is_outward => AddressRank::Outward,
            IpAddr::V4(ip) if ip.is_private() => AddressRank::Private,
            IpAddr::V4(_) => AddressRank::Public,
            IpAddr::V6(_) if is_outward => AddressRank::OutwardV6,
            IpAddr::V6(_) => AddressRank::V6,
        }
    }
}

/// Returns those of these addresses that are of use, the likeliest first, without duplicates. `outward` are the addresses
/// from [`outward()`].
///
/// Within a rank, the first address of each interface comes before the second ones, so that an interface with many
/// addresses does not hide another. Otherwise the given order is kept, which on most systems is the order in which the
/// interfaces appeared.
pub fn by_rank(addresses: &[LocalAddress], outward: &[IpAddr], usage: AddressUse) -> Vec<IpAddr> {
    let wires = Wires::default();
    let mut count = HashMap::new();
    let mut ranked: Vec<_> = addresses
        .iter()
        .filter(|local| !local.address.is_unspecified() && !local.address.is_multicast())
        .map(|local| (local, local.rank(outward, &wires)))
        .filter(|(_, rank)| usage.takes(*rank))
        .map(|(local, rank)| {
            let count = count.entry((&local.interface, rank)).or_insert(0);
            *count += 1;
            (rank, *count, local.address)
        })
        .collect();
    ranked.sort_by_key(|(rank, count, _)| (*rank, *count));
    let mut seen = HashSet::new();
    ranked.retain(|(_, _, address)| seen.insert(*address));
    ranked.into_iter().map(|(_, _, address)| address).collect()
}

/// The virtual Ethernet pairs (veth) of this machine, read from the system on first use.
#[derive(Default)]
struct Wires(OnceCell<HashMap<u32, u32>>);

impl Wires {
    /// Whether the interface is one end of a pair whose other end is also on this machine, outside of containers. Such
    /// a pair leads nowhere else. Always `false` except on Linux.
    fn end_here(&self, interface: &str) -> bool {
        // Most interfaces are not pairs, and need no list of all interfaces.
        let Some((index, other)) = wire(interface).filter(|(index, other)| index != other) else { return false };
        self.0.get_or_init(all_wires).get(&other) == Some(&index)
    }
}

/// The index of an interface and of its peer. They are equal unless it is one end of a pair.
fn wire(interface: &str) -> Option<(u32, u32)> {
    let read = |file| {
        let path = Path::new(INTERFACES).join(interface).join(file);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    if cfg!(target_os = "linux") { Some((read("ifindex")?, read("iflink")?)) } else { None }
}

fn all_wires() -> HashMap<u32, u32> {
    let entries = std::fs::read_dir(INTERFACES).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| wire(entry.file_name().to_str()?)).collect()
}

/// Returns the addresses that this machine uses towards others, rather than towards its own containers: at most one of
/// each family. It reads the routes of the system, and sends nothing.
pub fn outward() -> Vec<IpAddr> {
    let towards = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // Documentation ranges take the default route.
    let v4 = towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = towards(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    v4.into_iter().chain(v6).collect()
}

fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0b1100_0000 == 64
}

/// Whether an interface leads to containers or virtual machines. A bridge to the LAN has the default route, which is
/// checked before.
fn is_virtual(interface: &str) -> bool {
    if cfg!(target_os = "linux") && Path::new(INTERFACES).join(interface).join("bridge").exists() {
        return true;
    }
    const BEGINNINGS: [&str; 19] = [
        "docker",
        "dummy",
        "br-",
        "veth",
        "virbr",
        "vnet",
        "cni",
        "flannel",
        "cali",
        "podman",
        "lxcbr",
        "lxdbr",
        "incusbr",
        "vmnet",
        "vboxnet",
        "kube",
        "vethernet",
        "virtualbox",
        "vmware",
    ];
    let name = interface.to_ascii_lowercase();
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(interface: &str, address: IpAddr) -> LocalAddress {
        LocalAddress { interface: interface.to_owned(), address, is_up: true }
    }

    fn ranked(interfaces: &[(&str, &str)], outward: &[&str]) -> Vec<String> {
        let parse = |text: &str| text.parse().expect("an address");
        let interfaces: Vec<_> = interfaces.iter().map(|(name, ip)| local(name, parse(ip))).collect();
        let outward: Vec<_> = outward.iter().map(|ip| parse(ip)).collect();
        by_rank(&interfaces, &outward, AddressUse::Link).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn the_default_route_is_first_and_containers_are_last() {
        let interfaces = [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("docker0", "172.17.0.1"),
            ("br-4f2a", "172.18.0.1"),
            ("virbr0", "192.168.122.1"),
            ("veth12ab", "10.0.3.1"),
            ("vEthernet (WSL)", "172.29.0.1"),
            ("tailscale0", "100.101.102.103"),
            ("eth1", "169.254.7.7"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::5"),
            ("eth1", "fd00::5"),
            ("eth1", "10.1.2.3"),
            ("eth2", "203.0.113.5"),
            ("eth0", "192.168.1.5"),
            ("eth0", "192.168.1.5"),
        ];
        let order = [
            "192.168.1.5",
            "10.1.2.3",
            "203.0.113.5",
            "2001:db8::5",
            "fd00::5",
            "100.101.102.103",
            "169.254.7.7",
            "172.17.0.1",
            "172.18.0.1",
            "192.168.122.1",
            "10.0.3.1",
            "172.29.0.1",
            "127.0.0.1",
            "::1",
        ];
        assert_eq!(ranked(&interfaces, &["192.168.1.5", "2001:db8::5"]), order);
    }

    #[test]
    fn a_candidate_leads_to_another_machine_without_a_named_interface() {
        let all = ["127.0.0.1", "::1", "fe80::1", "169.254.7.7", "0.0.0.0", "224.0.0.1", "100.101.102.103", "fd00::5"];
        let local: Vec<_> = all.map(|address| local("eth0", address.parse().expect("an address"))).into();
        let used = |usage| by_rank(&local, &[], usage).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(used(AddressUse::Candidate), ["fd00::5", "100.101.102.103"]);
        assert_eq!(used(AddressUse::Link), ["fd00::5", "100.101.102.103", "169.254.7.7", "127.0.0.1", "::1"]);
    }

    #[test]
    fn a_bridge_that_is_the_way_out_is_no_container() {
        assert_eq!(ranked(&[("br-lan", "192.168.1.1"), ("eth0", "10.0.0.2")], &["192.168.1.1"])[0], "192.168.1.1");
        assert_eq!(ranked(&[("docker0", "172.17.0.1"), ("br0", "192.168.1.1")], &[])[0], "192.168.1.1");
    }

    #[test]
    fn many_bridges_do_not_hide_the_address_that_counts() {
        let mut interfaces: Vec<_> = (0..40).map(|i| local(&format!("br-{i:04x}"), [172, 18, i, 1].into())).collect();
        interfaces.extend((0..40).map(|i| LocalAddress { is_up: false, ..local("eth1", [10, 0, i, 1].into()) }));
        interfaces.push(local("wlan0", [192, 168, 7, 7].into()));
        assert_eq!(by_rank(&interfaces, &[], AddressUse::Candidate)[0], IpAddr::from([192, 168, 7, 7]));
    }

    #[test]
    fn an_interface_with_many_addresses_does_not_hide_another() {
        let mut interfaces: Vec<_> = (0..40).map(|i| local("eth0", [10, 0, i, 1].into())).collect();
        interfaces.push(local("wlan0", [192, 168, 7, 7].into()));
        let ranked = by_rank(&interfaces, &[], AddressUse::Candidate);
        assert_eq!(ranked[..3], [[10, 0, 0, 1], [192, 168, 7, 7], [10, 0, 1, 1]].map(IpAddr::from));
    }
}
