//! The tokens of relays: JWTs whose claims peers may read, and only the relay can verify.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenKind {
    /// Listening as the host, and broadcasting.
    HostToken,
    /// Listening as a client, and sending to the host.
    ClientToken,
    /// Answering one client.
    ResponseToken,
}

/// The claims of a token, in the order in which relay 2.7.0 writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The kind of the token.
    #[serde(rename = "type")]
    pub kind: TokenKind,
    /// The id of the host.
    pub host_id: String,
    /// The id of the client, in client and response tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The time of issue, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
}

/// The claims of a response token about the sender of a message. Originals write only the client's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SenderClaims {
    /// The id of the client.
    pub client_id: String,
    /// A pseudonym of the sender's address, which is stable while the relay runs. Only our relay sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether the client had an event stream when it sent the message. Only our relay sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listens: Option<bool>,
}

/// A token that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not a JWT with the claims of a relay")]
pub struct TokenError;

/// Reads the claims of a token **without verifying it**, as the originals do to identify the sender of a message.
///
/// # Errors
///
/// [`TokenError`] if the token is not a JWT with these claims.
pub fn peek_token(token: &str) -> Result<Claims, TokenError> {
    peek(token)
}

/// Reads the sender of a message from its response token **without verifying it**.
///
/// # Errors
///
/// [`TokenError`] if the token is not a JWT with these claims.
pub fn peek_sender(token: &str) -> Result<SenderClaims, TokenError> {
    peek(token)
}

fn peek<T: DeserializeOwned>(token: &str) -> Result<T, TokenError> {
    let claims = token.split('.').nth(1).ok_or(TokenError)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError)?;
    serde_json::from_slice(&claims).map_err(|_| TokenError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}.c2lnbmF0dXJl", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn claims_keep_the_order_of_the_relay() {
        let id = "0a1b2c3d-0000-4000-8000-000000000000";
        for (json, kind, client_id) in [
            (r#"{"type":"hostToken","hostId":"demo","iat":1795376414}"#.to_owned(), TokenKind::HostToken, None),
            (
                format!(r#"{{"type":"clientToken","hostId":"demo","clientId":"{id}","iat":1795376414}}"#),
                TokenKind::ClientToken,
                Some(id.to_owned()),
            ),
            (
                format!(r#"{{"type":"responseToken","hostId":"demo","clientId":"{id}","iat":1795376414}}"#),
                TokenKind::ResponseToken,
                Some(id.to_owned()),
            ),
        ] {
            let claims = Claims { kind, host_id: "demo".to_owned(), client_id, iat: Some(1_795_376_414) };
            assert_eq!(serde_json::to_string(&claims).expect("strings"), json);
            assert_eq!(peek_token(&token(&json)), Ok(claims));
        }
    }

    #[test]
    fn a_sender_is_known_with_and_without_what_our_relay_adds() {
        let plain = token(r#"{"type":"responseToken","hostId":"demo","clientId":"c","iat":1}"#);
        let sender = SenderClaims { client_id: "c".to_owned(), from: None, listens: None };
        assert_eq!(peek_sender(&plain), Ok(sender));
        let ours =
            token(r#"{"type":"responseToken","hostId":"demo","clientId":"c","iat":1,"from":"x","listens":true}"#);
        let sender = SenderClaims { client_id: "c".to_owned(), from: Some("x".to_owned()), listens: Some(true) };
        assert_eq!(peek_sender(&ours), Ok(sender));
        assert_eq!(peek_sender(&token(r#"{"type":"hostToken","hostId":"demo"}"#)), Err(TokenError));
    }

    #[test]
    fn an_invalid_token_is_an_error() {
        for text in ["", "undefined", "a.b.c", "..", &token("[]"), &token(r#"{"type":"adminToken","hostId":"demo"}"#)] {
            assert_eq!(peek_token(text), Err(TokenError), "{text}");
        }
    }
}
