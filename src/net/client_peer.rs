//! The task of the host as a client's peer: speaks the native dialect, unless the host turns out to be an original.

use n0_future::time::Instant;
use tokio::sync::mpsc;

use super::{
    contract::SessionOptions,
    offer::Offer,
    peer::{NativeOutcome, NativePeer, Role, connection_seed},
    peer_link::{PeerContext, PeerEnd, PeerInput, PeerOutput, Route},
    plain::{self, DirectPeer, RelayPeer},
    relay_access::HostHint,
    webrtc::DirectConfig,
};
use crate::{
    connection::{Connection, Credentials, Timestamp},
    protocol::{Body, EndReason, KeyHash, PathPolicy},
};

/// Runs the host as a peer to its end, and reports the end to the session.
pub(super) async fn run(
    cx: PeerContext,
    options: SessionOptions,
    (id, pinned): (String, Option<KeyHash>),
    hint: Option<HostHint>,
    route: Route,
    mut inputs: mpsc::Receiver<PeerInput>,
) {
    let end = match (hint, relay_original_refusal(&cx, &options)) {
        // An original has no key. A relay must not turn a join by a link with one into an unprotected one.
        (Some(HostHint::Texts), _) if pinned.is_some() => EndReason::WrongHostKey.into(),
        (Some(HostHint::Texts), Some(reason)) => reason.into(),
        (Some(HostHint::Texts), None) => RelayPeer::known_host(cx.clone(), route).run(Vec::new(), &mut inputs).await,
        _ => introduce(&cx, options, (id, pinned), hint.is_some(), route, &mut inputs).await,
    };
    cx.notify(PeerOutput::Ended(end));
}

/// Why this session cannot play with an original host on the relay, if so.
fn relay_original_refusal(cx: &PeerContext, options: &SessionOptions) -> Option<EndReason> {
    let words = "the host speaks the original protocol, ";
    match cx.paths {
        _ if options.password.is_some() => Some(EndReason::Refused(format!("{words}which has no passwords"))),
        PathPolicy::DirectOnly => Some(EndReason::NoDirectPath(format!("{words}over the relay"))),
        _ => None,
    }
}

/// Introduces this client to a host, which is native if `certain`, and else may be an original.
async fn introduce(
    cx: &PeerContext,
    options: SessionOptions,
    (id, pinned): (String, Option<KeyHash>),
    certain: bool,
    route: Route,
    inputs: &mut mpsc::Receiver<PeerInput>,
) -> PeerEnd {
    let refusal = relay_original_refusal(cx, &options);
    let has_password = options.password.is_some();
    let certain = certain || pinned.is_some();
    let connection = match connect(cx, options, id, pinned) {
        Ok(connection) => connection,
        Err(reason) => return reason.into(),
    };
    let offer = if certain || has_password { None } else { Offer::create(offer_config(cx)).await };
    let role = Role::Client { certain, pinned: pinned.is_some(), offer };
    let native = NativePeer::new(cx.clone(), role, Some(route.clone()), connection, Instant::now());
    let (first, offer, native) = match native.run(inputs).await {
        NativeOutcome::Original { first, offer, peer } => (first, offer, peer),
        NativeOutcome::Ended(end) => return end,
    };
    let has_answered = matches!(first, Some(Body::Signal(_)));
    match (first, offer, refusal) {
        (_, _, Some(reason)) if has_password => reason.into(),
        _ if has_answered && cx.paths == PathPolicy::RelayOnly => plain::wants_webrtc().into(),
        (Some(first), Some(offer), _) if has_answered => {
            let first = vec![PeerInput::Body(first, None)];
            DirectPeer::offered(cx.clone(), route, offer).run(first, inputs).await
        }
        (_, _, Some(reason)) => reason.into(),
        // The host is silent, and may still answer.
        (None, offer, None) => RelayPeer::silent_host(cx.clone(), route, offer, native).run(Vec::new(), inputs).await,
        (Some(first), _, None) => {
            let first = vec![PeerInput::Body(first, None)];
            RelayPeer::host(cx.clone(), route).run(first, inputs).await
        }
    }
}

fn connect(
    cx: &PeerContext,
    mut options: SessionOptions,
    host_id: String,
    host_key: Option<KeyHash>,
) -> Result<Connection, EndReason> {
    let key = options.key()?;
    let password = options.password;
    let credentials = Credentials { host_id, password, game: options.game, key, host_key };
    let seed = connection_seed()?;
    Connection::connect(cx.config.clone(), &credentials, options.metadata, seed, Timestamp::ZERO)
        .map(|connection| connection.with_paths(cx.paths))
        .map_err(|error| EndReason::NotStarted(error.to_string()))
}

/// The settings of the offer. Also on the relay only, the answer to an offer is the only sign that an original host wants
/// WebRTC. The offer then names no address, and no server is asked for one.
fn offer_config(cx: &PeerContext) -> DirectConfig {
    match cx.paths {
        PathPolicy::RelayOnly => DirectConfig { ice_servers: Vec::new(), ..cx.direct.clone() },
        _ => cx.direct.clone(),
    }
}
