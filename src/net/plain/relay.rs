//! The task of one peer of the original protocol, over the relay: strings in, strings out, one POST each.

use std::{collections::VecDeque, time::Duration};

use bytestring::ByteString;
use n0_future::time::{Instant, sleep_until, timeout};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{DirectPeer, NOT_ALL_ARRIVED, Offer, Post, answer, game::Game, post_texts, wants_webrtc};
use crate::{
    connection::Path,
    net::{
        backoff::Backoff,
        contract::PeerCommand,
        peer::NativePeer,
        peer_link::{Outcome, PeerContext, PeerInput, PeerOutput, Route},
        relay_error::RelayError,
    },
    protocol::{Body, EndReason, PathPolicy, Payload, Signal},
};

/// Bytes of one text: as JSON it has to fit into the 102,400 bytes that relays take.
const MAX_TEXT: usize = 64 * 1024;
/// Texts of one POST, where the relay takes several.
const BATCH: usize = 64;
/// Bytes of their JSON, at most.
const BATCH_BYTES: usize = 96 * 1024;
/// The envelope around each.
const ENVELOPE: usize = 64;
/// After how much silence of our game a host that does not know us yet is sent an empty text: it may have something to
/// say to everyone who joins, and its game to ours, which may only listen.
const KNOCK: Duration = Duration::from_millis(1500);

pub(in crate::net) struct RelayPeer {
    cx: PeerContext,
    game: Game,
    route: Option<Route>,
    queue: VecDeque<ByteString>,
    post: Option<Post>,
    /// How many texts at the front of the queue it carries.
    posted: usize,
    retry_at: Option<Instant>,
    /// Since when nothing gets through to the peer.
    failing_since: Option<Instant>,
    backoff: Backoff,
    reported_signal: bool,
    unanswered: Option<Unanswered>,
    /// When the host gets a first text from us, should the game have none until then.
    knock_at: Option<Instant>,
}

/// A host that has said nothing yet: it is an original on the relay, a slow one on WebRTC, or native behind a slow relay.
struct Unanswered {
    offer: Option<Offer>,
    native: Box<NativePeer>,
    until: Instant,
    /// What was sent since, and is lost on a host that is no original on the relay. It counts as waiting, which bounds it.
    sent: VecDeque<ByteString>,
}

impl RelayPeer {
    /// A client that has sent a text, and the place it takes.
    pub fn client(cx: PeerContext, route: Route, place: OwnedSemaphorePermit) -> Self {
        Self::new(cx, route, Some(place), None)
    }

    /// A host that has sent a text.
    pub fn host(cx: PeerContext, route: Route) -> Self {
        Self::new(cx, route, None, None)
    }

    /// A host that the relay knows to take texts, and to which we are nobody before our first one.
    pub fn known_host(cx: PeerContext, route: Route) -> Self {
        RelayPeer { knock_at: Some(Instant::now() + KNOCK), ..Self::host(cx, route) }
    }

    /// A host that has sent nothing at all: the offer that it got, and the peer that it is if it is native.
    pub fn silent_host(cx: PeerContext, route: Route, offer: Option<Offer>, native: Box<NativePeer>) -> Self {
        let until = Instant::now() + cx.direct.open_timeout;
        Self::new(cx, route, None, Some(Unanswered { offer, native, until, sent: VecDeque::new() }))
    }

