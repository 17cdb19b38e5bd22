//! The task of one peer of the original protocol, over the relay: strings in, strings out, one POST each.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use n0_future::{
    boxed::BoxFuture,
    time::{Instant, sleep_until},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    backoff::Backoff,
    contract::{EventKind, PeerCommand, PeerHandle, PeerLimits, Received, Traffic, inbox_cost, queue_cost},
    peer_link::{Outcome, PeerContext, PeerInput, PeerOutput, Route},
    relay_error::RelayError,
};
use crate::protocol::{Body, Channel, EndReason, Payload, Tag};

/// Bytes of one text: as JSON it has to fit into the 102,400 bytes that relays take.
const MAX_TEXT: usize = 64 * 1024;

pub(super) struct PlainPeer {
    cx: PeerContext,
    route: Option<Route>,
    queue: VecDeque<ByteString>,
    post: Option<BoxFuture<Result<(), RelayError>>>,
    retry_at: Option<Instant>,
    /// Since when nothing gets through to the peer.
    failing_since: Option<Instant>,
    backoff: Backoff,
    handle: PeerHandle,
    commands: mpsc::UnboundedReceiver<PeerCommand>,
    traffic: Traffic,
    ended: Option<EndReason>,
    /// On a host: kept for as long as the peer takes one of its places.
    place: Option<OwnedSemaphorePermit>,
}

