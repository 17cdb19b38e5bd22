//! The address of a client behind trusted proxies.

use std::net::IpAddr;

use hyper::{
    HeaderMap,
    header::{FORWARDED, HeaderName},
};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns whether an address belongs to a trusted proxy.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// Returns the address that sent a request to the outermost trusted proxy.
///
/// Each proxy appends the address of its client to `X-Forwarded-For`, or to `Forwarded` if that is missing. The last
/// address that is not a trusted proxy is the client. Entries before it may be forged.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let (name, read): (_, fn(&str) -> Option<IpAddr>) =
        if headers.contains_key(&X_FORWARDED_FOR) { (&X_FORWARDED_FOR, address) } else { (&FORWARDED, forwarded_for) };
    let mut client = peer;
    let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    for hop in lines.iter().flat_map(|line| line.split(',')).rev() {
        let Some(address) = read(hop.trim()) else { break };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// Parses an address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Parses one element of `Forwarded`, such as `for=192.0.2.1;proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, headers: &[(&str, &str)]) -> String {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value")));
        client_address(peer.parse().expect("an address"), &headers.collect(), &trusted).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_counts() {
        const XFF: &str = "x-forwarded-for";
        for (peer, headers, expected) in [
            ("192.0.2.9", &[(XFF, "192.0.2.1")][..], "192.0.2.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("::ffff:127.0.0.1", &[(XFF, "192.0.2.1")], "192.0.2.1"),
            ("127.0.0.1", &[(XFF, "6.6.6.6, 192.0.2.1, 10.0.0.2")], "192.0.2.1"),
            ("127.0.0.1", &[(XFF, "6.6.6.6"), (XFF, "192.0.2.1:4711")], "192.0.2.1"),
            ("127.0.0.1", &[(XFF, "[2001:db8::1]:80")], "2001:db8::1"),
            ("127.0.0.1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
            ("127.0.0.1", &[(XFF, "192.0.2.1, nonsense")], "127.0.0.1"),
            ("127.0.0.1", &[(XFF, "192.0.2.1, nonsense, 10.0.0.2")], "10.0.0.2"),
            ("127.0.0.1", &[("forwarded", "for=6.6.6.6, For=\"[2001:db8::1]:80\";proto=https")], "2001:db8::1"),
            ("127.0.0.1", &[("forwarded", "for=6.6.6.6"), (XFF, "192.0.2.1")], "192.0.2.1"),
            ("127.0.0.1", &[("forwarded", "by=192.0.2.1")], "127.0.0.1"),
            ("fd00::1", &[(XFF, "10.0.0.5")], "10.0.0.5"),
        ] {
            assert_eq!(from(peer, headers), expected, "{peer} {headers:?}");
        }
    }
}
