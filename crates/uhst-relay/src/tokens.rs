//! Signing and verification of tokens: JWTs with HS256.
//!
//! The module builds tokens on `hmac`, because JWT libraries write the header in another order, and original peers see
//! it as `{"alg":"HS256","typ":"JWT"}`.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{arrivals::SenderId, ticket::InFlight};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use uhst_proto::protocol::{Claims, TokenKind};

/// The encoded header `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The most verified tokens in the cache, and the longest of them in bytes. The cache takes at most 4 MiB.
const MAX_CACHED: usize = 4096;
const MAX_CACHED_LENGTH: usize = 1024;

/// The number of random bytes in each host and client token. Without them, tokens issued in the same second would be
/// equal.
const NONCE: usize = 16;
/// The length of the prefix of a host token's signature that identifies the host in its response tokens.
const HOST_TAG_LENGTH: usize = 16;

/// The reason why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    /// The token is not signed by this relay, or it has expired (401).
    Unauthorized,
    /// The token is signed by this relay, but for an unknown purpose (400).
    Unknown,
}

/// The owner of a verified token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    Host {
        host: Arc<str>,
    },
    Client {
        host: Arc<str>,
        client: Arc<str>,
    },
    /// A response token, issued to the host whose token signature begins with `host_tag`. `None` is valid for every
    /// host.
    Response {
        host: Arc<str>,
        client: Arc<str>,
        host_tag: Option<Box<str>>,
    },
}

/// A verified token, cached because the next request contains it again.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) bearer: Bearer,
    /// The last response token signed for this client.
    response: Mutex<Option<Response>>,
    pub(super) sender: SenderId,
    pub(super) in_flight: Arc<InFlight>,
}

impl Verified {
    fn new(bearer: Bearer, hasher: &impl BuildHasher) -> Self {
        let sender = SenderId(match &bearer {
            Bearer::Host { host } | Bearer::Response { host, .. } => hasher.hash_one(host),
            Bearer::Client { client, .. } => hasher.hash_one(client),
        });
        Verified { bearer, response: Mutex::default(), sender, in_flight: Arc::default() }
    }
}

/// A response token and the inputs it was signed for. `Debug` omits the token.
struct Response {
    second: u64,
    host_tag: Box<str>,
    from: SenderInfo,
    token: Arc<str>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("second", &self.second).finish_non_exhaustive()
    }
}

/// The information about the sender that a response token contains besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SenderInfo {
    /// The network from which the message came.
    pub(super) network: IpAddr,
    /// Whether the sender has an event stream.
    pub(super) listens: bool,
}

/// The signing key and the cache of verified tokens.
pub(super) struct Tokens {
    /// The HMAC state after the key.
    key: Hmac<Sha256>,
    cache: Mutex<HashMap<Box<str>, Arc<Verified>>>,
    /// Derives the ids of senders.
    sender_ids: RandomState,
}

#[derive(Deserialize)]
struct WireHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
}

/// The signed claims: those of the original, and others that original peers ignore. `jti` makes tokens unique; `from`
/// and `listens` are those of [`SenderClaims`](uhst_proto::protocol::SenderClaims).
#[derive(Serialize)]
struct Signed<'a> {
    #[serde(flatten)]
    claims: &'a Claims,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listens: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireClaims {
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    host_id: Value,
    #[serde(default)]
    client_id: Value,
    #[serde(default)]
    jti: Value,
    #[serde(default)]
    exp: Option<Value>,
    #[serde(default)]
    nbf: Option<Value>,
}

impl Tokens {
    /// Uses the bytes of `secret` as the signing key.
    pub(super) fn new(secret: &[u8]) -> Self {
        let Ok(key) = Hmac::new_from_slice(secret) else { unreachable!("HMAC takes a key of any length") };
        Tokens { key, cache: Mutex::default(), sender_ids: RandomState::new() }
    }

    /// Signs these claims and returns the token.
    fn sign(&self, claims: &impl Serialize) -> String {
        // Strings and a number always have a JSON form.
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let mut token = String::with_capacity(HEADER.len() + 2 + claims.len().div_ceil(3) * 4 + 43);
        token.push_str(HEADER);
        token.push('.');
        BASE64.encode_string(claims, &mut token);
        let signature = self.key.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        BASE64.encode_string(signature, &mut token);
        token
    }

