//! Message bodies: the content of one POST to a relay.
//!
//! An original peer sends the envelope `{"type":"string","payload":"text"}` or a bare WebRTC signal. A native peer
//! sends the envelope with an empty payload and one more member, `uhst`, which originals ignore.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Signal;

/// The version of the native dialect, the number in `{"uhst":{"v":…}}`.
pub const NATIVE_VERSION: u32 = 2;

/// A message body.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A packet of the native dialect.
    Native {
        /// The version of the sender.
        version: u32,
        /// The packet, see [`frame`](super::frame).
        packet: Bytes,
    },
    /// Text in the envelope that the originals use on the relay transport.
    Text(ByteString),
    /// A WebRTC signal, which the originals send without an envelope.
    Signal(Signal),
}

/// A body of an unknown form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is not JSON, or has members of the wrong type.
    #[error("the body is not a known message: {0}")]
    Json(String),
    /// The object is neither an envelope nor a signal.
    #[error("the body has none of the members `payload`, `sdp`, `candidate` and `uhst`")]
    Unknown,
    /// The packet in the `uhst` member is not base64.
    #[error("the packet in the body is not base64")]
    Base64,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    sdp: Option<ByteString>,
    #[serde(rename = "type", default)]
    kind: Option<ByteString>,
    #[serde(borrow, default)]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uhst: Option<Native<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Native<'a> {
    v: u32,
    #[serde(borrow, default)]
    p: Cow<'a, str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    payload: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uhst: Option<Native<'a>>,
}

/// What surrounds the version and the packet in the body of a native peer. Base64 needs no escapes, so bodies of up to 100 kB
/// are put together without a look at each character.
const NATIVE: [&str; 3] = [r#"{"type":"string","payload":"","uhst":{"v":"#, r#","p":""#, r#""}}"#];

/// Returns the JSON of a packet to a host of an unknown kind. A native host reads the packet, an original on WebRTC an
/// offer, and an original on the relay an empty text.
pub fn introduction(version: u32, packet: &[u8], offer: &str) -> String {
    let uhst = Some(Native { v: version, p: BASE64_STANDARD.encode(packet).into() });
    let envelope = Envelope { kind: "offer", payload: "", sdp: Some(offer), uhst };
    // It holds only strings and numbers, as in `to_json`.
    serde_json::to_string(&envelope).unwrap_or_default()
}

impl Body {
    /// Returns the approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Body::Native { packet, .. } => packet.len(),
            Body::Text(text) => text.len(),
            Body::Signal(signal) => signal.size(),
        }
    }

    /// Parses a body. Unknown members are ignored. A `payload` that is not a string becomes its JSON text, which is all
    /// that the originals transmit of binary data over a relay.
    ///
    /// # Errors
    ///
    /// [`BodyError`] if the body has no known form.
    pub fn parse(json: &str) -> Result<Self, BodyError> {
        // serde would accept an array of the members in their order.
        if json.trim_start().starts_with('[') {
            return Err(BodyError::Unknown);
        }
        let wire: Wire = serde_json::from_str(json).map_err(|error| BodyError::Json(error.to_string()))?;
        if let Some(Native { v, p }) = wire.uhst {
            let packet = BASE64_STANDARD.decode(p.as_bytes()).map_err(|_| BodyError::Base64)?;
            return Ok(Body::Native { version: v, packet: packet.into() });
        }
        match (wire.sdp, wire.kind.as_deref(), wire.candidate, wire.payload) {
            (Some(sdp), Some("offer"), ..) => Ok(Body::Signal(Signal::Offer(sdp))),
            (Some(sdp), Some("answer"), ..) => Ok(Body::Signal(Signal::Answer(sdp))),
            (_, _, Some(_), _) => serde_json::from_str(json)
                .map(|candidate| Body::Signal(Signal::Candidate(candidate)))
                .map_err(|error| BodyError::Json(error.to_string())),
            (_, _, _, Some(payload)) => Ok(Body::Text(
                serde_json::from_str::<ByteString>(payload.get()).unwrap_or_else(|_| payload.get().into()),
            )),
            _ => Err(BodyError::Unknown),
        }
    }

    /// Returns the JSON of this body.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = match self {
            Body::Native { version, packet } => return native_json(*version, packet),
            Body::Text(text) => {
                serde_json::to_string(&Envelope { kind: "string", payload: text, sdp: None, uhst: None })
            }
            Body::Signal(signal) => serde_json::to_string(signal),
        };
        // It holds only strings and numbers, which JSON can always represent.
        json.unwrap_or_default()
    }
}

