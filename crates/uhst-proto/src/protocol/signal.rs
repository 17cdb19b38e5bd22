//! WebRTC signals as the originals send them: the bare browser objects.

use bytestring::ByteString;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

/// A WebRTC signal.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// `{"sdp":"v=0…","type":"offer"}`, from the client.
    Offer(ByteString),
    /// `{"sdp":"v=0…","type":"answer"}`, from the host.
    Answer(ByteString),
    /// `{"candidate":"candidate:…","sdpMid":"0",…}`, from either side. It may arrive before the description.
    Candidate(Box<Candidate>),
}

/// An ICE candidate, as `RTCIceCandidate.toJSON()` writes it. Stacks differ in which members are null or missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The candidate line. The originals accept a leading `a=`.
    pub candidate: ByteString,
    /// The name of the media section.
    #[serde(default)]
    pub sdp_mid: Option<ByteString>,
    /// The index of the media section.
    #[serde(default)]
    pub sdp_m_line_index: Option<u16>,
    /// The ICE user name of its generation.
    #[serde(default)]
    pub username_fragment: Option<ByteString>,
}

impl Signal {
    /// Returns the approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Signal::Offer(sdp) | Signal::Answer(sdp) => sdp.len(),
            Signal::Candidate(candidate) => {
                let Candidate { candidate, sdp_mid, username_fragment, .. } = &**candidate;
                let optional = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
                candidate.len() + optional(sdp_mid) + optional(username_fragment)
            }
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (sdp, kind) = match self {
            Signal::Offer(sdp) => (sdp, "offer"),
            Signal::Answer(sdp) => (sdp, "answer"),
            Signal::Candidate(candidate) => return candidate.serialize(serializer),
        };
        let mut description = serializer.serialize_struct("Description", 2)?;
        description.serialize_field("sdp", &**sdp)?;
        description.serialize_field("type", kind)?;
        description.end()
    }
}
