//! Tokens: only what the relay has signed gets in, and what a peer reads in it is what the relay reads.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uhst_proto::protocol::{TokenKind, peek_token};
use uhst_relay::internals::verify_token;

use super::source::Source;

const SECRET: &[u8] = b"secret";

pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    match source.u8() % 4 {
        0 => stranger(&String::from_utf8_lossy(source.rest())),
        1 => {
            let at = source.u16();
            let flip = source.u8();
            forged(at.into(), flip, source.rest());
        }
        2 => signed("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", source.rest()),
        _ => {
            let header = BASE64.encode(source.until(b'\n'));
            signed(&header, source.rest());
        }
    }
}

fn sign(signed: &str) -> String {
    let key = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key of any length");
    format!("{signed}.{}", BASE64.encode(key.chain_update(signed).finalize().into_bytes()))
}

/// Whoever does not know the secret.
fn stranger(token: &str) {
    let _ = peek_token(token);
    assert_eq!(verify_token(SECRET, token), Err(401), "{token}");
}

/// A token of the relay with one byte changed.
fn forged(at: usize, flip: u8, claims: &[u8]) {
    let token = sign(&format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}", BASE64.encode(claims)));
    let mut bytes = token.clone().into_bytes();
    let at = at % bytes.len();
    bytes[at] ^= flip;
    match String::from_utf8(bytes) {
        Ok(forged) if forged != token => stranger(&forged),
        _ => {}
    }
}

/// A token with these claims, and a header that only the relay can have written.
fn signed(header: &str, claims: &[u8]) {
    let token = sign(&format!("{header}.{}", BASE64.encode(claims)));
    let (Ok((host, client)), Ok(claims)) = (verify_token(SECRET, &token), peek_token(&token)) else { return };
    assert_eq!(claims.host_id, host);
    if claims.kind != TokenKind::HostToken {
        assert_eq!(claims.client_id, client);
    }
}
