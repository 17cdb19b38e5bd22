//! What to make of the candidates that other stacks send.

use bytestring::ByteString;

use crate::protocol::Candidate;

/// How many addresses of a peer's own interfaces are tried. Each is paired with every address of ours, and each pair is
/// checked 20 times a second.
const MAX_HOST: usize = 16;
/// How many of its addresses at routers and TURN servers are tried: those of its likeliest interfaces come first or
/// late, and often are the only ones that work.
const MAX_OTHER: usize = 8;

/// The same for a peer of which nothing is proven: it may name the addresses of others.
const MAX_UNPROVEN_HOST: usize = 8;
const MAX_UNPROVEN_OTHER: usize = 4;

/// How many candidates of a peer were let in.
#[derive(Debug)]
pub(super) struct CandidateBudget {
    host: usize,
    other: usize,
    max_host: usize,
    max_other: usize,
}

/// More than any peer has.
const FLOOD: usize = 64;

impl CandidateBudget {
    /// For a peer that has proven itself, or has not.
    pub fn new(proven: bool) -> Self {
        let (max_host, max_other) =
            if proven { (MAX_HOST, MAX_OTHER) } else { (MAX_UNPROVEN_HOST, MAX_UNPROVEN_OTHER) };
        CandidateBudget { host: 0, other: 0, max_host, max_other }
    }

    /// Whether the peer has sent more than anyone has.
    pub fn is_flooded(&self) -> bool {
        self.host + self.other > FLOOD
    }

    /// Whether one more of its kind is tried.
    pub fn admits(&mut self, attribute: &str) -> bool {
        let kind = attribute.split_ascii_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("typ")).nth(1);
        let is_host = kind.is_none_or(|kind| kind.eq_ignore_ascii_case("host"));
        let (count, max) = if is_host { (&mut self.host, self.max_host) } else { (&mut self.other, self.max_other) };
        *count += 1;
        *count <= max
    }
}

/// Bytes of a section's name; stacks call it `0` or `data`.
const MAX_NAME: usize = 64;

/// The candidate line as every stack reads it, or nothing when there is nothing to try.
///
/// Left out are the end-of-candidates mark (empty), and TCP: nobody listens for it here, and a passive one would have
/// us connect to wherever the peer says.
pub(in crate::net) fn usable(candidate: &Candidate) -> Option<&str> {
    let line = candidate.candidate.trim();
    let line = line.strip_prefix("a=").unwrap_or(line);
    let attribute = line.strip_prefix("candidate:").unwrap_or(line);
    let protocol = attribute.split_ascii_whitespace().nth(2);
    let skipped = attribute.is_empty() || protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp"));
    (!skipped).then_some(attribute)
}

/// A candidate of ours, as every stack takes it: with the one section's index, and its name, without which libwebrtc in
/// node refuses it.
pub(super) fn ours(line: String, section: Option<ByteString>) -> Candidate {
    Candidate {
        candidate: ByteString::from(line),
        sdp_mid: section,
        sdp_m_line_index: Some(0),
        username_fragment: None,
    }
}

/// How the offerer has named the first section of its description. An absurdly long name is not repeated.
pub(super) fn section(offer: &str) -> Option<ByteString> {
    let name = offer.lines().find_map(|line| line.strip_prefix("a=mid:"))?.trim();
    (name.len() <= MAX_NAME).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<String> {
        let candidate: Candidate = serde_json::from_str(json).expect("a candidate");
        usable(&candidate).map(str::to_owned)
    }

    #[test]
    fn candidates_of_every_stack_are_read() {
        let chromium = r#"{"candidate":"candidate:1815679612 1 udp 2122260223 127.0.0.1 33556 typ host generation 0 ufrag I0b2 network-id 1","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"I0b2"}"#;
        assert!(read(chromium).is_some_and(|line| line.starts_with("1815679612 1 udp")));
        let libdatachannel = r#"{"candidate":"a=candidate:2 1 UDP 2116026111 192.0.2.7 5000 typ host","sdpMLineIndex":null,"sdpMid":"0","usernameFragment":null}"#;
        assert_eq!(read(libdatachannel).as_deref(), Some("2 1 UDP 2116026111 192.0.2.7 5000 typ host"));
        let bare = r#"{"candidate":"3 1 udp 1 fd00::2 5000 typ host\r\n"}"#;
        assert_eq!(read(bare).as_deref(), Some("3 1 udp 1 fd00::2 5000 typ host"));
    }

    #[test]
    fn candidates_of_ours_name_the_section_as_the_offer_does() {
        let offer = "v=0\r\na=group:BUNDLE data\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:data\r\n";
        assert_eq!(section(offer).as_deref(), Some("data"));
        assert_eq!(section("v=0\r\n"), None);
        assert_eq!(section(&format!("a=mid:{}\r\n", "x".repeat(65))), None);
        let json = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 5000 typ host","sdpMid":"data","sdpMLineIndex":0,"usernameFragment":null}"#;
        let ours = ours("candidate:1 1 udp 1 192.0.2.7 5000 typ host".to_owned(), section(offer));
        assert_eq!(serde_json::to_string(&ours).expect("strings"), json);
    }

    #[test]
    fn a_peer_with_many_addresses_is_bounded_and_its_routers_are_not_crowded_out() {
        for (proven, max_host, max_other) in [(true, 16, 8), (false, 8, 4)] {
            let mut budget = CandidateBudget::new(proven);
            let host = |i: usize| budget.admits(&format!("1 1 udp 1 10.0.0.{i} 5000 typ host"));
            assert_eq!((0..40).map(host).filter(|admitted| *admitted).count(), max_host);
            assert!(budget.admits("1 1 udp 1 203.0.113.5 5000 typ srflx raddr 10.0.0.1 rport 5000"));
            let relayed = |_| budget.admits("1 1 udp 1 203.0.113.6 5000 typ relay");
            assert_eq!((0..40).map(relayed).filter(|admitted| *admitted).count(), max_other - 1);
        }
    }

    #[test]
    fn what_leads_nowhere_is_skipped() {
        assert_eq!(read(r#"{"candidate":""}"#), None);
        assert_eq!(read(r#"{"candidate":"candidate:"}"#), None);
        assert_eq!(
            read(r#"{"candidate":"candidate:9 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active generation 0"}"#),
            None
        );
        assert_eq!(read(r#"{"candidate":"candidate:9 1 TCP 1 127.0.0.1 80 typ host tcptype passive"}"#), None);
    }
}
