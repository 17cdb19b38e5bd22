//! Requests to a relay, its replies, and the events of its stream.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::NATIVE_VERSION;

/// A request to a relay. All requests use the same URL path, and carry their parameters in the query. `Debug` hides
/// tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RelayRequest<'a> {
    /// `POST ?action=host`: requests a token to listen as a host. Without an id, the relay assigns one.
    Host {
        /// The requested id.
        id: Option<&'a str>,
    },
    /// `POST ?action=join`: requests a token to listen as a client.
    Join {
        /// The host's id.
        id: &'a str,
    },
    /// `POST ?action=ping`: measures the round trip to a relay.
    Ping {
        /// The value that the reply repeats.
        timestamp: u64,
    },
    /// `GET ?token=`: opens the event stream.
    Listen {
        /// A host or client token.
        token: &'a str,
    },
    /// `POST ?token=`: sends a JSON body.
    Send {
        /// A token of any kind.
        token: &'a str,
    },
    /// `POST ?token=&batch=1`: sends a JSON array of bodies. The relay passes on all of them in their order, or none.
    /// Only relays whose reply has [`batch`](JoinReply::batch) support it.
    SendAll {
        /// A token of any kind.
        token: &'a str,
    },
    /// `DELETE ?token=`: makes our relay release a host id. Originals answer 404.
    Release {
        /// The host token.
        token: &'a str,
    },
}

impl fmt::Debug for RelayRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RelayRequest::Host { id } => f.debug_struct("Host").field("id", id).finish(),
            RelayRequest::Join { id } => f.debug_struct("Join").field("id", id).finish(),
            RelayRequest::Ping { timestamp } => f.debug_struct("Ping").field("timestamp", timestamp).finish(),
            RelayRequest::Listen { .. } => f.write_str("Listen { .. }"),
            RelayRequest::Send { .. } => f.write_str("Send { .. }"),
            RelayRequest::SendAll { .. } => f.write_str("SendAll { .. }"),
            RelayRequest::Release { .. } => f.write_str("Release { .. }"),
        }
    }
}

impl RelayRequest<'_> {
    /// Returns the URL of this request at a relay. Values are percent-encoded, and the relay's own query is kept.
    ///
    /// Hosts, joiners and listeners of this crate add `uhst=<version>`, which originals ignore. From it, our relay
    /// learns that a host speaks the native dialect, and tells joiners.
    #[must_use]
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
                    query.append_pair("uhst", &NATIVE_VERSION.to_string());
                }
                RelayRequest::Join { id } => {
                    query.append_pair("action", "join").append_pair("hostId", id);
                    query.append_pair("uhst", &NATIVE_VERSION.to_string());
                }
                RelayRequest::Ping { timestamp } => {
                    query.append_pair("action", "ping").append_pair("timestamp", &timestamp.to_string());
                }
                RelayRequest::Listen { token } => {
                    query.append_pair("token", token).append_pair("uhst", &NATIVE_VERSION.to_string());
                }
                RelayRequest::SendAll { token } => {
                    query.append_pair("token", token).append_pair("batch", "1");
                }
                RelayRequest::Send { token } | RelayRequest::Release { token } => {
                    query.append_pair("token", token);
                }
            }
        }
        url
    }

    /// Returns the URL of the relay for the URL of a request.
    pub fn without_query(request: &Url) -> Url {
        let added = ["action", "hostId", "timestamp", "token", "uhst", "batch"];
        let kept: Vec<_> = request.query_pairs().filter(|(key, _)| !added.contains(&key.as_ref())).collect();
        let mut relay = request.clone();
        relay.set_query(None);
        if !kept.is_empty() {
            relay.query_pairs_mut().extend_pairs(kept);
        }
        relay
    }
}

/// The reply to [`RelayRequest::Host`]. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReply {
    /// The assigned id, which may differ from the requested one.
    pub host_id: String,
    /// The token for [`RelayRequest::Listen`] and broadcasts.
    pub host_token: String,
    /// The URL to send to, if it differs from the relay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_url: Option<String>,
    /// The URL to listen on, if it differs from the relay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_url: Option<String>,
    /// Whether the relay supports [`RelayRequest::SendAll`]. Only our relay sends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
}

impl fmt::Debug for HostReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostReply").field("host_id", &self.host_id).finish_non_exhaustive()
    }
}

/// The reply to [`RelayRequest::Join`]. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinReply {
    /// The token for [`RelayRequest::Listen`] and [`RelayRequest::Send`].
    pub client_token: String,
    /// The URL to send to, if it differs from the relay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_url: Option<String>,
    /// The URL to listen on, if it differs from the relay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_url: Option<String>,
    /// Present if the host speaks the native dialect. Only our relay sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uhst: Option<NativeHint>,
    /// Whether the relay supports [`RelayRequest::SendAll`]. Only our relay sends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
    /// Whether the host is an original on the relay transport, which is known once it has answered a client with text.
    /// Only our relay sends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub texts: bool,
}

impl fmt::Debug for JoinReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinReply").field("uhst", &self.uhst).finish_non_exhaustive()
    }
}

/// Shows that a host speaks the native dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeHint {
    /// The version of the host.
    pub v: u32,
}

/// The reply to [`RelayRequest::Ping`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingReply {
    /// The timestamp of the request, as parsed by JavaScript's `parseInt`.
    pub pong: Option<f64>,
}