    /// Issues a unique token of this kind. Returns `None` if the operating system provides no random bytes.
    pub(super) fn issue(&self, kind: TokenKind, host_id: &str, client_id: Option<&str>) -> Option<String> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let (host_id, client_id) = (host_id.to_owned(), client_id.map(str::to_owned));
        let claims = Claims { kind, host_id, client_id, iat: Some(now()) };
        Some(self.sign(&Signed { claims: &claims, jti: &BASE64.encode(nonce), from: None, listens: None }))
    }

    /// Returns the response token for a message of a client to the host whose token has this signature. The protocol
    /// signs a new one for every message; within one second the tokens are equal, so the last one is reused.
    pub(super) fn respond(
        &self,
        sender: &Verified,
        from: SenderInfo,
        host_id: &str,
        client_id: &str,
        signature: &str,
    ) -> Arc<str> {
        let (second, host_tag) = (now(), host_tag(signature));
        let mut last = sender.response.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if last.second == second && *last.host_tag == *host_tag && last.from == from => {
                last.token.clone()
            }
            _ => {
                let (host_id, client_id) = (host_id.to_owned(), Some(client_id.to_owned()));
                let claims = Claims { kind: TokenKind::ResponseToken, host_id, client_id, iat: Some(second) };
                let (name, listens) = (self.address_alias(from.network), Some(from.listens));
                let signed = Signed { claims: &claims, jti: host_tag, from: Some(&name), listens };
                let token: Arc<str> = self.sign(&signed).into();
                *last = Some(Response { second, host_tag: host_tag.into(), from, token: token.clone() });
                token
            }
        }
    }

    /// Returns an alias of an address, from which only this relay can derive the address.
    fn address_alias(&self, network: IpAddr) -> String {
        let name = self.key.clone().chain_update("address ").chain_update(network.to_string()).finalize().into_bytes();
        BASE64.encode(&name[..9])
    }

    /// Verifies a token and returns its owner.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Verified>, BadToken> {
        let known = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (bearer, cacheable) = self.read(token)?;
        let verified = Arc::new(Verified::new(bearer, &self.sender_ids));
        if cacheable && token.len() <= MAX_CACHED_LENGTH {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= MAX_CACHED {
                // Messages in flight share this entry to keep their order.
                cache.retain(|_, known| Arc::strong_count(known) > 1);
            }
            if cache.len() < MAX_CACHED {
                // Another thread may have verified the same token in the meantime.
                return Ok(cache.entry(token.into()).or_insert(verified).clone());
            }
        }
        Ok(verified)
    }

    /// Decodes a token. Returns its owner, and whether it is valid forever and may be cached.
    fn read(&self, token: &str) -> Result<(Bearer, bool), BadToken> {
        use BadToken::{Unauthorized, Unknown};
        let (signed, signature) = token.rsplit_once('.').ok_or(Unauthorized)?;
        let (header, claims) = signed.split_once('.').ok_or(Unauthorized)?;
        if header != HEADER {
            let header = BASE64.decode(header).map_err(|_| Unauthorized)?;
            let header: WireHeader = serde_json::from_slice(&header).map_err(|_| Unauthorized)?;
            if header.alg != "HS256" {
                return Err(Unauthorized);
            }
        }
        let signature = BASE64.decode(signature).map_err(|_| Unauthorized)?;
        self.key.clone().chain_update(signed).verify_slice(&signature).map_err(|_| Unauthorized)?;

        let claims = BASE64.decode(claims).map_err(|_| Unauthorized)?;
        let claims: WireClaims = serde_json::from_slice(&claims).map_err(|_| Unknown)?;
        let now = now() as f64;
        let cacheable = claims.exp.is_none() && claims.nbf.is_none();
        if claims.exp.is_some_and(|exp| exp.as_f64().is_none_or(|exp| exp <= now))
            || claims.nbf.is_some_and(|nbf| nbf.as_f64().is_none_or(|nbf| nbf > now))
        {
            return Err(Unauthorized);
        }
        let kind = serde_json::from_value(claims.kind).map_err(|_| Unknown)?;
        let host: Arc<str> = claims.host_id.as_str().ok_or(Unknown)?.into();
        let client = || claims.client_id.as_str().map(Arc::from).ok_or(Unknown);
        let bearer = match kind {
            TokenKind::HostToken => Bearer::Host { host },
            TokenKind::ClientToken => Bearer::Client { host, client: client()? },
            TokenKind::ResponseToken => {
                Bearer::Response { host, client: client()?, host_tag: claims.jti.as_str().map(Box::from) }
            }
        };
        Ok((bearer, cacheable))
    }
}

/// Returns the last part of a token. It identifies the token without being usable as one.
pub(super) fn signature(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(_, signature)| signature)
}

/// Returns the prefix of a host token's signature that its response tokens contain.
pub(super) fn host_tag(signature: &str) -> &str {
    signature.get(..HOST_TAG_LENGTH).unwrap_or(signature)
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
