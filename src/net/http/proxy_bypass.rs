//! Decides which addresses are reached without a proxy.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

/// Whether a URL names this machine or its local network. A proxy of the environment serves addresses beyond, and often
/// cannot reach these.
pub(super) fn bypasses_proxy(url: &Url) -> bool {
    match address(url) {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        Some(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()
        }
        None => name(url).is_some_and(|name| is_localhost(name) || name == "local" || name.ends_with(".local")),
    }
}

/// Whether a URL names this machine.
pub(in crate::net) fn is_this_machine(url: &Url) -> bool {
    match address(url) {
        Some(ip) => ip.is_loopback(),
        None => name(url).is_some_and(is_localhost),
    }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(unmapped(ip)),
        Host::Domain(_) => None,
    }
}

/// Converts an IPv4-mapped address such as `::ffff:127.0.0.1` to IPv4.
fn unmapped(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(ip.into(), IpAddr::from)
}

/// The host name without a trailing dot. URLs have it in lower case.
fn name(url: &Url) -> Option<&str> {
    url.domain().map(|name| name.strip_suffix('.').unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_its_network_bypass_the_proxy() {
        let url = |host: &str| Url::parse(&format!("http://{host}:3000/")).unwrap();
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "localhost",
            "LocalHost.",
            "a.localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.1",
            "192.168.1.5",
            "[::ffff:192.168.1.5]",
            "169.254.7.7",
            "[fe80::1]",
            "[fd00::5]",
            "my-pc.local",
            "my-pc.local.",
        ] {
            assert!(bypasses_proxy(&url(host)), "{host}");
        }
        for host in [
            "relay.example.com",
            "8.8.8.8",
            "172.32.0.1",
            "100.64.0.1",
            "[2001:db8::1]",
            "local.example.com",
            "notlocal",
            "localhost.example.com",
        ] {
            assert!(!bypasses_proxy(&url(host)), "{host}");
        }
        for (host, is_local) in [("[::1]", true), ("localhost", true), ("192.168.1.5", false)] {
            assert_eq!(is_this_machine(&url(host)), is_local, "{host}");
        }
    }
}
