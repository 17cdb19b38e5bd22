//! Peers of the original protocol. The first message of a peer shows its transport, which then stays the same.
//!
//! An original client begins with a text (relay) or an offer (WebRTC). An original host sends nothing before it receives
//! something, so our client addresses every kind of host at once: its introduction is one body that is an empty text to a
//! host on the relay, an offer to a host on WebRTC, and a native packet to a native host. The reply decides. Candidates
//! follow after the answer, since each would be one more message to a game on the relay.
//!
//! The game of a host on the relay therefore receives an empty text. Our relay reports a host that has answered a client by
//! a text; the introduction is then left out, and the first message of our game introduces the client. If the game sends
//! nothing for a moment, an empty text follows.
//!
//! A host that stays silent counts as one on the relay. If it sends an answer after all, the messages so far are sent again
//! over the data channel. If it turns out to be native, because the relay was slow, it continues as a native peer
//! under the same handle, and receives the texts that it ignored as messages. The game sees one peer, connected once.
//!
//! A Dart host cannot read the introduction and drops it, with an error in its log. The first text introduces the client.

mod direct;
mod game;
mod relay;

use bytes::Bytes;
use bytestring::ByteString;
use n0_future::boxed::BoxFuture;
use tokio::sync::mpsc;

pub(super) use self::{direct::DirectPeer, relay::RelayPeer};
use super::{
    contract::EventKind,
    peer_link::{LOCKED, PeerContext, PeerInput, Route},
    relay_error::RelayError,
};
use crate::protocol::{Body, EndReason};

/// The bytes kept of an original while the game decides: an offer, its candidates and some texts.
const KEPT_BYTES: usize = 64 << 10;
/// The messages kept of it.
const KEPT_MESSAGES: usize = 64;
/// The diagnostic when the end of an original cuts off messages.
const NOT_ALL_ARRIVED: &str = "not everything that was sent before the end arrived";

/// Waits for the game to admit an original, and returns what it sent meanwhile.
///
/// # Errors
///
/// The reason if the game refuses, the peer leaves, or it sends too much ([`EndReason::TooMuchData`]).
pub(super) async fn ask(cx: &PeerContext, inputs: &mut mpsc::Receiver<PeerInput>) -> Result<Vec<PeerInput>, EndReason> {
    cx.emit(EventKind::JoinRequest { peer: cx.key, metadata: Bytes::new(), identity: None });
    let mut kept = Vec::new();
    let mut bytes = 0;
    loop {
        match inputs.recv().await {
            Some(PeerInput::Decide(Ok(()))) => return Ok(kept),
            Some(PeerInput::Decide(Err(words))) => return Err(EndReason::Refused(words)),
            Some(PeerInput::Disconnect(reason)) => return Err(reason),
            None => return Err(EndReason::EndedLocally),
            Some(PeerInput::PeerClosed) => return Err(EndReason::Left),
            Some(PeerInput::Locked) => return Err(turned_away(cx, LOCKED)),
            Some(PeerInput::PasswordChanged) => return Err(turned_away(cx, "it cannot prove a password")),
            Some(input) => {
                bytes += if let PeerInput::Body(body, _) = &input { body.size() } else { 0 };
                kept.push(input);
                if bytes > KEPT_BYTES || kept.len() > KEPT_MESSAGES {
                    return Err(EndReason::TooMuchData);
                }
            }
        }
    }
}

/// Tells the game that its answer is of no use any more, and returns the reason.
fn turned_away(cx: &PeerContext, words: &str) -> EndReason {
    let reason = EndReason::Refused(words.to_owned());
    cx.emit(EventKind::JoinAbandoned { peer: cx.key, reason: reason.clone() });
    reason
}

/// The reason why a client that stays on the relay cannot join this host.
pub(super) fn wants_webrtc() -> EndReason {
    let words = "the host speaks the original protocol over WebRTC, and this session stays on the relay: allow direct \
                 paths, or let the host use the relay";
    EndReason::NoDirectPath(words.to_owned())
}

/// One POST. A peer has one in flight at a time, since originals do not restore the order.
type Post = BoxFuture<Result<(), RelayError>>;

fn post(cx: &PeerContext, route: &Route, body: &Body) -> Post {
    Box::pin(cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body.to_json()))
}

/// Posts several texts in one POST. The relay passes on all of them in order, or none.
fn post_texts(cx: &PeerContext, route: &Route, texts: impl Iterator<Item = ByteString>) -> Post {
    let mut bodies: Vec<_> = texts.map(|text| Body::Text(text).to_json()).collect();
    let (relay, to, token) = (cx.relay.clone(), route.send_to.clone(), route.token.clone());
    match bodies.len() {
        1 => Box::pin(relay.send(to, token, bodies.remove(0))),
        _ => Box::pin(relay.send_all(to, token, bodies)),
    }
}

/// Waits for the answer to the POST in flight; forever without one. Cancel safe.
async fn answer(post: &mut Option<Post>) -> Result<(), RelayError> {
    match post {
        Some(post) => post.await,
        None => std::future::pending().await,
    }
}
