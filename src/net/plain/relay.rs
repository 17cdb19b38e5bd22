//! The task of one original peer on the relay: strings in, strings out.

use std::{collections::VecDeque, time::Duration};

use bytestring::ByteString;
use n0_future::time::{Instant, sleep_until, timeout};
use tokio::sync::mpsc;

use super::{DirectPeer, NOT_ALL_ARRIVED, Post, answer, game::Game, post_texts, wants_webrtc};
use crate::{
    connection::Path,
    net::{
        contract::PeerCommand,
        offer::Offer,
        peer::{NativeOutcome, NativePeer},
        peer_link::{PeerContext, PeerEnd, PeerInput, PeerOutput, Route},
        post_retry::PostRetry,
        relay_error::RelayError,
        slots::Slot,
    },
    protocol::{Body, EndReason, PathPolicy, Payload, Signal},
};

/// The largest text, in bytes: as JSON it must fit into the 102,400 bytes that relays take.
const MAX_TEXT: usize = 64 * 1024;
/// The texts of one POST, where the relay takes several.
const BATCH: usize = 64;
/// The bytes of their JSON.
const BATCH_BYTES: usize = 96 * 1024;
/// The bytes of the JSON around each text.
const ENVELOPE: usize = 64;
/// How long a game may stay silent before an empty text introduces the client to a host that does not know it: the host
/// may greet everyone who joins, and our game may only listen.
const INTRODUCTION_DELAY: Duration = Duration::from_millis(1500);

/// The task of one original peer on the relay.
pub(in crate::net) struct RelayPeer {
    cx: PeerContext,
    game: Game,
    route: Option<Route>,
    queue: VecDeque<ByteString>,
    post: Option<Post>,
    /// The number of texts in the POST, from the front of the queue.
    posted: usize,
    retry: PostRetry,
    /// Since when all POSTs fail.
    failing_since: Option<Instant>,
    reported_signal: bool,
    unanswered: Option<Unanswered>,
    /// When to send an empty text, if the game has sent none until then.
    introduce_at: Option<Instant>,
}

/// A host that is still silent: an original on the relay, a slow one on WebRTC, or a native one behind a slow relay.
struct Unanswered {
    offer: Option<Offer>,
    native: Box<NativePeer>,
    until: Instant,
    /// The texts sent so far, which only an original on the relay understands. They count as queued, which bounds them.
    sent: VecDeque<ByteString>,
}

impl RelayPeer {
    /// Creates the task of a client that has sent a text.
    pub fn client(cx: PeerContext, route: Route, slot: Slot) -> Self {
        Self::new(cx, route, Some(slot), None)
    }

    /// Creates the task of a host that has sent a text.
    pub fn host(cx: PeerContext, route: Route) -> Self {
        Self::new(cx, route, None, None)
    }

    /// Creates the task of a host that takes texts, by the relay's report. It does not know this client before the first
    /// text.
    pub fn known_host(cx: PeerContext, route: Route) -> Self {
        RelayPeer { introduce_at: Some(Instant::now() + INTRODUCTION_DELAY), ..Self::host(cx, route) }
    }

    /// Creates the task of a host that has sent nothing, with the offer that it was sent, and the task for the case that it
    /// is native.
    pub fn silent_host(cx: PeerContext, route: Route, offer: Option<Offer>, native: Box<NativePeer>) -> Self {
        let until = Instant::now() + cx.direct.open_timeout;
        Self::new(cx, route, None, Some(Unanswered { offer, native, until, sent: VecDeque::new() }))
    }

    fn new(cx: PeerContext, route: Route, slot: Option<Slot>, unanswered: Option<Unanswered>) -> Self {
        RelayPeer {
            game: Game::new(cx.clone(), Path::Relay, MAX_TEXT, slot),
            cx,
            route: Some(route),
            queue: VecDeque::new(),
            post: None,
            posted: 0,
            retry: PostRetry::new(),
            failing_since: None,
            reported_signal: false,
            unanswered,
            introduce_at: None,
        }
    }