    fn new(cx: PeerContext, route: Route, place: Option<OwnedSemaphorePermit>, unanswered: Option<Unanswered>) -> Self {
        RelayPeer {
            game: Game::new(cx.clone(), Path::Relay, MAX_TEXT, place),
            cx,
            route: Some(route),
            queue: VecDeque::new(),
            post: None,
            posted: 0,
            retry_at: None,
            failing_since: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(500)),
            reported_signal: false,
            unanswered,
            knock_at: None,
        }
    }

    /// Runs to the end. `first` was received before.
    pub async fn run(mut self, first: Vec<PeerInput>, inputs: &mut mpsc::Receiver<PeerInput>) -> Outcome {
        self.game.connect(Path::Relay);
        for input in first {
            self.input(input);
        }
        while !self.game.has_ended() {
            self.start_post();
            let offered_until = self.unanswered.as_ref().map(|unanswered| unanswered.until);
            let knock_at = self.knock_at.filter(|_| self.post.is_none());
            let wake = self.retry_at.or(knock_at).into_iter().chain(offered_until).min();
            let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(PeerInput::Body(Body::Signal(signal), _)) => match self.unanswered.take() {
                        Some(_) if self.cx.paths == PathPolicy::RelayOnly => self.game.end(wants_webrtc()),
                        Some(Unanswered { offer: Some(offer), sent, .. }) => {
                            return self.answered(offer, sent, signal, inputs).await;
                        }
                        unanswered => {
                            self.unanswered = unanswered;
                            self.report_signal();
                        }
                    },
                    Some(input @ PeerInput::Body(Body::Native { .. }, _)) => match self.unanswered.take() {
                        Some(unanswered) => return self.turns_native(unanswered, input, inputs).await,
                        None => self.input(input),
                    },
                    Some(input) => self.input(input),
                    None => self.game.end(EndReason::EndedLocally),
                },
                command = self.game.command() => self.command(command),
                result = answer(&mut self.post) => self.posted(result),
                () = sleep_until(wake) => {
                    self.retry_at = self.retry_at.filter(|at| *at > Instant::now());
                    if offered_until.is_some_and(|until| until <= Instant::now()) {
                        self.is_on_the_relay();
                    }
                }
            }
        }
        let reason = self.game.disconnect();
        let patience = self.cx.config.drain_timeout;
        if timeout(patience, self.drain()).await != Ok(true) {
            self.cx.diagnostic(NOT_ALL_ARRIVED.to_owned());
        }
        Outcome::Ended(reason, None)
    }

    fn input(&mut self, input: PeerInput) {
        match input {
            PeerInput::Body(Body::Text(text), route) => {
                if route.is_some() {
                    self.route = route;
                    self.retry_at = None;
                }
                self.is_on_the_relay();
                self.game.receive(Payload::Text(text));
            }
            PeerInput::Body(Body::Signal(_), _) => self.report_signal(),
            PeerInput::Body(Body::Native { .. }, _) => {
                self.game.end(EndReason::ProtocolError("a plain peer sent a native packet".to_owned()));
            }
            PeerInput::RelayUp(route) => {
                if route.is_some() {
                    self.route = route;
                }
                self.retry_at = None;
            }
            PeerInput::PeerClosed => self.game.end(EndReason::Left),
            PeerInput::Disconnect(reason) => self.game.end(reason),
            // To an original host, whoever comes back is somebody new. Its clients, though, may have stayed.
            PeerInput::RelayDown if !self.game.hosts() => {
                let error = RelayError::Unreachable("its event stream broke".to_owned());
                self.game.end(self.cx.relay.unreachable(&error));
            }
            PeerInput::RelayDown
            | PeerInput::AddressesChanged(_)
            | PeerInput::HelloAgain { .. }
            | PeerInput::Resume { .. }
            | PeerInput::GiveWay
            | PeerInput::Decide(_)
            | PeerInput::Conditions(_) => {}
        }
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { payload: Payload::Text(text), .. } => self.queue.push_back(text),
            // `PeerHandle::send` has refused it already.
            PeerCommand::Send { payload: Payload::Binary(_), .. } => {}
            PeerCommand::Report(text) => self.game.report(text),
            PeerCommand::Conditions(_) => {}
            PeerCommand::Disconnect(reason) => self.game.end(reason),
        }
    }

    fn start_post(&mut self) {
        let Some(route) = self.route.as_ref().filter(|_| self.post.is_none() && self.retry_at.is_none()) else {
            return;
        };
        if !self.queue.is_empty() {
            self.posted = self.next_batch();
            self.post = Some(post_texts(&self.cx, route, self.queue.iter().take(self.posted).cloned()));
        } else if self.knock_at.is_some_and(|at| at <= Instant::now()) {
            self.post = Some(post_texts(&self.cx, route, std::iter::once(ByteString::new())));
        }
    }

    /// How many texts go into the next POST: one, or as many as fit where the relay takes several.
    fn next_batch(&self) -> usize {
        if !self.cx.relay.batches() {
            return self.queue.len().min(1);
        }
        let mut size = 0;
        let fits = self.queue.iter().take(BATCH).take_while(|text| {
            // Escapes make control characters six times as long.
            size += 6 * text.len() + ENVELOPE;
            size <= BATCH_BYTES
        });
        fits.count().max(self.queue.len().min(1))
    }

    fn posted(&mut self, result: Result<(), RelayError>) {
        self.post = None;
        match result {
            Ok(()) => {
                self.backoff.reset();
                (self.failing_since, self.knock_at) = (None, None);
                self.done();
            }
            Err(error @ RelayError::Status(413)) => {
                self.cx.diagnostic(format!("a message was dropped: {error}"));
                self.done();
            }
            Err(error) => {
                let now = Instant::now();
                if now - *self.failing_since.get_or_insert(now) > self.cx.config.timeout {
                    self.game.end(match &error {
                        RelayError::Rejected => EndReason::TimedOut,
                        error => self.cx.relay.unreachable(error),
                    });
                }
                self.retry_at = Some(now + self.backoff.next().max(error.wait()));
                if error == RelayError::BadToken {
                    self.cx.tell(PeerOutput::BadToken);
                }
            }
        }
    }

    /// The messages of the POST are sent, or given up.
    fn done(&mut self) {
        for _ in 0..std::mem::take(&mut self.posted) {
            self.first_is_done();
        }
    }

    fn first_is_done(&mut self) {
        match (self.queue.pop_front(), &mut self.unanswered) {
            (Some(text), Some(unanswered)) => unanswered.sent.push_back(text),
            (Some(text), None) => self.game.sent(text.len()),
            (None, _) => {}
        }
    }

    /// The host has shown that it takes texts, or has had time enough to show that it does not.
    fn is_on_the_relay(&mut self) {
        for text in self.unanswered.take().into_iter().flat_map(|unanswered| unanswered.sent) {
            self.game.sent(text.len());
        }
    }

    /// The host is on WebRTC after all: what was sent so far goes there again.
    async fn answered(
        self,
        offer: Offer,
        sent: VecDeque<ByteString>,
        signal: Signal,
        inputs: &mut mpsc::Receiver<PeerInput>,
    ) -> Outcome {
        let texts = sent.into_iter().chain(self.queue).map(Payload::Text).collect();
        let first = vec![PeerInput::Body(Body::Signal(signal), None)];
        DirectPeer::late(self.cx, self.game, self.route, offer, texts).run(first, inputs).await
    }

    /// The host is native after all, and has ignored what was sent so far: it goes there again.
    async fn turns_native(
        mut self,
        Unanswered { mut native, sent, .. }: Unanswered,
        first: PeerInput,
        inputs: &mut mpsc::Receiver<PeerInput>,
    ) -> Outcome {
        // It must not overtake the introduction that follows.
        if let Some(post) = self.post.take() {
            let _ = timeout(self.cx.config.timeout, post).await;
        }
        native.adopt(sent.into_iter().chain(self.queue).collect(), self.game.into_commands());
        if self.route.is_some() {
            native.set_route(self.route);
        }
        native.input(first);
        native.run(inputs).await
    }

    fn report_signal(&mut self) {
        if !std::mem::replace(&mut self.reported_signal, true) {
            self.cx.diagnostic("an original peer on the relay sent signals of WebRTC, too".to_owned());
        }
    }

    /// Delivers what was sent before the end, and tells whether all of it was. A relay that does not answer is not waited
    /// for.
    async fn drain(&mut self) -> bool {
        while let Some(command) = self.game.waiting_command() {
            self.command(command);
        }
        let patience = self.cx.config.timeout;
        if let Some(post) = self.post.take() {
            if !matches!(timeout(patience, post).await, Ok(Ok(()))) {
                return false;
            }
            self.done();
        }
        let Some(route) = self.route.clone() else { return self.queue.is_empty() };
        while !self.queue.is_empty() {
            let batch = self.next_batch();
            let post = post_texts(&self.cx, &route, self.queue.drain(..batch));
            if !matches!(timeout(patience, post).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}
