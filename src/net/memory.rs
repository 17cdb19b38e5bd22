//! A relay in memory, for tests of games. It follows the rules of a relay over HTTP, without a socket.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use n0_future::stream;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use url::Url;

use super::{
    events::{EventStream, StreamItem},
    relay_access::{Access, HostHint, Joined},
    relay_error::RelayError,
};
use crate::protocol::{Claims, StreamEvent, TokenKind, peek_token};

/// The capacity of a listener's queue. When it is full a sender waits, as it waits for the answer to a POST.
const QUEUE: usize = 64;

/// A relay in memory, for hosts and clients of one process that share a clone of it. It behaves as a relay over HTTP does,
/// also when it is [stopped](Self::stop).
#[derive(Clone, Debug, Default)]
pub struct MemoryRelay(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, Session>,
    clients: u64,
    ids: u32,
    stopped: bool,
    /// Counts the restarts. Tokens from before a restart are refused.
    generation: u64,
}

#[derive(Debug, Default)]
struct Session {
    host: Option<Listener>,
    clients: HashMap<String, Listener>,
}

type Listener = mpsc::Sender<StreamItem>;

impl MemoryRelay {
    /// Creates a relay without any session.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the relay as if its process died: every stream breaks, requests get no answer, and its tokens become invalid.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.sessions.clear();
        state.stopped = true;
        state.generation += 1;
    }

    /// Starts the relay again after [`stop`](Self::stop), without any session.
    pub fn restart(&self) {
        self.lock().stopped = false;
    }

    /// Issues a token to host.
    pub(super) fn host(&self, id: Option<&str>) -> Result<(String, Access), RelayError> {
        let mut state = self.running()?;
        let id = match id {
            Some(id) => id.to_owned(),
            None => {
                state.ids += 1;
                format!("{:06}", state.ids)
            }
        };
        if state.sessions.get(&id).is_some_and(Session::has_host) {
            return Err(RelayError::Rejected);
        }
        Ok((id.clone(), access(TokenKind::HostToken, id, None, state.generation)))
    }

    /// Issues a token to join.
    pub(super) fn join(&self, id: &str) -> Result<Joined, RelayError> {
        let mut state = self.running()?;
        if !state.sessions.get(id).is_some_and(Session::has_host) {
            return Err(RelayError::Rejected);
        }
        state.clients += 1;
        let client = format!("client-{}", state.clients);
        let access = access(TokenKind::ClientToken, id.to_owned(), Some(client), state.generation);
        Ok(Joined { access, hint: Some(HostHint::Native) })
    }

    /// Opens the event stream of a token.
    pub(super) fn listen(&self, token: &str) -> EventStream {
        match self.try_listen(token) {
            Ok((receiver, subscription)) => EventStream::new(Box::pin(stream::unfold(
                (receiver, subscription),
                async |(mut receiver, subscription)| {
                    receiver.recv().await.map(|item| (Ok(item), (receiver, subscription)))
                },
            ))),
            Err(error) => EventStream::new(Box::pin(stream::once(Err(error)))).with_first_byte_timeout(),
        }
    }

    fn try_listen(&self, token: &str) -> Result<(mpsc::Receiver<StreamItem>, Subscription), RelayError> {
        let mut state = self.running()?;
        let Claims { kind, host_id, client_id, .. } = state.verify(token)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        // The new queue has room.
        let _ = sender.try_send(StreamItem::Open);
        match (kind, &client_id) {
            (TokenKind::HostToken, _) => {
                let session = state.sessions.entry(host_id.clone()).or_default();
                if session.has_host() {
                    return Err(RelayError::Rejected);
                }
                session.host = Some(sender);
            }
            (TokenKind::ClientToken, Some(client)) => {
                let session = state.sessions.get_mut(&host_id).ok_or(RelayError::Rejected)?;
                session.clients.insert(client.clone(), sender);
            }
            _ => return Err(RelayError::Rejected),
        }
        Ok((receiver, Subscription { relay: self.clone(), host_id, client_id }))
    }

    /// Delivers a message to the receiver that the token names.
    pub(super) async fn send(&self, token: &str, body: &str) -> Result<(), RelayError> {
        let (listener, event) = {
            let state = self.running()?;
            let Claims { kind, host_id, client_id, .. } = state.verify(token)?;
            let session = state.sessions.get(&host_id).ok_or(RelayError::Rejected)?;
            let client = client_id.ok_or(RelayError::Rejected)?;
            let (listener, response_token) = match kind {
                TokenKind::ClientToken => {
                    let access = access(TokenKind::ResponseToken, host_id, Some(client), state.generation);
                    (session.host.clone(), Some(access.token.as_ref().to_owned()))
                }
                TokenKind::ResponseToken => (session.clients.get(&client).cloned(), None),
                TokenKind::HostToken => return Err(RelayError::Rejected),
            };
            let body = RawValue::from_string(body.to_owned()).map_err(|_| RelayError::Rejected)?;
            (listener.ok_or(RelayError::Rejected)?, StreamEvent::Message { response_token, body })
        };
        listener.send(StreamItem::Event(event)).await.map_err(|_| RelayError::Rejected)
    }

    fn running(&self) -> Result<MutexGuard<'_, State>, RelayError> {
        let state = self.lock();
        if state.stopped {
            return Err(RelayError::Unreachable("the relay is stopped".to_owned()));
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn verify(&self, token: &str) -> Result<Claims, RelayError> {
        let claims = peek_token(token).map_err(|_| RelayError::BadToken)?;
        if claims.iat != Some(self.generation) {
            return Err(RelayError::BadToken);
        }
        Ok(claims)
    }
}

impl Session {
    fn has_host(&self) -> bool {
        self.host.as_ref().is_some_and(|host| !host.is_closed())
    }
}

/// A stream of one listener. Dropping it informs the other side, as a relay does when a socket closes.
struct Subscription {
    relay: MemoryRelay,
    host_id: String,
    client_id: Option<String>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.relay.lock();
        let Some(session) = state.sessions.get_mut(&self.host_id) else { return };
        // The stream is closed by now, but another listener of the same name may have replaced it.
        match &self.client_id {
            None if !session.has_host() => {
                session.host = None;
                for client in session.clients.values() {
                    let _ = client.try_send(StreamItem::Event(StreamEvent::HostClosed(self.host_id.clone())));
                }
            }
            Some(client) if session.clients.get(client).is_some_and(mpsc::Sender::is_closed) => {
                session.clients.remove(client);
                if let Some(host) = &session.host {
                    let _ = host.try_send(StreamItem::Event(StreamEvent::ClientClosed(client.clone())));
                }
            }
            _ => {}
        }
        if session.host.is_none() && session.clients.is_empty() {
            state.sessions.remove(&self.host_id);
        }
    }
}

/// An unsigned token: within the process, only this relay issues tokens.
fn access(kind: TokenKind, host_id: String, client_id: Option<String>, generation: u64) -> Access {
    let claims = Claims { kind, host_id, client_id, iat: Some(generation) };
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    let url = Url::parse("memory:/").unwrap_or_else(|_| unreachable!("a constant"));
    Access {
        token: format!(".{}.", BASE64_URL_SAFE_NO_PAD.encode(claims)).into(),
        send_to: url.clone().into(),
        listen_at: url,
    }
}
