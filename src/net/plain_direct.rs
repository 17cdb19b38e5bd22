//! The task of one client of the original protocol that wants WebRTC: it offers, we answer, and once the data channel
//! is open everything travels there, text and binary. The relay carries the signals only.

use std::collections::VecDeque;

use bytes::Bytes;
use n0_future::boxed::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    contract::{EventKind, PeerCommand, PeerHandle, PeerLimits, Received, Traffic, inbox_cost, queue_cost},
    peer_link::{Outcome, PeerContext, PeerInput, Route},
    relay_error::RelayError,
    webrtc::{DirectDialect, DirectEvent, DirectLink, DirectRole, Full, MAX_MESSAGE},
};
use crate::{
    connection::Path,
    protocol::{Body, Channel, EndReason, Payload, Signal, Tag},
};

/// Events of the link that may wait; a link that has more slows the peer down.
const EVENTS: usize = 256;

pub(super) struct PlainDirectPeer {
    cx: PeerContext,
    route: Option<Route>,
    link: DirectLink,
    events: mpsc::Receiver<DirectEvent>,
    open: bool,
    signals: VecDeque<Signal>,
    post: Option<BoxFuture<Result<(), RelayError>>>,
    /// A message that found no room. No other is taken before it is sent.
    blocked: Option<Payload>,
    handle: PeerHandle,
    commands: mpsc::UnboundedReceiver<PeerCommand>,
    traffic: Traffic,
    ended: Option<EndReason>,
    /// Kept for as long as the peer takes one of the host's places.
    _place: OwnedSemaphorePermit,
}

impl PlainDirectPeer {
    pub fn new(cx: PeerContext, place: OwnedSemaphorePermit) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        let link = DirectLink::start(DirectRole::Answer, DirectDialect::Plain, cx.direct.clone(), sender);
        let (handle, commands) = PeerHandle::new(PeerLimits {
            max_message: MAX_MESSAGE.min(cx.config.max_message),
            send_buffer: cx.config.send_buffer,
            text_only: false,
            native: false,
        });
        handle.shared().set_path(Path::Direct);
        PlainDirectPeer {
            cx,
            route: None,
            link,
            events,
            open: false,
            signals: VecDeque::new(),
            post: None,
            blocked: None,
            handle,
            commands,
            traffic: Traffic::default(),
            ended: None,
            _place: place,
        }
    }

    /// Runs to the end. `first` was received before.
    pub async fn run(mut self, first: Vec<PeerInput>, inputs: &mut mpsc::Receiver<PeerInput>) -> Outcome {
        for input in first {
            self.input(input);
        }
        while self.ended.is_none() {
            self.start_post();
            let answer = async {
                match &mut self.post {
                    Some(post) => post.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = inputs.recv() => self.input(input.unwrap_or(PeerInput::Disconnect(EndReason::Left))),
                Some(event) = self.events.recv() => self.event(event),
                Some(command) = self.commands.recv(), if self.open && self.blocked.is_none() => self.command(command),
                // A signal that is lost costs a candidate; the peer offers anew if it needed that one.
                _ = answer => self.post = None,
            }
            self.handle.shared().set_traffic(self.traffic);
        }
        let reason = self.ended.take().unwrap_or(EndReason::Left);
        self.handle.shared().close();
        if self.open {
            while let Ok(PeerCommand::Send { payload, .. }) = self.commands.try_recv() {
                if self.link.try_send(true, payload).is_err() {
                    break;
                }
            }
            self.cx.emit(EventKind::Disconnected { peer: self.cx.key, reason: reason.clone() });
        }
        self.link.close().await;
        Outcome::Ended(reason, None)
    }

    fn input(&mut self, input: PeerInput) {
        match input {
            PeerInput::Body(Body::Signal(signal), route) => {
                self.route = route.or(self.route.take());
                self.link.signal(signal);
            }
            // An original has one transport: what else comes in its name is not for us.
            PeerInput::Body(..) => {}
            // It closes its stream once the channel is open: only before that does it mean that it is gone.
            PeerInput::PeerClosed if !self.open => self.end(EndReason::Left),
            PeerInput::Disconnect(reason) => self.end(reason),
            PeerInput::PeerClosed
            | PeerInput::RelayUp(_)
            | PeerInput::RelayDown
            | PeerInput::AddressesChanged(_)
            | PeerInput::Resume { .. }
            | PeerInput::Decide(_)
            | PeerInput::Conditions(_) => {}
        }
    }

    fn event(&mut self, event: DirectEvent) {
        match event {
            DirectEvent::Signal(signal) => self.signals.push_back(signal),
            DirectEvent::Open => {
                self.open = true;
                let (peer, handle) = (self.cx.key, self.handle.clone());
                self.cx.emit(EventKind::Connected { peer, handle, metadata: Bytes::new() });
            }
            DirectEvent::Packet { payload, .. } => self.receive(payload),
            DirectEvent::Writable => {
                if let Some(payload) = self.blocked.take() {
                    self.send(payload);
                }
            }
            DirectEvent::Diagnostic(text) => self.cx.diagnostic(text),
            DirectEvent::Failed(error) => {
                tracing::debug!("an original's direct path: {error}");
                self.end(EndReason::TimedOut);
            }
            DirectEvent::Closed => self.end(EndReason::Left),
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
    }

    fn receive(&mut self, payload: Payload) {
        self.traffic.received_messages += 1;
        self.traffic.received_bytes += payload.len() as u64;
        let cost = inbox_cost(&payload);
        let shared = self.handle.shared();
        if shared.inbox() + cost > self.cx.config.receive_buffer {
            return self.end(EndReason::TooMuchData);
        }
        shared.delivered(cost);
        let messages = vec![Received { channel: Channel::Reliable, tag: Tag::Untyped, payload }];
        self.cx.emit(EventKind::Messages { peer: self.cx.key, messages });
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { payload, .. } => self.send(payload),
            PeerCommand::Conditions(_) => {}
            PeerCommand::Disconnect(reason) => self.end(reason),
        }
    }

    fn send(&mut self, payload: Payload) {
        let (cost, size) = (queue_cost(&payload), payload.len() as u64);
        match self.link.try_send(true, payload) {
            Ok(()) => {
                self.handle.shared().sent(cost);
                self.traffic.sent_messages += 1;
                self.traffic.sent_bytes += size;
            }
            Err(Full(payload)) => self.blocked = Some(payload),
        }
    }

    fn start_post(&mut self) {
        if self.post.is_none()
            && let Some(route) = &self.route
            && let Some(signal) = self.signals.pop_front()
        {
            let body = Body::Signal(signal).to_json();
            self.post = Some(Box::pin(self.cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body)));
        }
    }
}