    /// Runs the peer to its end. `first` are the inputs received so far.
    pub async fn run(mut self, first: Vec<PeerInput>, inputs: &mut mpsc::Receiver<PeerInput>) -> PeerEnd {
        self.game.connect(Path::Relay);
        for input in first {
            self.input(input);
        }
        while !self.game.has_ended() {
            self.start_post();
            let offered_until = self.unanswered.as_ref().map(|unanswered| unanswered.until);
            let introduce_at = self.introduce_at.filter(|_| self.post.is_none());
            let wake = self.retry.pause_ends().or(introduce_at).into_iter().chain(offered_until).min();
            let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(PeerInput::Body(Body::Signal(signal), _)) => match self.unanswered.take() {
                        Some(_) if self.cx.paths == PathPolicy::RelayOnly => self.game.end(wants_webrtc()),
                        Some(Unanswered { offer: Some(offer), sent, .. }) => {
                            return self.continue_direct(offer, sent, signal, inputs).await;
                        }
                        unanswered => {
                            self.unanswered = unanswered;
                            self.report_signal();
                        }
                    },
                    Some(input @ PeerInput::Body(Body::Native { .. }, _)) => match self.unanswered.take() {
                        Some(unanswered) => return self.continue_native(unanswered, input, inputs).await,
                        None => self.input(input),
                    },
                    Some(input) => self.input(input),
                    None => self.game.end(EndReason::EndedLocally),
                },
                command = self.game.command() => self.command(command),
                result = answer(&mut self.post) => self.posted(result),
                () = sleep_until(wake) => {
                    if offered_until.is_some_and(|until| until <= Instant::now()) {
                        self.settle_on_relay();
                    }
                }
            }
        }
        let reason = self.game.disconnect();
        if timeout(self.cx.config.drain_timeout, self.drain()).await.ok() != Some(true) {
            self.cx.diagnostic(NOT_ALL_ARRIVED.to_owned());
        }
        reason.into()
    }

    fn input(&mut self, input: PeerInput) {
        match input {
            PeerInput::Body(Body::Text(text), route) => {
                if route.is_some() {
                    self.route = route;
                    self.retry.end_pause();
                }
                self.settle_on_relay();
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
                self.retry.end_pause();
            }
            PeerInput::PeerClosed => self.game.end(EndReason::Left),
            PeerInput::Disconnect(reason) => self.game.end(reason),
            // An original host takes a client that comes back for a new one. The clients of a host stay the same.
            PeerInput::RelayDown if !self.game.is_host() => {
                let error = RelayError::Unreachable("its event stream broke".to_owned());
                self.game.end(self.cx.relay.unreachable(&error));
            }
            PeerInput::RelayDown
            | PeerInput::AddressesChanged(_)
            | PeerInput::Elsewhere { .. }
            | PeerInput::Resume { .. }
            | PeerInput::GiveUp
            | PeerInput::GiveWay
            | PeerInput::Locked
            | PeerInput::PasswordChanged
            | PeerInput::JoinsAgain
            | PeerInput::Rejoined
            | PeerInput::Decide(_)
            | PeerInput::Conditions(_) => {}
        }
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { payload: Payload::Text(text), .. } => self.queue.push_back(text),
            // `PeerHandle::send` refuses binary.
            PeerCommand::Send { payload: Payload::Binary(_), .. } => {}
            PeerCommand::Report(text) => self.game.report(text),
            PeerCommand::Conditions(_) => {}
            PeerCommand::Disconnect(reason) => self.game.end(reason),
        }
    }

    fn start_post(&mut self) {
        if self.retry.is_pausing() || self.post.is_some() {
            return;
        }
        let Some(route) = &self.route else { return };
        if !self.queue.is_empty() {
            self.posted = self.next_batch();
            self.post = Some(post_texts(&self.cx, route, self.queue.iter().take(self.posted).cloned()));
        } else if self.introduce_at.is_some_and(|at| at <= Instant::now()) {
            self.post = Some(post_texts(&self.cx, route, std::iter::once(ByteString::new())));
        }
    }

    /// The number of texts for the next POST: one, or as many as fit where the relay takes several.
    fn next_batch(&self) -> usize {
        if !self.cx.relay.batches() {
            return self.queue.len().min(1);
        }
        let mut size = 0;
        let fits = self.queue.iter().take(BATCH).take_while(|text| {
            // Escaped control characters have six bytes.
            size += 6 * text.len() + ENVELOPE;
            size <= BATCH_BYTES
        });
        fits.count().max(self.queue.len().min(1))
    }

    fn posted(&mut self, result: Result<(), RelayError>) {
        self.post = None;
        match result {
            Ok(()) => {
                self.retry.succeeded();
                (self.failing_since, self.introduce_at) = (None, None);
                self.remove_posted();
            }
            Err(error @ RelayError::Status(413)) => {
                self.cx.diagnostic(format!("a message was dropped: {error}"));
                self.remove_posted();
            }
            Err(error) => {
                let now = Instant::now();
                if now - *self.failing_since.get_or_insert(now) > self.cx.config.timeout {
                    self.game.end(match &error {
                        RelayError::Rejected => EndReason::TimedOut,
                        error => self.cx.relay.unreachable(error),
                    });
                }
                self.retry.failed(&error);
                if error == RelayError::BadToken {
                    self.cx.notify(PeerOutput::BadToken);
                }
            }
        }
    }

    /// Removes the texts of the POST from the queue: they are sent or dropped.
    fn remove_posted(&mut self) {
        let posted = std::mem::take(&mut self.posted).min(self.queue.len());
        for text in self.queue.drain(..posted) {
            match &mut self.unanswered {
                Some(unanswered) => unanswered.sent.push_back(text),
                None => self.game.sent(text.len()),
            }
        }
    }

    /// Stops to wait for an answer: the host takes texts, or has had enough time to show that it does not.
    fn settle_on_relay(&mut self) {
        for text in self.unanswered.take().into_iter().flat_map(|unanswered| unanswered.sent) {
            self.game.sent(text.len());
        }
    }

    /// Continues on WebRTC, where the texts so far are sent again.
    async fn continue_direct(
        self,
        offer: Offer,
        sent: VecDeque<ByteString>,
        signal: Signal,
        inputs: &mut mpsc::Receiver<PeerInput>,
    ) -> PeerEnd {
        let texts = sent.into_iter().chain(self.queue).map(Payload::Text).collect();
        let first = vec![PeerInput::Body(Body::Signal(signal), None)];
        DirectPeer::late(self.cx, self.game, self.route, offer, texts).run(first, inputs).await
    }

    /// Continues with a native host, to which the texts so far are sent again.
    async fn continue_native(
        mut self,
        Unanswered { mut native, sent, .. }: Unanswered,
        first: PeerInput,
        inputs: &mut mpsc::Receiver<PeerInput>,
    ) -> PeerEnd {
        let was_readable = !sent.is_empty() || self.post.is_some();
        // The POST in flight must not overtake the introduction that follows.
        if let Some(post) = self.post.take() {
            let _ = timeout(self.cx.config.timeout, post).await;
        }
        let texts = sent.into_iter().chain(self.queue).collect();
        native.adopt((texts, was_readable), self.game.into_handle());
        if self.route.is_some() {
            native.set_route(self.route);
        }
        native.input(first);
        match native.run(inputs).await {
            NativeOutcome::Ended(end) => end,
            // Not reached: the host has sent a native packet.
            NativeOutcome::Original { .. } => EndReason::TimedOut.into(),
        }
    }

    fn report_signal(&mut self) {
        if !std::mem::replace(&mut self.reported_signal, true) {
            self.cx.diagnostic("an original peer on the relay sent signals of WebRTC, too".to_owned());
        }
    }

    /// Sends what was queued before the end, and returns whether all of it was sent. A relay that does not answer is given
    /// up.
    async fn drain(&mut self) -> bool {
        while let Some(command) = self.game.waiting_command() {
            self.command(command);
        }
        let limit = self.cx.config.timeout;
        if let Some(post) = self.post.take() {
            if !matches!(timeout(limit, post).await, Ok(Ok(()))) {
                return false;
            }
            self.remove_posted();
        }
        let Some(route) = self.route.clone() else { return self.queue.is_empty() };
        while !self.queue.is_empty() {
            let batch = self.next_batch();
            let post = post_texts(&self.cx, &route, self.queue.drain(..batch));
            if !matches!(timeout(limit, post).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}
