//! The task of one peer of the original protocol that speaks WebRTC: the client offers, the host answers, and once the
//! data channel is open everything travels there, text and binary. The relay carries the signals only.

use std::{collections::VecDeque, time::Duration};

use bytestring::ByteString;
use n0_future::time::{Instant, sleep_until, timeout};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{NOT_ALL_ARRIVED, Post, answer, game::Game, post};
use crate::{
    connection::Path,
    net::{
        contract::PeerCommand,
        peer_link::{Outcome, PeerContext, PeerInput, Route},
        webrtc::{DirectConfig, DirectDialect, DirectEvent, DirectLink, DirectRole, Full, MAX_MESSAGE},
    },
    protocol::{Body, EndReason, Payload, Signal},
};

/// Events of the link that may wait; a link that has more slows the peer down.
const EVENTS: usize = 256;
/// How long an introduction waits for the offer in it, which takes milliseconds where sockets can be had.
const OFFER_PATIENCE: Duration = Duration::from_secs(1);

/// A path that our client offers to a host that may be an original.
pub(in crate::net) struct Offer {
    sdp: ByteString,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
}

impl Offer {
    /// Begins to look for a path; `None` where there can be none.
    pub async fn make(config: DirectConfig) -> Option<Self> {
        let (link, mut events) = start(DirectRole::Offer, config);
        match timeout(OFFER_PATIENCE, events.recv()).await {
            Ok(Some(DirectEvent::Signal(Signal::Offer(sdp)))) => Some(Offer { sdp, link, events }),
            other => {
                tracing::debug!("nothing to offer to an original host: {other:?}");
                None
            }
        }
    }

    /// The description to be sent.
    pub fn sdp(&self) -> &ByteString {
        &self.sdp
    }
}

fn start(role: DirectRole, config: DirectConfig) -> (DirectLink, mpsc::Receiver<DirectEvent>) {
    let (sender, events) = mpsc::channel(EVENTS);
    (DirectLink::start(role, DirectDialect::Plain, config, sender), events)
}

pub(in crate::net) struct DirectPeer {
    cx: PeerContext,
    game: Game,
    /// Of the peer's last signal, or that of the offer. What the relay gives after a break is another client to an
    /// original, which knows nothing of it.
    route: Option<Route>,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
    signals: VecDeque<Signal>,
    post: Option<Post>,
    open: bool,
    /// Messages to be sent before any other is taken: those from before the channel, or one that found no room.
    backlog: VecDeque<Payload>,
    /// When a peer whose stream has closed is gone, if no channel is open by then.
    gone_at: Option<Instant>,
}

impl DirectPeer {
    /// On a host: a client that offers, and the place it takes.
    pub fn answer(cx: PeerContext, place: OwnedSemaphorePermit) -> Self {
        let started = start(DirectRole::Answer, cx.direct.clone());
        let game = Game::new(cx.clone(), Path::Direct, MAX_MESSAGE, Some(place));
        Self::new(cx, game, None, started)
    }

    /// On a client: a host that has answered the offer.
    pub fn offered(cx: PeerContext, route: Route, Offer { link, events, .. }: Offer) -> Self {
        let game = Game::new(cx.clone(), Path::Direct, MAX_MESSAGE, None);
        Self::new(cx, game, Some(route), (link, events))
    }

    /// On a client: a host that has answered when it was taken for one on the relay, and understood none of these
    /// messages.
    pub fn late(
        cx: PeerContext,
        game: Game,
        route: Option<Route>,
        Offer { link, events, .. }: Offer,
        messages: VecDeque<Payload>,
    ) -> Self {
        DirectPeer { backlog: messages, ..Self::new(cx, game, route, (link, events)) }
    }

    fn new(
        cx: PeerContext,
        game: Game,
        route: Option<Route>,
        (link, events): (DirectLink, mpsc::Receiver<DirectEvent>),
    ) -> Self {
        DirectPeer {
            cx,
            game,
            route,
            link,
            events,
            signals: VecDeque::new(),
            post: None,
            open: false,
            backlog: VecDeque::new(),
            gone_at: None,
        }
    }

