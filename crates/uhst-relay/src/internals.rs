//! Fuzz entry points that run the relay's parsers without a socket. They are not part of the API.

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};

use super::{
    body::{self, Message},
    json, number,
    query::{Param, Query},
    tokens::{BadToken, Bearer, Tokens},
};

/// Rewrites a JSON text as the relay passes it on. Returns `None` if it is not JSON.
pub fn rewrite_json(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    json::rewrite(text, &mut out).ok().map(|()| out)
}

/// Formats a number as the relay writes it.
pub fn write_number(number: f64) -> String {
    let mut out = String::new();
    number::write_number(number, &mut out);
    out
}

/// Parses a number as the relay reads it from a query.
pub fn parse_int(text: &str) -> f64 {
    number::parse_int(text)
}

/// Returns the known parameters in a query. The value is `None` if a parameter occurs more than once.
pub fn query(text: &str) -> Vec<(&'static str, Option<String>)> {
    let query = Query::parse(text);
    [
        ("action", query.action),
        ("hostId", query.host_id),
        ("token", query.token),
        ("timestamp", query.timestamp),
        ("uhst", query.uhst),
        ("key", query.key),
        ("batch", query.batch),
    ]
    .into_iter()
    .filter_map(|(name, param)| match param {
        Param::Missing => None,
        Param::One(value) => Some((name, Some(value.into_owned()))),
        Param::Many => Some((name, None)),
    })
    .collect()
}

/// Processes a body with these headers and a limit of `limit` bytes. Returns what the relay passes on.
///
/// # Errors
///
/// The status of the response if the relay refuses the body.
pub fn body(kind: &[u8], encoding: &[u8], bytes: Bytes, limit: usize) -> Result<Vec<u8>, u16> {
    let mut headers = HeaderMap::new();
    for (name, value) in [(CONTENT_TYPE, kind), (CONTENT_ENCODING, encoding)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let decoded = match body::json_coding(&headers) {
        Ok(Some(encoding)) => {
            body::decompress(bytes.slice(..bytes.len().min(encoding.max_encoded_len(limit))), encoding, limit)
        }
        Ok(None) => Ok(Bytes::new()),
        Err(status) => Err(status),
    };
    let mut out = Vec::new();
    decoded.and_then(|bytes| Message::new(bytes).write(&mut out)).map(|()| out).map_err(|status| status.as_u16())
}

/// Splits a batch into the messages that the relay passes on.
///
/// # Errors
///
/// The status of the response if the relay refuses the batch.
pub fn batch(bytes: Bytes) -> Result<Vec<Vec<u8>>, u16> {
    let written = |message: &Message| {
        let mut out = Vec::new();
        message.write(&mut out).map(|()| out)
    };
    let messages = Message::new(bytes).parts();
    messages.and_then(|messages| messages.iter().map(written).collect()).map_err(|status| status.as_u16())
}

/// Verifies a token of a relay with this secret. Returns the host id, and the client id unless it is a host token.
///
/// # Errors
///
/// The status of the response if the token is not valid.
pub fn verify_token(secret: &[u8], token: &str) -> Result<(String, Option<String>), u16> {
    match Tokens::new(secret).verify(token) {
        Ok(verified) => Ok(match &verified.bearer {
            Bearer::Host { host } => (host.to_string(), None),
            Bearer::Client { host, client } | Bearer::Response { host, client, .. } => {
                (host.to_string(), Some(client.to_string()))
            }
        }),
        Err(BadToken::Unauthorized) => Err(401),
        Err(BadToken::Unknown) => Err(400),
    }
}
