//! An mDNS responder that sends arbitrary bytes, as a stranger may.

use std::net::{Ipv4Addr, UdpSocket};

const SERVICE: &str = "_bevy-uhst._tcp.local";

/// A responder that sends from this address, and so on its network.
pub struct Responder {
    socket: UdpSocket,
    address: Ipv4Addr,
}

impl Responder {
    pub fn on(address: Ipv4Addr) -> Self {
        Responder { socket: UdpSocket::bind((address, 0)).unwrap(), address }
    }

    pub fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, (Ipv4Addr::new(224, 0, 0, 251), 5353)).unwrap();
    }

    /// Announces a service at its own address, with these strings in the TXT record.
    pub fn announce(&self, instance: &str, port: u16, strings: &[&[u8]]) {
        self.send(&announcement(instance, port, self.address, strings));
    }
}

/// Returns the strings of a valid announcement, with some of them replaced.
pub fn strings(game: &str, name: &str, other: &[(&str, &[u8])]) -> Vec<Vec<u8>> {
    let mut pairs: Vec<(&str, &[u8])> = vec![
        ("uhst", b"2"),
        ("game", game.as_bytes()),
        ("name", name.as_bytes()),
        ("id", b"483920"),
        ("players", b"1"),
        ("limit", b"4"),
        ("password", b"0"),
    ];
    for (key, value) in other {
        pairs.retain(|(known, _)| known != key);
        pairs.push((key, value));
    }
    pairs.into_iter().map(|(key, value)| [key.as_bytes(), b"=", value].concat()).collect()
}

/// Returns a response with the four records of a service.
pub fn announcement(instance: &str, port: u16, address: Ipv4Addr, strings: &[&[u8]]) -> Vec<u8> {
    let (service, instance, host) = (name(&[SERVICE]), name(&[instance, SERVICE]), name(&[instance, "local"]));
    let text: Vec<u8> = strings
        .iter()
        .flat_map(|string| [&[string.len().min(255) as u8], &string[..string.len().min(255)]].concat())
        .collect();
    let srv = [&[0, 0, 0, 0][..], &port.to_be_bytes(), &host].concat();
    // The header of an authoritative response with four records.
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    for (owner, kind, flush, data) in [
        (&service, 12_u16, 0_u16, &instance),
        (&instance, 33, 0x8000, &srv),
        (&instance, 16, 0x8000, &text),
        (&host, 1, 0x8000, &address.octets().to_vec()),
    ] {
        packet.extend_from_slice(owner);
        packet.extend(kind.to_be_bytes());
        packet.extend((flush | 1).to_be_bytes());
        packet.extend(120_u32.to_be_bytes());
        packet.extend((data.len() as u16).to_be_bytes());
        packet.extend_from_slice(data);
    }
    packet
}

/// Encodes a name for DNS.
fn name(parts: &[&str]) -> Vec<u8> {
    let labels = parts.iter().flat_map(|part| part.split('.'));
    let mut bytes: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}
