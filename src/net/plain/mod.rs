//! Peers of the original protocol: which transport they speak shows in what they say first, and stays.
//!
//! An original client sends a text (relay) or an offer (WebRTC). An original host says nothing before it is spoken to,
//! so our client speaks to both at once: its introduction is one body that is an empty text to a host on the relay, an
//! offer to a host on WebRTC, and a native packet to a host of ours. Only what comes back, an answer or something else,
//! decides. Candidates follow after the answer, since each would be one more message to a game on the relay.
//!
//! So the game of a host on the relay gets an empty text, since whatever comes first is a message to it, while a host on
//! WebRTC needs an offer first. It is left out where our relay tells that the host has answered somebody by a text: what
//! our game sends is then the first that the host gets. Only if it sends nothing for a moment does an empty text
//! introduce us.
//!
//! A host that says nothing for a while is taken for one on the relay. Should it answer after all, what was sent until
//! then is sent again over the data channel. One that turns out to be native, because the relay was slow, goes on as a
//! native peer under a new handle: it has ignored the texts that it got meanwhile, and gets them as messages. The game sees
//! one peer, connected once.
//!
//! A Dart host cannot read that body and drops it, with an error in its log; it knows us by our first text.

mod direct;
mod game;
mod relay;

use bytes::Bytes;
use bytestring::ByteString;
use n0_future::boxed::BoxFuture;
use tokio::sync::mpsc;

pub(super) use self::{
    direct::{DirectPeer, Offer},
    relay::RelayPeer,
};
use super::{
    contract::EventKind,
    peer_link::{PeerContext, PeerInput, Route},
    relay_error::RelayError,
};
use crate::protocol::{Body, EndReason};

/// Bytes kept of an original that waits for the game's decision: an offer, its candidates and some texts.
const WAITING: usize = 64 << 10;
/// Messages kept of it.
const WAITING_MESSAGES: usize = 64;
/// What the game is told once, where the goodbye to an original has cut something off.
const NOT_ALL_ARRIVED: &str = "not everything that was sent before the end arrived";

/// Waits for the game to let an original in. Keeps what it sends meanwhile; one that sends too much is sent away.
pub(super) async fn ask(cx: &PeerContext, inputs: &mut mpsc::Receiver<PeerInput>) -> Result<Vec<PeerInput>, EndReason> {
    cx.emit(EventKind::JoinRequest { peer: cx.key, metadata: Bytes::new() });
    let mut kept = Vec::new();
    let mut bytes = 0;
    loop {
        match inputs.recv().await {
            Some(PeerInput::Decide(Ok(()))) => return Ok(kept),
            Some(PeerInput::Decide(Err(words))) => return Err(EndReason::Refused(words)),
            Some(PeerInput::Disconnect(reason)) => return Err(reason),
            None => return Err(EndReason::EndedLocally),
            Some(PeerInput::PeerClosed) => return Err(EndReason::Left),
            Some(input) => {
                bytes += if let PeerInput::Body(body, _) = &input { body.size() } else { 0 };
                kept.push(input);
                if bytes > WAITING || kept.len() > WAITING_MESSAGES {
                    return Err(EndReason::TooMuchData);
                }
            }
        }
    }
}

/// Why a client that stays on the relay cannot join this host.
pub(super) fn wants_webrtc() -> EndReason {
    let words = "the host speaks the original protocol over WebRTC, and this session stays on the relay: allow direct \
                 paths, or let the host use the relay";
    EndReason::NoDirectPath(words.to_owned())
}

/// One POST. A peer has one in flight at a time: originals take what they get in the order in which it comes.
type Post = BoxFuture<Result<(), RelayError>>;

fn post(cx: &PeerContext, route: &Route, body: &Body) -> Post {
    Box::pin(cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body.to_json()))
}

/// Several texts in one POST: to a relay that passes on all of them in their order, or none.
fn post_texts(cx: &PeerContext, route: &Route, texts: impl Iterator<Item = ByteString>) -> Post {
    let mut bodies: Vec<_> = texts.map(|text| Body::Text(text).to_json()).collect();
    let (relay, to, token) = (cx.relay.clone(), route.send_to.clone(), route.token.clone());
    match bodies.len() {
        1 => Box::pin(relay.send(to, token, bodies.remove(0))),
        _ => Box::pin(relay.send_all(to, token, bodies)),
    }
}

/// The answer to a POST, if one is in flight. Cancel safe.
async fn answer(post: &mut Option<Post>) -> Result<(), RelayError> {
    match post {
        Some(post) => post.await,
        None => std::future::pending().await,
    }
}
