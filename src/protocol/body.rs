//! Message bodies: what one POST to a relay carries.
//!
//! An original peer sends the envelope `{"type":"string","payload":"text"}` or a bare WebRTC signal. A native peer
//! sends the envelope with an empty payload and one more member, `uhst`, which originals ignore.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Signal;

/// The version of the native dialect, the number in `{"uhst":{"v":…}}`.
pub const NATIVE_VERSION: u32 = 1;

/// One message body.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A packet of the native dialect.
    Native {
        /// The version the sender speaks.
        version: u32,
        /// Frames, see [`frame`](super::frame).
        packet: Bytes,
    },
    /// The relay transport's envelope of the originals.
    Text(ByteString),
    /// WebRTC signalling, which the originals send without an envelope.
    Signal(Signal),
}

/// A body that is none of the known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Not JSON, or members of the wrong type.
    #[error("the body is not a known message: {0}")]
    Json(String),
    /// An object that is neither an envelope nor a signal.
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
    #[serde(default)]
    uhst: Option<Native>,
}

#[derive(Serialize, Deserialize)]
struct Native {
    v: u32,
    #[serde(default)]
    p: ByteString,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    payload: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uhst: Option<Native>,
}

impl Body {
    /// Reads a body. Unknown members are ignored; a `payload` that is not a string is taken as its JSON text, which
    /// is how far the originals get with binary over a relay.
    pub fn parse(json: &str) -> Result<Self, BodyError> {
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

    /// The JSON text of this body.
    pub fn to_json(&self) -> String {
        let json = match self {
            Body::Native { version, packet } => serde_json::to_string(&Envelope {
                kind: "string",
                payload: "",
                uhst: Some(Native { v: *version, p: BASE64_STANDARD.encode(packet).into() }),
            }),
            Body::Text(text) => serde_json::to_string(&Envelope { kind: "string", payload: text, uhst: None }),
            Body::Signal(signal) => serde_json::to_string(signal),
        };
        // Strings and numbers only: there is nothing here that JSON cannot hold.
        json.unwrap_or_default()
    }
}
