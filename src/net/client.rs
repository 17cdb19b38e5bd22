//! The task of a client: finds its host through the relay, keeps the event stream open, and feeds the task of its one
//! peer.

use std::time::Duration;

use futures_util::future::OptionFuture;
use n0_future::{boxed::BoxFuture, task, time::sleep};
use tokio::sync::mpsc;
use url::Url;

use super::{
    backoff::Backoff,
    contract::{ClientOptions, Event, EventKind, PeerKey, SessionCommand, SessionKey, SessionOptions},
    directory,
    events::{EventStream, StreamItem},
    here,
    opening::{Opened, Patience, open},
    peer::{NativePeer, Role},
    peer_link::{Outcome, PeerContext, PeerInput, PeerOutput, Route},
    plain::{self, DirectPeer, Offer, RelayPeer},
    relay_choice::Relay,
    relay_client::{Access, HostHint, Joined, RelayClient},
    relay_error::RelayError,
    report::{Nonsense, Reports},
    webrtc::{AddressWatch, DirectConfig},
};
use crate::{
    connection::{Connection, Credentials, Timestamp, random_seed},
    protocol::{Body, EndReason, JoinLink, PathPolicy, StreamEvent},
};

/// Inputs that may wait for the task of a peer, which never waits for anything but inputs.
pub(super) const INPUTS: usize = 1024;
/// On a client the host is the one peer.
const HOST: PeerKey = PeerKey(0);

/// Runs a client to its end, and reports it.
pub(super) async fn run(
    session: SessionKey,
    options: ClientOptions,
    events: crossbeam_channel::Sender<Event>,
    commands: mpsc::UnboundedReceiver<SessionCommand>,
) {
    let reason = Client { session, options, events: events.clone(), commands }.run().await;
    let _ = events.send(Event { session, kind: EventKind::Ended { reason } });
}

struct Client {
    session: SessionKey,
    options: ClientOptions,
    events: crossbeam_channel::Sender<Event>,
    commands: mpsc::UnboundedReceiver<SessionCommand>,
}

impl Client {
    async fn run(mut self) -> EndReason {
        let found = tokio::select! {
            found = find(&self.options) => found,
            () = left(&mut self.commands) => return EndReason::EndedLocally,
        };
        match found {
            Ok((relay, id, joined, stream)) => self.play(relay, id, joined, stream).await,
            Err(reason) => reason,
        }
    }