/// An event of the relay's stream. `Debug` hides tokens.
#[derive(Clone)]
pub enum StreamEvent {
    /// A message from a peer.
    Message {
        /// The token for answering the sender, whose claims name it. Only hosts receive it.
        response_token: Option<String>,
        /// The message, see [`Body`](super::Body).
        body: Box<RawValue>,
    },
    /// The stream of this client has closed. Only hosts receive it.
    ClientClosed(String),
    /// The stream of the host with this id has closed. Only clients receive it.
    HostClosed(String),
}

impl fmt::Debug for StreamEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamEvent::Message { body, .. } => f.debug_struct("Message").field("body", body).finish_non_exhaustive(),
            StreamEvent::ClientClosed(client) => f.debug_tuple("ClientClosed").field(client).finish(),
            StreamEvent::HostClosed(host) => f.debug_tuple("HostClosed").field(host).finish(),
        }
    }
}

/// An unknown event. A peer reports it and continues reading.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamEventError {
    /// The data is not the JSON of its event.
    #[error("the relay sent an event that cannot be read: {0}")]
    Json(String),
    /// The `relay_event` has an unknown type.
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
    /// Parses an event from its name and data. Returns `None` for unknown names, which are to be ignored.
    ///
    /// # Errors
    ///
    /// [`StreamEventError`] if the data of a known event cannot be read.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_urls_with_everything_in_the_query() {
        let relay = Url::parse("http://relay:3000/?region=eu#demo").expect("a URL");
        for (request, query) in [
            (RelayRequest::Host { id: None }, "action=host&uhst=2"),
            (RelayRequest::Host { id: Some("a+b&c#ü") }, "action=host&hostId=a%2Bb%26c%23%C3%BC&uhst=2"),
            (RelayRequest::Join { id: "my game" }, "action=join&hostId=my+game&uhst=2"),
            (RelayRequest::Ping { timestamp: 17 }, "action=ping&timestamp=17"),
            (RelayRequest::Listen { token: "a.b.c" }, "token=a.b.c&uhst=2"),
            (RelayRequest::Send { token: "a.b-_.c" }, "token=a.b-_.c"),
            (RelayRequest::SendAll { token: "a.b-_.c" }, "token=a.b-_.c&batch=1"),
            (RelayRequest::Release { token: "a.b.c" }, "token=a.b.c"),
        ] {
            assert_eq!(request.url(&relay).as_str(), format!("http://relay:3000/?region=eu&{query}"));
            assert_eq!(RelayRequest::without_query(&request.url(&relay)).as_str(), "http://relay:3000/?region=eu");
        }
    }

    #[test]
    fn replies_are_the_bytes_of_the_relay() {
        let json = r#"{"hostId":"demo","hostToken":"a.b.c"}"#;
        let reply: HostReply = serde_json::from_str(json).expect("a reply");
        assert_eq!((reply.host_id.as_str(), reply.host_token.as_str(), &reply.send_url), ("demo", "a.b.c", &None));
        assert_eq!(serde_json::to_string(&reply).expect("strings"), json);

        let json = r#"{"clientToken":"a.b.c"}"#;
        let reply: JoinReply = serde_json::from_str(json).expect("a reply");
        assert_eq!((reply.client_token.as_str(), reply.uhst), ("a.b.c", None));
        assert_eq!(serde_json::to_string(&reply).expect("strings"), json);
        let json = r#"{"clientToken":"a.b.c","sendUrl":"http://s/","receiveUrl":"http://r/","uhst":{"v":1}}"#;
        let reply: JoinReply = serde_json::from_str(json).expect("a reply");
        assert_eq!(reply.uhst, Some(NativeHint { v: 1 }));
        assert_eq!(serde_json::to_string(&reply).expect("strings"), json);

        for (json, pong) in [
            (r#"{"pong":12}"#, Some(12.0)),
            (r#"{"pong":null}"#, None),
            (r#"{"pong":1.2345678901234568e+22}"#, Some(1.2345678901234568e22)),
        ] {
            assert_eq!(serde_json::from_str::<PingReply>(json).expect("a reply"), PingReply { pong });
        }
    }

    #[test]
    fn events_of_the_stream() {
        let message = |data| match StreamEvent::parse("message", data) {
            Ok(Some(StreamEvent::Message { response_token, body })) => (response_token, body.get().to_owned()),
            other => panic!("{data}: {other:?}"),
        };
        let hi = r#"{"type":"string","payload":"hi"}"#.to_owned();
        let to_host = r#"{"responseToken":"a.b.c","body":{"type":"string","payload":"hi"}}"#;
        assert_eq!(message(to_host), (Some("a.b.c".to_owned()), hi.clone()));
        assert_eq!(message(r#"{"body":{"type":"string","payload":"hi"}}"#), (None, hi));
        assert_eq!(message(r#"{"body":{}}"#), (None, "{}".to_owned()));

        let event = |data| StreamEvent::parse("relay_event", data);
        let closed = r#"{"eventType":"client_closed","body":"3c1f"}"#;
        assert!(matches!(event(closed), Ok(Some(StreamEvent::ClientClosed(id))) if id == "3c1f"));
        let closed = r#"{"eventType":"host_closed","body":"demo"}"#;
        assert!(matches!(event(closed), Ok(Some(StreamEvent::HostClosed(id))) if id == "demo"));
        assert_eq!(
            event(r#"{"eventType":"paused"}"#).map(|_| ()),
            Err(StreamEventError::UnknownRelayEvent("paused".to_owned()))
        );
        for data in ["", "{}", r#"{"body"}"#] {
            assert!(matches!(event(data), Err(StreamEventError::Json(_))), "{data}");
            assert!(matches!(StreamEvent::parse("", data), Err(StreamEventError::Json(_))), "{data}");
        }
        assert!(matches!(StreamEvent::parse("another", "anything"), Ok(None)));
    }
}
