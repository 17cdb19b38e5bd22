use std::collections::HashSet;

use super::*;
use uhst_proto::protocol::peek_sender;

fn signed(tokens: &Tokens, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = tokens.key.clone().chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", BASE64.encode(signature))
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn a_token_has_the_bytes_of_the_original() {
    // The expected bytes are those of `jsonwebtoken.sign({type,hostId,iat}, "secret")`: header and claims in this
    // order.
    let tokens = Tokens::new(b"secret");
    let claims =
        Claims { kind: TokenKind::HostToken, host_id: "demo".into(), client_id: None, iat: Some(1_795_376_414) };
    let token = tokens.sign(&claims);
    assert_eq!(token, signed(&tokens, HS256, r#"{"type":"hostToken","hostId":"demo","iat":1795376414}"#));
    assert!(token.starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."));
}

#[test]
fn a_signed_token_names_its_bearer() {
    let tokens = Tokens::new(b"secret");
    let (host, client): (Arc<str>, Arc<str>) = ("größe".into(), "c1".into());
    for (kind, client_id, bearer) in [
        (TokenKind::HostToken, None, Bearer::Host { host: host.clone() }),
        (TokenKind::ClientToken, Some("c1"), Bearer::Client { host: host.clone(), client: client.clone() }),
    ] {
        let token = tokens.issue(kind, "größe", client_id).expect("random bytes");
        // The second call uses the cache.
        assert_eq!(tokens.verify(&token).expect("own token").bearer, bearer);
        assert_eq!(tokens.verify(&token).expect("own token").bearer, bearer);
        assert_eq!(Tokens::new(b"other").verify(&token).map(|_| ()), Err(BadToken::Unauthorized));
    }
    let sender = tokens.verify(&tokens.issue(TokenKind::ClientToken, "größe", Some("c1")).expect("random bytes"));
    let from = SenderInfo { network: IpAddr::from([192, 0, 2, 1]), listens: true };
    let response = tokens.respond(&sender.expect("own token"), from, "größe", "c1", "0123456789abcdef and more");
    let host_tag = Some("0123456789abcdef".into());
    assert_eq!(tokens.verify(&response).expect("own token").bearer, Bearer::Response { host, client, host_tag });
}

#[test]
fn a_host_learns_whether_two_messages_came_from_one_address_and_not_which() {
    let tokens = Tokens::new(b"secret");
    let sender = tokens.issue(TokenKind::ClientToken, "demo", Some("c1")).expect("random bytes");
    let sender = tokens.verify(&sender).expect("own token");
    let respond = |last, listens| {
        let from = SenderInfo { network: IpAddr::from([192, 0, 2, last]), listens };
        peek_sender(&tokens.respond(&sender, from, "demo", "c1", "host_tag")).expect("a token")
    };
    let (one, again, other) = (respond(1, true), respond(1, false), respond(2, true));
    assert_eq!((one.listens, again.listens), (Some(true), Some(false)));
    assert_eq!(one.from, again.from);
    assert_ne!(one.from, other.from);
    assert_eq!(one.from.map(|name| name.len()), Some(12));
}

#[test]
fn tokens_of_the_same_second_are_different() {
    let tokens = Tokens::new(b"secret");
    for kind in [TokenKind::HostToken, TokenKind::ClientToken] {
        let all: HashSet<_> = (0..1000).map(|_| tokens.issue(kind, "demo", Some("c1"))).collect();
        assert_eq!(all.len(), 1000);
    }
}

#[test]
fn bad_tokens_are_distinguished() {
    use BadToken::{Unauthorized, Unknown};
    let tokens = Tokens::new(b"secret");
    let good = r#"{"type":"hostToken","hostId":"demo"}"#;
    let check = |header, claims| tokens.verify(&signed(&tokens, header, claims)).map(|_| ());
    assert_eq!(check(HS256, good), Ok(()), "iat may be missing");
    assert_eq!(check(r#"{"alg":"HS256"}"#, good), Ok(()), "typ may be missing");
    assert_eq!(check(r#"{"typ":"JWT","alg":"HS256"}"#, good), Ok(()));
    assert_eq!(check(r#"{"alg":"none","typ":"JWT"}"#, good), Err(Unauthorized));
    assert_eq!(check(r#"{"alg":"HS512","typ":"JWT"}"#, good), Err(Unauthorized));
    for (claims, expected) in [
        (r#"{"type":"hostToken","hostId":"demo","exp":1}"#, Err(Unauthorized)),
        (r#"{"type":"hostToken","hostId":"demo","exp":"soon"}"#, Err(Unauthorized)),
        (r#"{"type":"hostToken","hostId":"demo","exp":99999999999}"#, Ok(())),
        (r#"{"type":"hostToken","hostId":"demo","nbf":99999999999}"#, Err(Unauthorized)),
        (r#"{"type":"hostToken","hostId":"demo","nbf":1.5}"#, Ok(())),
        (r#"{"type":"adminToken","hostId":"demo"}"#, Err(Unknown)),
        (r#"{"hostId":"demo"}"#, Err(Unknown)),
        (r#"{"type":"clientToken","hostId":"demo"}"#, Err(Unknown)),
        (r#"{"type":"hostToken","hostId":["demo"]}"#, Err(Unknown)),
        (r#""text""#, Err(Unknown)),
    ] {
        assert_eq!(check(HS256, claims), expected, "{claims}");
    }
    let token = signed(&tokens, HS256, good);
    for bad in ["", ".", "..", "a.b.c", "undefined", &token[1..], &token[..token.len() - 1], &format!("{token}.")] {
        assert_eq!(tokens.verify(bad).map(|_| ()), Err(Unauthorized), "{bad}");
    }
}

#[test]
fn the_token_cache_is_bounded() {
    let tokens = Tokens::new(b"secret");
    for n in 0..MAX_CACHED + 10 {
        let token = tokens.issue(TokenKind::HostToken, &n.to_string(), None).expect("random bytes");
        assert!(tokens.verify(&token).is_ok());
    }
    assert!(tokens.cache.lock().expect("not poisoned").len() <= MAX_CACHED);
}