    async fn play(mut self, relay: RelayClient, id: String, joined: Joined, stream: EventStream) -> EndReason {
        let link = JoinLink { relay: relay.url(), id: id.clone() };
        let kind = EventKind::Ready { id: id.clone(), links: vec![link] };
        let _ = self.events.send(Event { session: self.session, kind });

        let (outputs, mut heard) = mpsc::unbounded_channel();
        let (inputs, receiver) = mpsc::channel(INPUTS);
        let options = self.options.session.clone();
        let cx = PeerContext::new((self.session, HOST), self.events.clone(), outputs, relay.clone(), &options);
        task::spawn(peer(cx, options, id.clone(), joined.hint, route(joined.access), receiver));

        let mut reports = Reports::new(self.session, self.events.clone());
        let mut stream = Some(stream);
        let mut reconnect: Option<BoxFuture<Result<(Access, EventStream), RelayError>>> = None;
        let mut backoff = Backoff::relay();
        // The last error of the relay, while it is lost.
        let mut lost = None;
        let mut leaving = false;
        // A host that has answered once may be gone for reasons of its own.
        let mut answered = false;
        let mut addresses = AddressWatch::new();
        loop {
            let (mut broken, mut changed) = (None, None);
            tokio::select! {
                Some(item) = OptionFuture::from(stream.as_mut().map(EventStream::next)) => match item {
                    Ok(StreamItem::Event(event)) => receive(event, &inputs, &mut reports).await,
                    Ok(StreamItem::Bad(error)) => reports.once(Nonsense::Event, || error.to_string()),
                    Ok(StreamItem::Open | StreamItem::Alive) => {}
                    Err(error) => broken = Some(error),
                },
                Some(back) = OptionFuture::from(reconnect.as_mut()) => match back {
                    Ok((access, opened)) => {
                        stream = Some(opened);
                        reconnect = None;
                        lost = None;
                        backoff.reset();
                        reports.say("the relay is back".to_owned());
                        let _ = inputs.send(PeerInput::RelayUp(Some(route(access)))).await;
                    }
                    Err(error) => {
                        tracing::debug!("joining again failed: {error}");
                        let pause = backoff.next().max(error.wait());
                        reconnect = Some(Box::pin(rejoin(relay.clone(), id.clone(), pause)));
                        lost = Some(error);
                    }
                },
                Some((_, output)) = heard.recv() => match output {
                    PeerOutput::BadToken => broken = Some(RelayError::BadToken),
                    PeerOutput::RelayGone(error) => broken = Some(error),
                    PeerOutput::RelaySilent => {
                        broken = Some(RelayError::Unreachable("nothing comes over its event stream".to_owned()));
                    }
                    PeerOutput::Ended { reason, .. } => return ended(reason, lost.filter(|_| !answered), &relay),
                    PeerOutput::Identified(_) => answered = true,
                    PeerOutput::Placed
                    | PeerOutput::WrongPassword
                    | PeerOutput::WantsPlace
                    | PeerOutput::Interrupted(_)
                    | PeerOutput::Rebound(_) => {}
                },
                change = addresses.changed() => {
                    if change.gone && relay.forget_connections() {
                        broken = Some(RelayError::Unreachable("an address of this machine is gone".to_owned()));
                    }
                    changed = Some(change);
                }
                command = self.commands.recv(), if !leaving => match command {
                    // There is nothing to decide for a client.
                    Some(
                        SessionCommand::Decide { .. }
                        | SessionCommand::MaxPeers(_)
                        | SessionCommand::Password(_)
                        | SessionCommand::Locked(_),
                    ) => {}
                    Some(SessionCommand::Conditions(conditions)) => {
                        let _ = inputs.send(PeerInput::Conditions(conditions)).await;
                    }
                    // Dropping the handle leaves, too.
                    Some(SessionCommand::Leave) | None => {
                        leaving = true;
                        let _ = inputs.send(PeerInput::Disconnect(EndReason::EndedLocally)).await;
                    }
                }
            }
            if let Some(error) = broken
                && stream.take().is_some()
            {
                reports.say(format!("the relay is lost: {error}"));
                lost = Some(error);
                let _ = inputs.send(PeerInput::RelayDown).await;
                reconnect = Some(Box::pin(rejoin(relay.clone(), id.clone(), Duration::ZERO)));
            }
            if let Some(change) = changed {
                let _ = inputs.send(PeerInput::AddressesChanged(change)).await;
            }
        }
    }
}

/// A peer that could not be reached because the relay could not is no fault of the peer. The relay's last error counts,
/// since the first one depends on which request was under way. A relay that answers without knowing the host is there.
fn ended(reason: EndReason, lost: Option<RelayError>, relay: &RelayClient) -> EndReason {
    match (reason, lost) {
        (EndReason::TimedOut, Some(error)) if error != RelayError::Rejected => relay.unreachable(&error),
        (reason, _) => reason,
    }
}

/// Returns when the game leaves.
pub(super) async fn left(commands: &mut mpsc::UnboundedReceiver<SessionCommand>) {
    while let Some(command) = commands.recv().await {
        if matches!(command, SessionCommand::Leave) {
            return;
        }
    }
}

fn route(access: Access) -> Route {
    Route { send_to: access.send_to, token: access.token }
}

