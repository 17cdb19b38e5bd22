//! Reads the ICE candidates of other WebRTC stacks, and limits their number.

use bytestring::ByteString;

use crate::protocol::Candidate;

/// The limit on addresses of a peer's own interfaces. Each is paired with every address of this side, and each pair is
/// checked 20 times a second.
const MAX_HOST: usize = 16;
/// The limit on a peer's addresses at routers and TURN servers. They may come late, and often are the only ones that work.
const MAX_OTHER: usize = 8;

/// The limits for an unauthenticated peer, which may name the addresses of others.
const MAX_UNAUTHENTICATED_HOST: usize = 8;
const MAX_UNAUTHENTICATED_OTHER: usize = 4;

/// Counts and limits the candidates of a peer.
#[derive(Debug)]
pub(super) struct CandidateBudget {
    host: usize,
    other: usize,
    max_host: usize,
    max_other: usize,
}

/// The number of candidates that no honest peer exceeds.
const FLOOD: usize = 64;

impl CandidateBudget {
    /// Creates the budget of an authenticated or an unauthenticated peer.
    pub fn new(authenticated: bool) -> Self {
        let (max_host, max_other) = match authenticated {
            true => (MAX_HOST, MAX_OTHER),
            false => (MAX_UNAUTHENTICATED_HOST, MAX_UNAUTHENTICATED_OTHER),
        };
        CandidateBudget { host: 0, other: 0, max_host, max_other }
    }

    /// Whether the peer has sent more than an honest peer has.
    pub fn is_flooded(&self) -> bool {
        self.host + self.other > FLOOD
    }

    /// Counts a candidate, and returns whether to try it.
    pub fn admits(&mut self, attribute: &str) -> bool {
        let kind = attribute.split_ascii_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("typ")).nth(1);
        let is_host = kind.is_none_or(|kind| kind.eq_ignore_ascii_case("host"));
        let (count, max) = if is_host { (&mut self.host, self.max_host) } else { (&mut self.other, self.max_other) };
        *count += 1;
        *count <= max
    }
}

/// The largest name of a section, in bytes. Stacks use `0` or `data`.
const MAX_NAME: usize = 64;

/// The attribute of a candidate in the form of every stack, or `None` if there is nothing to try: at the mark for the end of
/// candidates (empty), and for TCP, which is not used here, and whose passive form would make this side connect to any
/// address that the peer names.
pub(in crate::net) fn usable(candidate: &Candidate) -> Option<&str> {
    let line = candidate.candidate.trim();
    let line = line.strip_prefix("a=").unwrap_or(line);
    let attribute = line.strip_prefix("candidate:").unwrap_or(line);
    let protocol = attribute.split_ascii_whitespace().nth(2);
    let skipped = attribute.is_empty() || protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp"));
    (!skipped).then_some(attribute)
}

/// Creates a candidate of this side in the form of every stack: with the index and the name of the only section. Without the
/// name, libwebrtc in node refuses it.
pub(super) fn ours(line: String, section: Option<ByteString>) -> Candidate {
    Candidate {
        candidate: ByteString::from(line),
        sdp_mid: section,
        sdp_m_line_index: Some(0),
        username_fragment: None,
    }
}

/// The name of the first section of an offer; `None` if it is too long to repeat.
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
    fn own_candidates_name_the_section_of_the_offer() {
        let offer = "v=0\r\na=group:BUNDLE data\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:data\r\n";
        assert_eq!(section(offer).as_deref(), Some("data"));
        assert_eq!(section("v=0\r\n"), None);
        assert_eq!(section(&format!("a=mid:{}\r\n", "x".repeat(65))), None);
        let json = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 5000 typ host","sdpMid":"data","sdpMLineIndex":0,"usernameFragment":null}"#;
        let ours = ours("candidate:1 1 udp 1 192.0.2.7 5000 typ host".to_owned(), section(offer));
        assert_eq!(serde_json::to_string(&ours).expect("strings"), json);
    }

    #[test]
    fn the_limits_of_host_and_other_candidates_are_separate() {
        for (authenticated, max_host, max_other) in [(true, 16, 8), (false, 8, 4)] {
            let mut budget = CandidateBudget::new(authenticated);
            let host = |i: usize| budget.admits(&format!("1 1 udp 1 10.0.0.{i} 5000 typ host"));
            assert_eq!((0..40).map(host).filter(|admitted| *admitted).count(), max_host);
            assert!(budget.admits("1 1 udp 1 203.0.113.5 5000 typ srflx raddr 10.0.0.1 rport 5000"));
            let relayed = |_| budget.admits("1 1 udp 1 203.0.113.6 5000 typ relay");
            assert_eq!((0..40).map(relayed).filter(|admitted| *admitted).count(), max_other - 1);
        }
    }

    #[test]
    fn unusable_candidates_are_skipped() {
        assert_eq!(read(r#"{"candidate":""}"#), None);
        assert_eq!(read(r#"{"candidate":"candidate:"}"#), None);
        assert_eq!(
            read(r#"{"candidate":"candidate:9 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active generation 0"}"#),
            None
        );
        assert_eq!(read(r#"{"candidate":"candidate:9 1 TCP 1 127.0.0.1 80 typ host tcptype passive"}"#), None);
    }
}
