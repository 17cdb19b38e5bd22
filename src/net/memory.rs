//! A relay in memory: the same rules as over HTTP, without a socket. For tests of games.

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
    relay_client::{Access, HostHint, Joined},
    relay_error::RelayError,
};
use crate::protocol::{Claims, StreamEvent, TokenKind, peek_token};

/// Events that may wait for one listener; a sender then waits, as it would for the answer to its POST.
const QUEUE: usize = 64;

/// Connects the hosts and clients of one process that share a clone of it. Behaves as a relay does, including how it
/// dies: see [`stop`](Self::stop).
#[derive(Clone, Debug, Default)]
pub struct MemoryRelay(Arc<Mutex<Rooms>>);

#[derive(Debug, Default)]
struct Rooms {
    rooms: HashMap<String, Room>,
    clients: u64,
    ids: u32,
    stopped: bool,
    /// Tokens of an earlier life are refused.
    life: u64,
}

#[derive(Debug, Default)]
struct Room {
    host: Option<Listener>,
    clients: HashMap<String, Listener>,
}

type Listener = mpsc::Sender<StreamItem>;

impl MemoryRelay {
    /// A relay that nobody uses yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Dies as a relay process does: every stream breaks, nothing answers, and its tokens are worth nothing later.
    pub fn stop(&self) {
        let mut rooms = self.lock();
        rooms.rooms.clear();
        rooms.stopped = true;
        rooms.life += 1;
    }

    /// Answers again after [`stop`](Self::stop), as a relay that remembers nobody.
    pub fn restart(&self) {
        self.lock().stopped = false;
    }

    pub(super) fn host(&self, id: Option<&str>) -> Result<(String, Access), RelayError> {
        let mut rooms = self.running()?;
        let id = match id {
            Some(id) => id.to_owned(),
            None => {
                rooms.ids += 1;
                format!("{:06}", rooms.ids)
            }
        };
        if rooms.rooms.get(&id).is_some_and(Room::has_host) {
            return Err(RelayError::Rejected);
        }
        Ok((id.clone(), access(TokenKind::HostToken, id, None, rooms.life)))
    }

    pub(super) fn join(&self, id: &str) -> Result<Joined, RelayError> {
        let mut rooms = self.running()?;
        if !rooms.rooms.get(id).is_some_and(Room::has_host) {
            return Err(RelayError::Rejected);
        }
        rooms.clients += 1;
        let client = format!("client-{}", rooms.clients);
        let access = access(TokenKind::ClientToken, id.to_owned(), Some(client), rooms.life);
        Ok(Joined { access, hint: Some(HostHint::Native) })
    }

    pub(super) fn listen(&self, token: &str) -> EventStream {
        match self.try_listen(token) {
            Ok((receiver, leaving)) => {
                EventStream::new(Box::pin(stream::unfold((receiver, leaving), async |(mut receiver, leaving)| {
                    receiver.recv().await.map(|item| (Ok(item), (receiver, leaving)))
                })))
            }
            Err(error) => EventStream::new(Box::pin(stream::once(Err(error)))).expecting_its_beginning(),
        }
    }

    fn try_listen(&self, token: &str) -> Result<(mpsc::Receiver<StreamItem>, Leaving), RelayError> {
        let mut rooms = self.running()?;
        let Claims { kind, host_id, client_id, .. } = rooms.verify(token)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        // Nobody else has this sender yet, so there is room.
        let _ = sender.try_send(StreamItem::Open);
        match (kind, &client_id) {
            (TokenKind::HostToken, _) => {
                let room = rooms.rooms.entry(host_id.clone()).or_default();
                if room.has_host() {
                    return Err(RelayError::Rejected);
                }
                room.host = Some(sender);
            }
            (TokenKind::ClientToken, Some(client)) => {
                let room = rooms.rooms.get_mut(&host_id).ok_or(RelayError::Rejected)?;
                room.clients.insert(client.clone(), sender);
            }
            _ => return Err(RelayError::Rejected),
        }
        Ok((receiver, Leaving { relay: self.clone(), host_id, client_id }))
    }

    pub(super) async fn send(&self, token: &str, body: &str) -> Result<(), RelayError> {
        let (listener, event) = {
            let rooms = self.running()?;
            let Claims { kind, host_id, client_id, .. } = rooms.verify(token)?;
            let room = rooms.rooms.get(&host_id).ok_or(RelayError::Rejected)?;
            let client = client_id.ok_or(RelayError::Rejected)?;
            let (listener, response_token) = match kind {
                TokenKind::ClientToken => {
                    let access = access(TokenKind::ResponseToken, host_id, Some(client), rooms.life);
                    (room.host.clone(), Some(access.token.as_ref().to_owned()))
                }
                TokenKind::ResponseToken => (room.clients.get(&client).cloned(), None),
                TokenKind::HostToken => return Err(RelayError::Rejected),
            };
            let body = RawValue::from_string(body.to_owned()).map_err(|_| RelayError::Rejected)?;
            (listener.ok_or(RelayError::Rejected)?, StreamEvent::Message { response_token, body })
        };
        listener.send(StreamItem::Event(event)).await.map_err(|_| RelayError::Rejected)
    }

    fn running(&self) -> Result<MutexGuard<'_, Rooms>, RelayError> {
        let rooms = self.lock();
        if rooms.stopped {
            return Err(RelayError::Unreachable("the relay is stopped".to_owned()));
        }
        Ok(rooms)
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    fn verify(&self, token: &str) -> Result<Claims, RelayError> {
        let claims = peek_token(token).map_err(|_| RelayError::BadToken)?;
        if claims.iat != Some(self.life) {
            return Err(RelayError::BadToken);
        }
        Ok(claims)
    }
}

impl Room {
    fn has_host(&self) -> bool {
        self.host.as_ref().is_some_and(|host| !host.is_closed())
    }
}

/// Tells the others when a stream is dropped, as a relay does when a socket closes.
struct Leaving {
    relay: MemoryRelay,
    host_id: String,
    client_id: Option<String>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut rooms = self.relay.lock();
        let Some(room) = rooms.rooms.get_mut(&self.host_id) else { return };
        // The streams of those who leave are closed by now, but one of the same name may have taken the place.
        match &self.client_id {
            None if !room.has_host() => {
                room.host = None;
                for client in room.clients.values() {
                    let _ = client.try_send(StreamItem::Event(StreamEvent::HostClosed(self.host_id.clone())));
                }
            }
            Some(client) if room.clients.get(client).is_some_and(mpsc::Sender::is_closed) => {
                room.clients.remove(client);
                if let Some(host) = &room.host {
                    let _ = host.try_send(StreamItem::Event(StreamEvent::ClientClosed(client.clone())));
                }
            }
            _ => {}
        }
        if room.host.is_none() && room.clients.is_empty() {
            rooms.rooms.remove(&self.host_id);
        }
    }
}

/// A token that nobody signed: here, who has it had it from us.
fn access(kind: TokenKind, host_id: String, client_id: Option<String>, life: u64) -> Access {
    let claims = Claims { kind, host_id, client_id, iat: Some(life) };
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    let nowhere = Url::parse("memory:/").unwrap_or_else(|_| unreachable!("a constant"));
    Access {
        token: format!(".{}.", BASE64_URL_SAFE_NO_PAD.encode(claims)).into(),
        send_to: nowhere.clone().into(),
        listen_at: nowhere,
    }
}