/// Finds the relay, asks to join, and listens.
async fn find(options: &ClientOptions) -> Result<(RelayClient, String, Joined, EventStream), EndReason> {
    let id = options.target.id.clone();
    let relay = match (&options.target.relay, &options.session.relay) {
        (Some(url), own) => of_link(url, own)?,
        (None, Relay::Memory(memory)) => RelayClient::Memory(memory.clone()),
        (None, Relay::Url(url)) => RelayClient::at(url).map_err(not_started)?,
        (None, Relay::Embedded(embedded)) => here::relay_of(embedded, &id).await?,
        (None, Relay::Directory(url)) => directory::relay(url, Some(&id)).await?,
    };
    let mut patience = Patience::new();
    loop {
        match join(&relay, &id, &mut patience).await {
            Ok((joined, stream)) => return Ok((relay, id, joined, stream)),
            Err(error) => patience.after(error).await.map_err(|error| match error {
                RelayError::Rejected => EndReason::NoSuchHost,
                error => relay.unreachable(&error),
            })?,
        }
    }
}

/// The relay of a link, which may come from anybody, and make a machine of the player's own network do something by being
/// asked. So it leads to the root of a server, unless that has a certificate, or the game itself names this relay.
fn of_link(url: &Url, own: &Relay) -> Result<RelayClient, EndReason> {
    let relay = RelayClient::http(url.clone()).map_err(not_started)?;
    let is_own = matches!(own, Relay::Url(own) if RelayClient::at(own).is_ok_and(|own| own.url() == relay.url()));
    let is_root = url.path() == "/" && url.query().is_none_or(str::is_empty);
    let has_login = !url.username().is_empty() || url.password().is_some();
    if is_own || !has_login && (is_root || url.scheme() == "https") {
        return Ok(relay);
    }
    let words = "this link is none of a session: a link without https has nothing but a / before its #, and no link has a \
                 user name in it";
    Err(EndReason::NotStarted(words.to_owned()))
}

/// A relay whose URL is none.
pub(super) fn not_started(error: RelayError) -> EndReason {
    EndReason::NotStarted(error.to_string())
}

/// Randomness for the secrets of one connection.
pub(super) fn seed() -> Result<[u8; 32], EndReason> {
    random_seed().map_err(|error| EndReason::NotStarted(format!("the system has no random bytes: {error}")))
}

async fn join(relay: &RelayClient, id: &str, patience: &mut Patience) -> Result<(Joined, EventStream), RelayError> {
    let joined = relay.join(id).await?;
    patience.relay_found();
    let Opened { stream, .. } = open(relay, &joined.access).await?;
    Ok((joined, stream))
}

/// Joins again: after a break the old token may be worth nothing, and a new one costs one request.
async fn rejoin(relay: RelayClient, id: String, after: Duration) -> Result<(Access, EventStream), RelayError> {
    sleep(after).await;
    let (joined, stream) = join(&relay, &id, &mut Patience::new()).await?;
    Ok((joined.access, stream))
}

async fn receive(event: StreamEvent, inputs: &mpsc::Sender<PeerInput>, reports: &mut Reports) {
    let input = match event {
        StreamEvent::Message { body, .. } => match Body::parse(body.get()) {
            Ok(body) => PeerInput::Body(body, None),
            Err(error) => {
                reports.once(Nonsense::Body, || format!("the host sent a message that cannot be read: {error}"));
                return;
            }
        },
        StreamEvent::HostClosed(_) => PeerInput::PeerClosed,
        StreamEvent::ClientClosed(_) => return,
    };
    // A peer's task that has ended needs no input.
    let _ = inputs.send(input).await;
}

/// On the relay only, an offer still shows whether an original host wants WebRTC, which says nothing else. It names no
/// address, and nothing is asked for any.
fn offered(cx: &PeerContext) -> DirectConfig {
    match cx.paths {
        PathPolicy::RelayOnly => DirectConfig { ice_servers: Vec::new(), ..cx.direct.clone() },
        _ => cx.direct.clone(),
    }
}

/// The task of the host as a peer: native, unless it turns out to be an original.
async fn peer(
    cx: PeerContext,
    options: SessionOptions,
    id: String,
    hint: Option<HostHint>,
    route: Route,
    mut inputs: mpsc::Receiver<PeerInput>,
) {
    let outcome = match (hint, against_texts(&cx, &options)) {
        (Some(HostHint::Texts), Some(reason)) => Outcome::Ended(reason, None),
        (Some(HostHint::Texts), None) => RelayPeer::known_host(cx.clone(), route).run(Vec::new(), &mut inputs).await,
        _ => introduced(&cx, options, id, hint.is_some(), route, &mut inputs).await,
    };
    if let Outcome::Ended(reason, tombstone) = outcome {
        cx.tell(PeerOutput::Ended { reason, tombstone });
    }
}