impl PlainPeer {
    pub fn new(cx: PeerContext, route: Option<Route>, place: Option<OwnedSemaphorePermit>) -> Self {
        let limits = PeerLimits {
            max_message: MAX_TEXT.min(cx.config.max_message),
            send_buffer: cx.config.send_buffer,
            text_only: true,
            native: false,
        };
        let (handle, commands) = PeerHandle::new(limits);
        PlainPeer {
            cx,
            route,
            queue: VecDeque::new(),
            post: None,
            retry_at: None,
            failing_since: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_millis(500)),
            handle,
            commands,
            traffic: Traffic::default(),
            ended: None,
            place,
        }
    }

    /// Runs to the end. `first` was received before.
    pub async fn run(mut self, first: Vec<PeerInput>, inputs: &mut mpsc::Receiver<PeerInput>) -> Outcome {
        let (peer, handle) = (self.cx.key, self.handle.clone());
        self.cx.emit(EventKind::Connected { peer, handle, metadata: Bytes::new() });
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
            let wake = self.retry_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                input = inputs.recv() => self.input(input.unwrap_or(PeerInput::Disconnect(EndReason::Left))),
                Some(command) = self.commands.recv() => self.command(command),
                result = answer => self.posted(result),
                () = sleep_until(wake) => self.retry_at = None,
            }
            self.handle.shared().set_traffic(self.traffic);
        }
        let reason = self.ended.take().unwrap_or(EndReason::Left);
        self.handle.shared().close();
        self.cx.emit(EventKind::Disconnected { peer: self.cx.key, reason: reason.clone() });
        let _ = n0_future::time::timeout(Duration::from_millis(500), self.drain()).await;
        Outcome::Ended(reason, None)
    }

    fn input(&mut self, input: PeerInput) {
        match input {
            PeerInput::Body(Body::Text(text), route) => {
                if route.is_some() {
                    self.route = route;
                    self.retry_at = None;
                }
                self.receive(text);
            }
            PeerInput::Body(Body::Signal(_), _) => {
                self.cx
                    .diagnostic("an original peer wants WebRTC, which this version does not speak with it".to_owned());
            }
            PeerInput::Body(Body::Native { .. }, _) => {
                self.end(EndReason::ProtocolError("a plain peer sent a native packet".to_owned()));
            }
            PeerInput::RelayUp(route) => {
                if route.is_some() {
                    self.route = route;
                }
                self.retry_at = None;
            }
            PeerInput::PeerClosed => self.end(EndReason::Left),
            PeerInput::Disconnect(reason) => self.end(reason),
            // To an original host, whoever comes back is somebody new. Its clients, though, may have stayed.
            PeerInput::RelayDown if self.place.is_none() => {
                self.end(EndReason::RelayUnreachable("its event stream broke".to_owned()));
            }
            PeerInput::RelayDown
            | PeerInput::AddressesChanged(_)
            | PeerInput::Resume { .. }
            | PeerInput::Decide(_)
            | PeerInput::Conditions(_) => {}
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.ended.get_or_insert(reason);
    }

    fn receive(&mut self, text: ByteString) {
        self.traffic.received_messages += 1;
        self.traffic.received_bytes += text.len() as u64;
        let payload = Payload::Text(text);
        let cost = inbox_cost(&payload);
        let shared = self.handle.shared();
        if shared.inbox() + cost > self.cx.config.receive_buffer {
            self.end(EndReason::TooMuchData);
            return;
        }
        shared.delivered(cost);
        let messages = vec![Received { channel: Channel::Reliable, tag: Tag::Untyped, payload }];
        self.cx.emit(EventKind::Messages { peer: self.cx.key, messages });
    }

    fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { payload: Payload::Text(text), .. } => self.queue.push_back(text),
            // `PeerHandle::send` has refused it already.
            PeerCommand::Send { payload: Payload::Binary(_), .. } => {}
            PeerCommand::Conditions(_) => {}
            PeerCommand::Disconnect(reason) => self.end(reason),
        }
    }

    fn start_post(&mut self) {
        if self.post.is_none()
            && self.retry_at.is_none()
            && let Some(route) = &self.route
            && let Some(text) = self.queue.front()
        {
            self.post = Some(post(&self.cx, route, text));
        }
    }

    fn posted(&mut self, result: Result<(), RelayError>) {
        self.post = None;
        match result {
            Ok(()) => {
                self.backoff.reset();
                self.failing_since = None;
                self.done();
            }
            Err(error @ (RelayError::Status(413) | RelayError::Nonsense(_))) => {
                self.cx.diagnostic(format!("a message was dropped: {error}"));
                self.done();
            }
            Err(error) => {
                let now = Instant::now();
                if now - *self.failing_since.get_or_insert(now) > self.cx.config.timeout {
                    self.end(EndReason::TimedOut);
                }
                self.retry_at = Some(now + self.backoff.next());
                if error == RelayError::BadToken {
                    self.cx.tell(PeerOutput::BadToken);
                }
            }
        }
    }

    /// The first message of the queue is sent, or given up.
    fn done(&mut self) {
        if let Some(text) = self.queue.pop_front() {
            self.traffic.sent_messages += 1;
            self.traffic.sent_bytes += text.len() as u64;
            self.handle.shared().sent(queue_cost(&Payload::Text(text)));
        }
    }

    /// Delivers what was sent before the end.
    async fn drain(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.command(command);
        }
        if let Some(post) = self.post.take() {
            let _ = post.await;
            self.done();
        }
        let Some(route) = &self.route else { return };
        for text in &self.queue {
            if post(&self.cx, route, text).await.is_err() {
                return;
            }
        }
    }
}

/// Waits for the game to let an original in; what it says meanwhile is kept, within the bounds.
pub(super) async fn ask(cx: &PeerContext, inputs: &mut mpsc::Receiver<PeerInput>) -> Result<Vec<PeerInput>, EndReason> {
    cx.emit(EventKind::JoinRequest { peer: cx.key, metadata: Bytes::new() });
    let mut kept = Vec::new();
    let mut bytes = 0;
    loop {
        match inputs.recv().await {
            Some(PeerInput::Decide(Ok(()))) => return Ok(kept),
            Some(PeerInput::Decide(Err(words))) => return Err(EndReason::Refused(words)),
            Some(PeerInput::Disconnect(reason)) => return Err(reason),
            None | Some(PeerInput::PeerClosed) => return Err(EndReason::Left),
            Some(input) => {
                bytes += if let PeerInput::Body(Body::Text(text), _) = &input { text.len() } else { 0 };
                kept.push(input);
                if bytes > cx.config.receive_buffer || kept.len() > 1024 {
                    return Err(EndReason::TooMuchData);
                }
            }
        }
    }
}

fn post(cx: &PeerContext, route: &Route, text: &ByteString) -> BoxFuture<Result<(), RelayError>> {
    let body = Body::Text(text.clone()).to_json();
    Box::pin(cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body))
}
