//! Bodies, replies and links: what is read survives being written and read again.

use uhst_proto::protocol::{Body, HostReply, JoinLink, JoinReply, PingReply, RelayRequest};
use uhst_relay::internals::{batch, rewrite_json};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(body) = Body::parse(text) {
        let json = body.to_json();
        assert_eq!(Body::parse(&json), Ok(body.clone()), "{json}");
        // Every body of ours goes through a relay, which writes it anew.
        let passed_on = rewrite_json(&json).expect("a body is JSON");
        let passed_on = String::from_utf8(passed_on).expect("JSON is text");
        assert_eq!(Body::parse(&passed_on), Ok(body.clone()), "{passed_on}");
        // Several of them in one POST, too.
        let messages = batch(format!("[{json},{json}]").into()).expect("bodies are JSON");
        assert_eq!(messages.len(), 2);
        for message in messages {
            let message = String::from_utf8(message).expect("JSON is text");
            assert_eq!(Body::parse(&message), Ok(body.clone()), "{message}");
        }
    }
    replies(text);
    if let Ok(link) = text.parse::<JoinLink>() {
        assert_eq!(link.to_string().parse(), Ok(link.clone()), "{link}");
        if let Some(relay) = &link.relay {
            let url = RelayRequest::Join { id: &link.id }.url(relay);
            let id = url.query_pairs().filter(|(name, _)| name == "hostId").last().map(|(_, id)| id.into_owned());
            assert_eq!(id, Some(link.id), "{url}");
        }
    }
}

fn replies(text: &str) {
    if let Ok(reply) = serde_json::from_str::<HostReply>(text) {
        let json = serde_json::to_string(&reply).expect("strings");
        assert_eq!(serde_json::from_str::<HostReply>(&json).expect("own words"), reply);
    }
    if let Ok(reply) = serde_json::from_str::<JoinReply>(text) {
        let json = serde_json::to_string(&reply).expect("strings");
        assert_eq!(serde_json::from_str::<JoinReply>(&json).expect("own words"), reply);
    }
    let _ = serde_json::from_str::<PingReply>(text);
}