    /// Runs to the end. `first` was received before.
    pub async fn run(mut self, first: Vec<PeerInput>, inputs: &mut mpsc::Receiver<PeerInput>) -> Outcome {
        for input in first {
            self.input(input);
        }
        while !self.game.has_ended() {
            self.start_post();
            let gone_at = self.gone_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            let takes_commands = self.open && self.backlog.is_empty();
            tokio::select! {
                input = inputs.recv() => self.input(input.unwrap_or(PeerInput::Disconnect(EndReason::EndedLocally))),
                Some(event) = self.events.recv() => self.event(event),
                command = self.game.command(), if takes_commands => self.command(command),
                // A signal that is lost costs a candidate; others may do.
                _ = answer(&mut self.post) => self.post = None,
                () = sleep_until(gone_at), if self.gone_at.is_some() => self.game.end(EndReason::Left),
            }
        }
        let reason = self.game.disconnect();
        if self.open && timeout(self.cx.config.drain_timeout, self.drain()).await != Ok(true) {
            self.cx.diagnostic(NOT_ALL_ARRIVED.to_owned());
        }
        self.link.close().await;
        Outcome::Ended(reason, None)
    }

    /// Hands over what was sent before the end, and tells whether all of it found room. A peer that takes nothing for a
    /// while is not waited for.
    async fn drain(&mut self) -> bool {
        while let Some(command) = self.game.waiting_command() {
            if let PeerCommand::Send { payload, .. } = command {
                self.backlog.push_back(payload);
            }
        }
        self.send_backlog();
        let patience = 2 * self.cx.config.timeout;
        let mut until = Instant::now() + patience;
        while !self.backlog.is_empty() {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = sleep_until(until) => None,
            };
            match event {
                Some(DirectEvent::Writable) => {
                    until = Instant::now() + patience;
                    self.send_backlog();
                }
                None | Some(DirectEvent::Failed(_) | DirectEvent::Closed) => return false,
                Some(_) => {}
            }
        }
        true
    }

    fn input(&mut self, input: PeerInput) {
        match input {
            PeerInput::Body(Body::Signal(signal), route) => {
                self.route = route.or(self.route.take());
                self.link.signal(signal);
            }
            // An original has one transport: what else comes in its name is not for us.
            PeerInput::Body(..) => {}
            // A client closes its stream once the channel is open, which it may know before us, and a host may close its
            // own and play on: only if no channel follows does it mean that the peer is gone.
            PeerInput::PeerClosed if !self.open => {
                self.gone_at.get_or_insert(Instant::now() + self.cx.config.timeout);
            }
            PeerInput::Disconnect(reason) => self.game.end(reason),
            PeerInput::PeerClosed
            | PeerInput::RelayUp(_)
            | PeerInput::RelayDown
            | PeerInput::AddressesChanged(_)
            | PeerInput::HelloAgain { .. }
            | PeerInput::Resume { .. }
            | PeerInput::GiveWay
            | PeerInput::Decide(_)
            | PeerInput::Conditions(_) => {}
        }
    }

    fn event(&mut self, event: DirectEvent) {
        match event {
            DirectEvent::Signal(signal) => self.signals.push_back(signal),
            DirectEvent::Open { max_message } => {
                (self.open, self.gone_at) = (true, None);
                self.game.limit(max_message);
                self.game.connect(Path::Direct);
                self.send_backlog();
            }
            DirectEvent::Packet { payload, .. } => self.game.receive(payload),
            DirectEvent::Writable => self.send_backlog(),
            DirectEvent::Diagnostic(text) => self.cx.diagnostic(text),
            DirectEvent::Failed(error) => {
                tracing::debug!("an original's direct path: {error}");
                let reason = if self.open {
                    EndReason::TimedOut
                } else {
                    EndReason::NotStarted(format!("the other side speaks WebRTC only: {error}"))
                };
                self.open = false;
                self.game.end(reason);
            }
            DirectEvent::Closed => {
                self.open = false;
                self.game.end(EndReason::Left);
            }
        }
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { payload, .. } => {
                self.backlog.push_back(payload);
                self.send_backlog();
            }
            PeerCommand::Report(text) => self.game.report(text),
            PeerCommand::Conditions(_) => {}
            PeerCommand::Disconnect(reason) => self.game.end(reason),
        }
    }

    fn send_backlog(&mut self) {
        while let Some(payload) = self.backlog.pop_front() {
            let len = payload.len();
            if let Err(Full(payload)) = self.link.try_send(true, payload) {
                return self.backlog.push_front(payload);
            }
            self.game.sent(len);
        }
    }

    fn start_post(&mut self) {
        if self.post.is_none()
            && let Some(route) = &self.route
            && let Some(signal) = self.signals.pop_front()
        {
            self.post = Some(post(&self.cx, route, &Body::Signal(signal)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::{
            contract::{Event, EventKind, PeerHandle, SendError},
            webrtc::IceServer,
        },
        protocol::{Channel, PathPolicy},
    };

    /// An original host on WebRTC, our client's task with it, and what the game is told and tells the task.
    struct Played {
        original: (DirectLink, mpsc::Receiver<DirectEvent>),
        handle: PeerHandle,
        inputs: mpsc::Sender<PeerInput>,
        told: crossbeam_channel::Receiver<Event>,
    }

    async fn played() -> Played {
        let direct = DirectConfig { ice_servers: Vec::<IceServer>::new(), ..Default::default() };
        let (cx, told) = PeerContext::of_a_test(Default::default(), PathPolicy::Automatic, direct.clone());
        let offer = Offer::make(direct.clone()).await.expect("an offer");
        let (link, mut events) = start(DirectRole::Answer, direct);
        link.signal(Signal::Offer(offer.sdp().clone()));
        let game = Game::new(cx.clone(), Path::Direct, MAX_MESSAGE, None);
        let (inputs, mut receiver) = mpsc::channel(EVENTS);
        // Its candidates have no way to the original, which finds it by its checks.
        let peer = DirectPeer::new(cx, game, None, (offer.link, offer.events));
        tokio::spawn(async move { peer.run(Vec::new(), &mut receiver).await });
        loop {
            match events.recv().await.expect("an event") {
                DirectEvent::Signal(signal) => {
                    let _ = inputs.send(PeerInput::Body(Body::Signal(signal), None)).await;
                }
                DirectEvent::Open { .. } => break,
                event => panic!("{event:?} before it opened"),
            }
        }
        let told_of = told.clone();
        let connected = tokio::task::spawn_blocking(move || told_of.recv_timeout(Duration::from_secs(20)));
        let Ok(Event { kind: EventKind::Connected { handle, .. }, .. }) = connected.await.expect("no panic") else {
            panic!("not connected")
        };
        Played { original: (link, events), handle, inputs, told }
    }

    #[tokio::test]
    async fn large_messages_and_all_that_was_sent_before_leaving_reach_an_original() {
        let Played { original: (_link, mut events), handle, inputs, told } = played().await;
        assert_eq!(handle.shared().limits().max_message, MAX_MESSAGE);
        let send = |size: usize| handle.send(Channel::Reliable, Payload::Binary(vec![1; size].into()));
        assert_eq!(send(MAX_MESSAGE + 1), Err(SendError::TooLarge { size: MAX_MESSAGE + 1, limit: MAX_MESSAGE }));
        let sizes: Vec<usize> = (0..20).map(|i| MAX_MESSAGE - 5000 * i).collect();
        sizes.iter().for_each(|&size| send(size).expect("room"));
        inputs.send(PeerInput::Disconnect(EndReason::Left)).await.expect("it runs");
        let mut received = Vec::new();
        loop {
            match events.recv().await.expect("an event") {
                DirectEvent::Packet { payload, .. } => received.push(payload.len()),
                DirectEvent::Closed => break,
                _ => {}
            }
        }
        assert_eq!(received, sizes);
        let diagnosed = told.try_iter().any(|event| matches!(event.kind, EventKind::Diagnostic { .. }));
        assert!(!diagnosed, "nothing was cut");
    }
}