/// Why this session cannot play with an original host on the relay, if so.
fn against_texts(cx: &PeerContext, options: &SessionOptions) -> Option<EndReason> {
    let words = "the host speaks the original protocol, ";
    match cx.paths {
        _ if options.password.is_some() => Some(EndReason::Refused(format!("{words}which has no passwords"))),
        PathPolicy::DirectOnly => Some(EndReason::NoDirectPath(format!("{words}over the relay"))),
        _ => None,
    }
}

/// To a host that is native for `certain`, or may be anything.
async fn introduced(
    cx: &PeerContext,
    options: SessionOptions,
    id: String,
    certain: bool,
    route: Route,
    inputs: &mut mpsc::Receiver<PeerInput>,
) -> Outcome {
    let against_texts = against_texts(cx, &options);
    let credentials =
        Credentials { host_id: id, password: options.password.clone().map(|password| password.0), game: options.game };
    let (config, metadata) = (cx.config.clone(), options.metadata.clone());
    let connection = match seed() {
        Ok(seed) => Connection::connect(config, &credentials, metadata, seed, Timestamp::ZERO)
            .map(|connection| connection.with_paths(cx.paths))
            .map_err(|error| EndReason::NotStarted(error.to_string())),
        Err(reason) => Err(reason),
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(reason) => return Outcome::Ended(reason, None),
    };
    let offer = if certain || options.password.is_some() { None } else { Offer::make(offered(cx)).await };
    let native = NativePeer::new(cx.clone(), Role::Client { certain, offer }, Some(route.clone()), connection);
    let (first, offer, native) = match native.run(inputs).await {
        Outcome::Plain(first, offer, native) => (first, offer, native),
        ended => return ended,
    };
    let answered = matches!(first, Some(Body::Signal(_)));
    match (first, offer, against_texts) {
        (_, _, Some(reason)) if options.password.is_some() => Outcome::Ended(reason, None),
        _ if answered && cx.paths == PathPolicy::RelayOnly => Outcome::Ended(plain::wants_webrtc(), None),
        (Some(first), Some(offer), _) if answered => {
            let first = vec![PeerInput::Body(first, None)];
            DirectPeer::offered(cx.clone(), route, offer).run(first, inputs).await
        }
        (_, _, Some(reason)) => Outcome::Ended(reason, None),
        // Silence: it may yet answer.
        (None, offer, None) => RelayPeer::silent_host(cx.clone(), route, offer, native).run(Vec::new(), inputs).await,
        (Some(first), _, None) => {
            let first = vec![PeerInput::Body(first, None)];
            RelayPeer::host(cx.clone(), route).run(first, inputs).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_no_place_within_a_server_that_proves_nothing() {
        let of_link = |link: &str, own: &str| {
            let own = if own.is_empty() { Relay::default() } else { Relay::Url(own.to_owned()) };
            of_link(&Url::parse(link).expect("a URL"), &own).map(|_| ())
        };
        for link in ["http://192.168.1.5:3000/", "http://relay.example", "https://relay.example/games?eu=1"] {
            assert_eq!(of_link(link, ""), Ok(()), "{link}");
        }
        for link in [
            "http://192.168.1.1/reboot",
            "http://192.168.1.1/?reboot=1",
            "http://router.example/a/../reboot",
            "http://admin:admin@192.168.1.1/",
            "https://admin@192.168.1.1/",
        ] {
            let Err(EndReason::NotStarted(words)) = of_link(link, "") else { panic!("{link}") };
            assert!(!words.contains("admin"), "{words}");
            assert_eq!(of_link(link, link), Ok(()), "the game's own");
            assert!(of_link(link, "http://192.168.1.2/").is_err(), "{link}");
        }
    }
}
