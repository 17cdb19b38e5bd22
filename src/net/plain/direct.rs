//! The task of one original peer on WebRTC. The client offers and the host answers. Once the data channel is open it
//! carries all messages, text and binary; the relay carries signals only.

use std::{collections::VecDeque, time::Duration};

use n0_future::time::{Instant, sleep_until, timeout};
use tokio::sync::mpsc;

use super::{NOT_ALL_ARRIVED, Post, answer, game::Game, post};
use crate::{
    connection::Path,
    net::{
        contract::PeerCommand,
        offer::Offer,
        peer_link::{PeerContext, PeerEnd, PeerInput, Route},
        slots::Slot,
        webrtc::{DirectDialect, DirectEvent, DirectLink, DirectRole, Full, MAX_MESSAGE},
    },
    protocol::{Body, EndReason, Payload, Signal},
};

/// The task of one original peer on WebRTC.
pub(in crate::net) struct DirectPeer {
    cx: PeerContext,
    game: Game,
    /// The route of the peer's last signal, or of the offer. The route that the relay grants after a break names another
    /// client, which the original does not know.
    route: Option<Route>,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
    signals: VecDeque<Signal>,
    post: Option<Post>,
    open: bool,
    /// Messages to send before further commands are taken: those from before the channel opened, or one that found no
    /// room.
    backlog: VecDeque<Payload>,
    /// When a peer whose stream has closed counts as gone, unless a channel opens.
    gone_at: Option<Instant>,
}

impl DirectPeer {
    /// Creates the task of a client that offers, on a host whose game may have been asked about it.
    pub fn answer(cx: PeerContext, slot: Slot, asked: bool) -> Self {
        let link = DirectLink::start(DirectRole::Answer, DirectDialect::Plain, cx.direct.clone());
        let mut game = Game::new(cx.clone(), Path::Direct, MAX_MESSAGE, Some(slot));
        if asked {
            game.expect_admitted();
        }
        Self::new(cx, game, None, link)
    }

    /// Creates the task of a host that has answered the offer, on a client.
    pub fn offered(cx: PeerContext, route: Route, offer: Offer) -> Self {
        let game = Game::new(cx.clone(), Path::Direct, MAX_MESSAGE, None);
        Self::new(cx, game, Some(route), offer.into_link())
    }

    /// Creates the task of a host that has answered after it counted as one on the relay, on a client. It has ignored
    /// these messages.
    pub fn late(cx: PeerContext, game: Game, route: Option<Route>, offer: Offer, messages: VecDeque<Payload>) -> Self {
        DirectPeer { backlog: messages, ..Self::new(cx, game, route, offer.into_link()) }
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

    /// Runs the peer to its end. `first` are the inputs received so far.
    pub async fn run(mut self, first: Vec<PeerInput>, inputs: &mut mpsc::Receiver<PeerInput>) -> PeerEnd {
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
                // A lost signal costs a candidate; others may suffice.
                _ = answer(&mut self.post) => self.post = None,
                () = sleep_until(gone_at), if self.gone_at.is_some() => self.game.end(EndReason::Left),
            }
        }
        let reason = self.game.disconnect();
        if self.open && timeout(self.cx.config.drain_timeout, self.drain()).await.ok() != Some(true) {
            self.cx.diagnostic(NOT_ALL_ARRIVED.to_owned());
        }
        self.link.close().await;
        reason.into()
    }

    /// Sends what was queued before the end. Returns whether all of it found room: a peer that takes nothing for a while is
    /// given up.
    async fn drain(&mut self) -> bool {
        while let Some(command) = self.game.waiting_command() {
            if let PeerCommand::Send { payload, .. } = command {
                self.backlog.push_back(payload);
            }
        }
        self.send_backlog();
        let limit = 2 * self.cx.config.timeout;
        let mut until = Instant::now() + limit;
        while !self.backlog.is_empty() {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = sleep_until(until) => None,
            };
            match event {
                Some(DirectEvent::Writable) => {
                    until = Instant::now() + limit;
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
            // An original has one transport: other messages in its name are not from it.
            PeerInput::Body(..) => {}
            // A client closes its stream once the channel is open, which it may know before this side, and a host may close
            // its stream and continue. The peer is gone only if no channel opens.
            PeerInput::PeerClosed if !self.open => {
                self.gone_at.get_or_insert(Instant::now() + self.cx.config.timeout);
            }
            PeerInput::Disconnect(reason) => self.game.end(reason),
            PeerInput::PeerClosed
            | PeerInput::RelayUp(_)
            | PeerInput::RelayDown
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

    fn event(&mut self, event: DirectEvent) {
        match event {
            DirectEvent::Signal(signal) => self.signals.push_back(signal),
            DirectEvent::Open { max_message } => {
                (self.open, self.gone_at) = (true, None);
                self.game.set_max_message(max_message);
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
            webrtc::{DirectConfig, IceServer},
        },
        protocol::{Channel, PathPolicy},
    };

    /// An original host on WebRTC, connected with the task of our client.
    struct ConnectedPair {
        original: (DirectLink, mpsc::Receiver<DirectEvent>),
        handle: PeerHandle,
        inputs: mpsc::Sender<PeerInput>,
        app_events: crossbeam_channel::Receiver<Event>,
    }

    async fn connected_pair() -> ConnectedPair {
        let direct = DirectConfig { ice_servers: Vec::<IceServer>::new(), ..Default::default() };
        let (cx, app_events) = PeerContext::of_a_test(Default::default(), PathPolicy::Automatic, direct.clone());
        let offer = Offer::create(direct.clone()).await.expect("an offer");
        let (link, mut events) = DirectLink::start(DirectRole::Answer, DirectDialect::Plain, direct);
        link.signal(Signal::Offer(offer.sdp().clone()));
        let game = Game::new(cx.clone(), Path::Direct, MAX_MESSAGE, None);
        let (inputs, mut receiver) = mpsc::channel(256);
        // Without a route the candidates do not reach the original, which finds this side by its checks.
        let peer = DirectPeer::new(cx, game, None, offer.into_link());
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
        let receiver = app_events.clone();
        let connected = tokio::task::spawn_blocking(move || receiver.recv_timeout(Duration::from_secs(20)));
        let Ok(Event { kind: EventKind::Connected { handle, .. }, .. }) = connected.await.expect("no panic") else {
            panic!("not connected")
        };
        ConnectedPair { original: (link, events), handle, inputs, app_events }
    }

    #[tokio::test]
    async fn large_messages_and_messages_before_a_goodbye_reach_an_original() {
        let ConnectedPair { original: (_link, mut events), handle, inputs, app_events } = connected_pair().await;
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
        let diagnosed = app_events.try_iter().any(|event| matches!(event.kind, EventKind::Diagnostic { .. }));
        assert!(!diagnosed, "nothing was cut");
    }
}
