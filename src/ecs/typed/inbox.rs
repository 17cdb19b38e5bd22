//! Typed messages on their way in: from payloads to the [`Messages`] of their type.

use std::{marker::PhantomData, time::Duration};

use bevy::{
    platform::{collections::HashMap, time::Instant},
    prelude::*,
};

use super::{Encoding, FromPeer, TypedMessage, json};
use crate::{
    ecs::{
        UhstMessage,
        backend::{Backend, BackendMessage},
        peer_table::Remote,
        unread::{Progress, Unread},
    },
    net::contract::{Held, Received, SessionKey},
    protocol::Payload,
};

/// The destinations of incoming messages. Indices are those of [`Types`](super::Types).
#[derive(Resource, Default)]
pub(crate) struct Inboxes {
    boxes: Vec<(Box<dyn Inbox>, Unread)>,
    /// Messages without a type.
    untyped: Unread,
    /// The types that may come as text, by name.
    json: HashMap<String, u16>,
    /// Where messages go that are not for the game.
    backend: Option<Box<dyn Backend>>,
}

/// Why a payload is not a value of its type.
#[derive(Debug, thiserror::Error)]
pub(in crate::ecs) enum DecodeError {
    #[error("{0}")]
    Binary(postcard::Error),
    #[error("{0} bytes too many")]
    TooLong(usize),
    #[error("{0}")]
    Json(serde_json::Error),
    #[error("text where there should be bytes, or bytes for text")]
    OtherEncoding,
}

pub(super) trait Inbox: Send + Sync {
    fn name(&self) -> &str;
    fn progress(&self, world: &World) -> Option<Progress>;
    fn write(&self, world: &mut World, from: Sender, messages: &[Received], refuse: &mut Refuse);
}

/// The session and the peer that a message comes from.
pub(in crate::ecs) type Sender = (Entity, Entity);

/// Is called with each message that is not a value of its type.
type Refuse<'a> = dyn FnMut(&Received, DecodeError) + 'a;

impl Inboxes {
    /// With the names of those that travel as text.
    pub(super) fn new(inboxes: impl Iterator<Item = (Box<dyn Inbox>, Option<String>)>) -> Self {
        let mut all = Inboxes::default();
        for ((inbox, json), index) in inboxes.zip(0..) {
            all.boxes.push((inbox, Unread::default()));
            all.json.extend(json.map(|name| (name, index)));
        }
        all
    }

    /// Registers the replication backend.
    #[cfg(feature = "replicon")]
    pub(crate) fn set_backend(&mut self, backend: impl Backend + 'static) {
        self.backend = Some(Box::new(backend));
    }

    /// Replaces the types, and keeps the backend.
    pub(super) fn set_types(&mut self, types: Inboxes) {
        *self = Inboxes { backend: self.backend.take(), ..types };
    }