fn native_json(version: u32, packet: &[u8]) -> String {
    const VERSION_DIGITS: usize = 10;
    let [head, middle, tail] = NATIVE;
    let base64 = packet.len().div_ceil(3) * 4;
    let mut json = String::with_capacity(head.len() + VERSION_DIGITS + middle.len() + base64 + tail.len());
    json.push_str(head);
    json.push_str(&version.to_string());
    json.push_str(middle);
    BASE64_STANDARD.encode_string(packet, &mut json);
    json.push_str(tail);
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Candidate;

    #[test]
    fn envelopes_of_the_originals_are_text() {
        for (json, text) in [
            (r#"{"type":"string","payload":"hi"}"#, "hi"),
            (r#"{"type":"string","payload":""}"#, ""),
            (r#"{"type":"string","payload":"text","responseToken":null}"#, "text"), // Dart
            (r#"{"type":"blob","payload":"text"}"#, "text"),
            (r#"{"payload":"größe 🎲"}"#, "größe 🎲"),
            // What becomes of an ArrayBuffer, a Uint8Array and other values in JavaScript.
            (r#"{"type":"string","payload":{}}"#, "{}"),
            (r#"{"type":"string","payload":{"0":0,"1":1}}"#, r#"{"0":0,"1":1}"#),
            (r#"{"type":"string","payload":17}"#, "17"),
        ] {
            assert_eq!(Body::parse(json), Ok(Body::Text(text.into())), "{json}");
        }
        assert_eq!(Body::Text("hi".into()).to_json(), r#"{"type":"string","payload":"hi"}"#);
    }

    #[test]
    fn native_packets_look_like_empty_text_to_originals() {
        let body = Body::Native { version: 1, packet: Bytes::from_static(b"\x00\xff") };
        let json = r#"{"type":"string","payload":"","uhst":{"v":1,"p":"AP8="}}"#;
        assert_eq!(body.to_json(), json);
        assert_eq!(Body::parse(json), Ok(body));
        assert_eq!(
            Body::parse(r#"{"type":"string","payload":"","uhst":{"v":2}}"#),
            Ok(Body::Native { version: 2, packet: Bytes::new() })
        );
        assert_eq!(Body::parse(r#"{"payload":"","uhst":{"v":1,"p":"?"}}"#), Err(BodyError::Base64));
        let escaped = r#"{"payload":"","uhst":{"v":1,"p":"\/\/8\u003d"}}"#;
        assert_eq!(Body::parse(escaped), Ok(Body::Native { version: 1, packet: Bytes::from_static(b"\xff\xff") }));
        for len in 0..100 {
            let body = Body::Native { version: u32::MAX - len, packet: (0..len).map(|byte| byte as u8).collect() };
            let json = body.to_json();
            assert_eq!(json.len(), json.capacity(), "room for exactly this");
            assert_eq!(Body::parse(&json), Ok(body));
        }
    }

    #[test]
    fn every_kind_of_host_reads_an_introduction() {
        let json = introduction(1, b"\x00\xff", "v=0\r\n");
        assert_eq!(json, r#"{"type":"offer","payload":"","sdp":"v=0\r\n","uhst":{"v":1,"p":"AP8="}}"#);
        let packet = Bytes::from_static(b"\x00\xff");
        assert_eq!(Body::parse(&json), Ok(Body::Native { version: 1, packet }), "as a native host reads it");
    }

    #[test]
    fn signals_of_the_stacks_are_understood() {
        const SDP: &str = "v=0\\r\\no=- 1116594721868950470 2 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\n\
            a=group:BUNDLE 0\\r\\na=extmap-allow-mixed\\r\\na=msid-semantic: WMS\\r\\n\
            m=application 9 UDP/DTLS/SCTP webrtc-datachannel\\r\\nc=IN IP4 0.0.0.0\\r\\na=ice-ufrag:I0b2\\r\\n\
            a=ice-pwd:eHaQBqDOwWEaa0Id/SuShRqS\\r\\na=ice-options:trickle\\r\\na=setup:actpass\\r\\na=mid:0\\r\\n\
            a=sctp-port:5000\\r\\na=max-message-size:262144\\r\\n";
        let sdp: ByteString = SDP.replace("\\r\\n", "\r\n").into();
        let offer = format!("{{\"sdp\":\"{SDP}\",\"type\":\"offer\"}}");
        assert_eq!(Body::parse(&offer), Ok(Body::Signal(Signal::Offer(sdp.clone()))));
        assert_eq!(Body::Signal(Signal::Offer(sdp.clone())).to_json(), offer, "in Chromium's key order");
        let answer = format!("{{\"sdp\":\"{SDP}\",\"type\":\"answer\"}}");
        assert_eq!(Body::parse(&answer), Ok(Body::Signal(Signal::Answer(sdp.clone()))));
        assert_eq!(Body::Signal(Signal::Answer(sdp.clone())).to_json(), answer);
        // The npm stack's key order.
        let offer = format!("{{\"type\":\"offer\",\"sdp\":\"{SDP}\"}}");
        assert_eq!(Body::parse(&offer), Ok(Body::Signal(Signal::Offer(sdp))));

        let json = concat!(
            r#"{"candidate":"candidate:1815679612 1 udp 2122260223 127.0.0.1 33556 typ host generation 0 ufrag I0b2 "#,
            r#"network-id 1 network-cost 50","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"I0b2"}"#
        );
        let line = "candidate:1815679612 1 udp 2122260223 127.0.0.1 33556 typ host generation 0 ufrag I0b2 \
            network-id 1 network-cost 50";
        let candidate = Candidate {
            candidate: line.into(),
            sdp_mid: Some("0".into()),
            sdp_m_line_index: Some(0),
            username_fragment: Some("I0b2".into()),
        };
        assert_eq!(Body::parse(json), Ok(Body::Signal(Signal::Candidate(candidate.clone().into()))));
        assert_eq!(Body::Signal(Signal::Candidate(candidate.into())).to_json(), json);

        // libdatachannel's polyfill.
        let json = concat!(
            r#"{"candidate":"a=candidate:2 1 UDP 2116026111 192.168.1.5 40000 typ host","sdpMLineIndex":null,"#,
            r#""sdpMid":"0","usernameFragment":null}"#
        );
        let candidate = Candidate {
            candidate: "a=candidate:2 1 UDP 2116026111 192.168.1.5 40000 typ host".into(),
            sdp_mid: Some("0".into()),
            ..Candidate::default()
        };
        assert_eq!(Body::parse(json), Ok(Body::Signal(Signal::Candidate(candidate.into()))));
    }

    #[test]
    fn an_unknown_body_is_an_error() {
        for json in ["{}", "[1]", r#"{"sdp":"v=0","type":"rollback"}"#, r#"{"type":"string"}"#] {
            assert_eq!(Body::parse(json), Err(BodyError::Unknown), "{json}");
        }
        for json in ["", "text", r#"{"sdp":1}"#, r#"{"candidate":1}"#, r#"{"uhst":{}}"#] {
            assert!(matches!(Body::parse(json), Err(BodyError::Json(_))), "{json}");
        }
    }
}
