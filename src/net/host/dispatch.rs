//! Passes the events of a host's stream to the tasks of its peers.

use crate::{
    net::{
        host::Host,
        peer_link::{PeerInput, Route},
        report::BadInput,
    },
    protocol::{Body, PathPolicy, SenderClaims, StreamEvent, frame::HandshakeKind, peek_sender},
};

/// The sender of a message, as the relay names it.
pub(super) struct Sender {
    pub client: String,
    /// Stands for the sender's address: the relay's name for it, or the client id where the relay gives none.
    pub origin: Box<str>,
    /// Whether the sender has an event stream, if the relay reports it.
    pub listens: Option<bool>,
}

impl Sender {
    fn of_token(token: &str) -> Option<Self> {
        let SenderClaims { client_id: client, from, listens } = peek_sender(token).ok()?;
        let origin = from.unwrap_or_else(|| client.clone()).into();
        Some(Sender { client, origin, listens })
    }

    /// Whether no answer can reach the sender.
    pub fn is_deaf(&self) -> bool {
        self.listens == Some(false)
    }
}

impl Host {
    pub(super) async fn dispatch(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Message { response_token: Some(token), body } => self.message(token, body.get()).await,
            StreamEvent::Message { response_token: None, .. } => {
                let text = || "the relay did not say who sent a message".to_owned();
                self.reporter.report_once(BadInput::Token, text);
            }
            StreamEvent::ClientClosed(client) => {
                self.former.unblock(&client);
                if let Some(key) = self.peers.of_client(&client) {
                    if let Some(entry) = self.peers.get_mut(key) {
                        entry.stream_closed = true;
                    }
                    self.peers.send(key, PeerInput::PeerClosed).await;
                }
            }
            StreamEvent::HostClosed(_) => {}
        }
    }

    async fn message(&mut self, token: String, body: &str) {
        let Some(from) = Sender::of_token(&token) else {
            let text = || "the relay sent a token that names no client".to_owned();
            return self.reporter.report_once(BadInput::Token, text);
        };
        let body = match Body::parse(body) {
            Ok(body) => body,
            Err(error) => {
                return self.reporter.report_once(BadInput::Body, || format!("a message cannot be read: {error}"));
            }
        };
        let route = Route { send_to: self.relay.access().send_to.clone(), token: token.into() };
        match (self.peers.of_client(&from.client), body) {
            // A resumption belongs to its connection, whatever client sends it.
            (_, Body::Native { packet, .. }) if matches!(HandshakeKind::peek(&packet), HandshakeKind::Resume(_)) => {
                self.resumption(from, packet, route).await;
            }
            (Some(key), body) => self.peers.send(key, PeerInput::Body(body, Some(route))).await,
            (None, Body::Native { packet, .. }) => self.packet_of_unknown(from, packet, route).await,
            (None, body) => {
                if !self.is_transport_refused(&body) && self.accepting && !self.former.is_blocked(&from.client) {
                    self.accept_original(from, body, route).await;
                }
            }
        }
    }

    /// Whether an original wants a transport that this session does not allow. Reports that once.
    fn is_transport_refused(&mut self, first: &Body) -> bool {
        let wants_webrtc = matches!(first, Body::Signal(_));
        let words = match self.options.session.paths {
            PathPolicy::RelayOnly if wants_webrtc => "it wants WebRTC, and this session stays on the relay",
            PathPolicy::DirectOnly if !wants_webrtc => "it wants the relay, and this session allows direct paths only",
            _ => return false,
        };
        let text = || format!("a peer of the original protocol was ignored: {words}");
        self.reporter.report_once(BadInput::Transport, text);
        true
    }
}