    /// Whether the backend takes messages of this session.
    pub fn replicates(&self, world: &World, session: SessionKey) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.listens_to(world, session))
    }

    /// Hands messages to the backend.
    pub fn replicate(&self, world: &mut World, messages: &mut dyn Iterator<Item = BackendMessage>) {
        if let Some(backend) = &self.backend {
            backend.take(world, messages);
        }
    }

    /// The type whose shape an untyped message has.
    pub fn of_text(&self, payload: &Payload) -> Option<u16> {
        if self.json.is_empty() {
            return None;
        }
        self.json.get(json::name(payload.as_text()?)?).copied()
    }

    /// Returns the name of a type; none if this app has no such type.
    pub fn name(&self, index: u16) -> Option<&str> {
        Some(self.boxes.get(usize::from(index))?.0.name())
    }

    /// Writes messages of a type, all from one peer. Returns false if this app has no such type.
    ///
    /// Many at once: to find where they go takes as long as to read a small one.
    pub(in crate::ecs) fn write(
        &self,
        index: u16,
        world: &mut World,
        from: Sender,
        messages: &[Received],
        refuse: &mut Refuse,
    ) -> bool {
        let Some((inbox, _)) = self.boxes.get(usize::from(index)) else { return false };
        inbox.write(world, from, messages, refuse);
        true
    }

    /// Notes the messages of a type that were written just now; without a type, those that have none.
    pub fn keep(&mut self, world: &World, index: Option<u16>, held: Held, now: Instant) {
        let kept = match index {
            None => untyped(world).map(|progress| (progress, &mut self.untyped)),
            Some(index) => self
                .boxes
                .get_mut(usize::from(index))
                .and_then(|(inbox, unread)| Some((inbox.progress(world)?, unread))),
        };
        if let Some((progress, unread)) = kept {
            unread.keep(progress, held, now);
        }
    }

    /// Makes room for more where messages were dropped.
    pub fn release(&mut self, world: &World) {
        if !self.untyped.is_empty()
            && let Some(progress) = untyped(world)
        {
            self.untyped.release(progress);
        }
        for (inbox, unread) in self.boxes.iter_mut().filter(|(_, unread)| !unread.is_empty()) {
            if let Some(progress) = inbox.progress(world) {
                unread.release(progress);
            }
        }
    }

    /// Whether Bevy keeps no messages of any type.
    pub fn are_empty(&self) -> bool {
        self.untyped.is_empty() && self.boxes.iter().all(|(_, unread)| unread.is_empty())
    }

    /// Whether systems, or the backend, have yet to be offered a message of this peer.
    pub(in crate::ecs) fn await_readers(&self, world: &World, Remote { entity, handle: peer, .. }: &Remote) -> bool {
        if self.backend.as_ref().is_some_and(|backend| backend.has_messages_of(world, *entity)) {
            return true;
        }
        let awaits = |unread: &Unread, progress: Option<Progress>| {
            progress.is_some_and(|progress| unread.awaits_readers(progress, peer))
        };
        !self.untyped.is_empty() && awaits(&self.untyped, untyped(world))
            || self.boxes.iter().any(|(inbox, unread)| !unread.is_empty() && awaits(unread, inbox.progress(world)))
    }

    /// The bytes of messages that Bevy keeps for longer than this.
    pub fn older_than(&self, age: Duration, now: Instant) -> usize {
        let typed = self.boxes.iter().map(|(_, unread)| unread.older_than(age, now));
        typed.sum::<usize>() + self.untyped.older_than(age, now)
    }
}

fn untyped(world: &World) -> Option<Progress> {
    world.get_resource::<Messages<UhstMessage>>().map(Progress::of)
}

pub(super) struct TypedInbox<T> {
    name: String,
    encoding: Encoding,
    of: PhantomData<fn(T)>,
}

impl<T: TypedMessage> TypedInbox<T> {
    pub(super) fn boxed(name: &str, encoding: Encoding) -> Box<dyn Inbox> {
        Box::new(TypedInbox::<T> { name: name.to_owned(), encoding, of: PhantomData })
    }

    fn read(&self, payload: &Payload) -> Result<T, DecodeError> {
        match (self.encoding, payload) {
            (Encoding::Binary, Payload::Binary(bytes)) => {
                let (message, rest) = postcard::take_from_bytes(bytes).map_err(DecodeError::Binary)?;
                if rest.is_empty() { Ok(message) } else { Err(DecodeError::TooLong(rest.len())) }
            }
            (Encoding::Json, Payload::Text(text)) => json::read(text.as_bytes(), &self.name).map_err(DecodeError::Json),
            (Encoding::Binary, Payload::Text(_)) | (Encoding::Json, Payload::Binary(_)) => {
                Err(DecodeError::OtherEncoding)
            }
        }
    }
}

impl<T: TypedMessage> Inbox for TypedInbox<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn progress(&self, world: &World) -> Option<Progress> {
        world.get_resource::<Messages<FromPeer<T>>>().map(Progress::of)
    }

    fn write(&self, world: &mut World, (session, peer): Sender, messages: &[Received], refuse: &mut Refuse) {
        let Some(mut written) = world.get_resource_mut::<Messages<FromPeer<T>>>() else { return };
        for message in messages {
            match self.read(&message.payload) {
                Ok(message) => _ = written.write(FromPeer { session, peer, message }),
                Err(error) => refuse(message, error),
            }
        }
    }
}
