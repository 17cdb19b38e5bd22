//! Requests to a relay, its replies, and the events of its stream.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::NATIVE_VERSION;

/// One request, all of which go to the relay's one path with everything in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayRequest<'a> {
    /// `POST ?action=host`: a token to listen as a host. Without an id the relay picks one.
    Host {
        /// The wanted id.
        id: Option<&'a str>,
    },
    /// `POST ?action=join`: a token to listen as a client.
    Join {
        /// The host's id.
        id: &'a str,
    },
    /// `POST ?action=ping`: the round trip to a relay.
    Ping {
        /// Echoed in the reply.
        timestamp: u64,
    },
    /// `GET ?token=`: the event stream.
    Listen {
        /// A host or client token.
        token: &'a str,
    },
    /// `POST ?token=` with a JSON body.
    Send {
        /// Any token.
        token: &'a str,
    },
    /// `DELETE ?token=`: our own relay forgets a host id that it holds. Originals answer 404.
    Release {
        /// The host token.
        token: &'a str,
    },
}

impl RelayRequest<'_> {
    /// The URL of this request at a relay, with every value percent-encoded. A query of the relay's own URL is kept.
    ///
    /// Peers of this crate add `uhst=<version>` when they listen, which originals ignore: so a relay of ours can tell
    /// a joiner that the host speaks the native dialect.
    pub fn url(&self, relay: &Url) -> Url {
        let mut url = relay.clone();
        url.set_fragment(None);
        {
            let mut query = url.query_pairs_mut();
            match self {
                RelayRequest::Host { id } => {
                    query.append_pair("action", "host");
                    if let Some(id) = id {
                        query.append_pair("hostId", id);
                    }
                }
                RelayRequest::Join { id } => {
                    query.append_pair("action", "join").append_pair("hostId", id);
                }
                RelayRequest::Ping { timestamp } => {
                    query.append_pair("action", "ping").append_pair("timestamp", &timestamp.to_string());
                }
                RelayRequest::Listen { token } => {
                    query.append_pair("token", token).append_pair("uhst", &NATIVE_VERSION.to_string());
                }
                RelayRequest::Send { token } | RelayRequest::Release { token } => {
                    query.append_pair("token", token);
                }
            }
        }
        url
    }
}

/// The reply to [`RelayRequest::Host`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReply {
    /// The id the relay gave, which is not always the one that was asked for.
    pub host_id: String,
    /// For [`RelayRequest::Listen`] and broadcasts.
    pub host_token: String,
    /// Where to send instead, if the relay says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_url: Option<String>,
    /// Where to listen instead, if the relay says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_url: Option<String>,
}

/// The reply to [`RelayRequest::Join`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinReply {
    /// For [`RelayRequest::Listen`] and [`RelayRequest::Send`].
    pub client_token: String,
    /// Where to send instead, if the relay says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_url: Option<String>,
    /// Where to listen instead, if the relay says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_url: Option<String>,
    /// From a relay of ours whose host speaks the native dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uhst: Option<NativeHint>,
}

/// The hint that a host speaks the native dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeHint {
    /// The version it speaks.
    pub v: u32,
}

/// The reply to [`RelayRequest::Ping`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingReply {
    /// The timestamp of the request, as JavaScript's `parseInt` read it.
    pub pong: Option<f64>,
}

/// An event of the relay's stream.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// A message from a peer.
    Message {
        /// To the host only: with this the sender can be answered. Its claims name the sender.
        response_token: Option<String>,
        /// See [`Body`](super::Body).
        body: Box<RawValue>,
    },
    /// To the host: this client's stream closed.
    ClientClosed(String),
    /// To clients: the stream of the host of this id closed.
    HostClosed(String),
}

/// An event of the stream that is none of the known ones. A peer reports it and reads on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamEventError {
    /// The data is not the JSON of its event.
    #[error("the relay sent an event that cannot be read: {0}")]
    Json(String),
    /// A `relay_event` of a type nobody has defined yet.
    #[error("the relay sent an unknown relay event: {0}")]
    UnknownRelayEvent(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMessage {
    #[serde(default)]
    response_token: Option<String>,
    body: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRelayEvent {
    event_type: String,
    #[serde(default)]
    body: Option<String>,
}

impl StreamEvent {
    /// Reads an event by its name and data. `None`: an event of a foreign name, which is to be ignored.
    pub fn parse(name: &str, data: &str) -> Result<Option<Self>, StreamEventError> {
        let bad = |error: serde_json::Error| StreamEventError::Json(error.to_string());
        match name {
            "" | "message" => {
                let WireMessage { response_token, body } = serde_json::from_str(data).map_err(bad)?;
                Ok(Some(StreamEvent::Message { response_token, body }))
            }
            "relay_event" => {
                let WireRelayEvent { event_type, body } = serde_json::from_str(data).map_err(bad)?;
                let id = body.unwrap_or_default();
                match event_type.as_str() {
                    "client_closed" => Ok(Some(StreamEvent::ClientClosed(id))),
                    "host_closed" => Ok(Some(StreamEvent::HostClosed(id))),
                    _ => Err(StreamEventError::UnknownRelayEvent(event_type)),
                }
            }
            _ => Ok(None),
        }
    }
}
