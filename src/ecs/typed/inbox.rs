//! Typed messages on their way in: from payloads to the [`Messages`] of their type.

use bevy::{platform::collections::HashMap, prelude::*};

use super::{Encoding, FromPeer, TypedMessage, json};
use crate::protocol::Payload;

/// How much room for decoded messages of one type is kept from frame to frame.
const KEPT: usize = 1024;

/// Where the messages of each type wait until they are written, all at once. Indices are those of
/// [`Types`](super::Types).
#[derive(Resource, Default)]
pub(in crate::ecs) struct Inboxes {
    boxes: Vec<Box<dyn Inbox>>,
    /// The types that may come as text, by name.
    json: HashMap<String, u16>,
    /// Those in which something waits.
    full: Vec<u16>,
}

/// A payload that is none of its type.
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
    fn take(&mut self, session: Entity, peer: Entity, payload: &Payload) -> Result<(), DecodeError>;
    fn deliver(&mut self, world: &mut World);
}

impl Inboxes {
    /// With the names of those that travel as text.
    pub(super) fn new(inboxes: impl Iterator<Item = (Box<dyn Inbox>, Option<String>)>) -> Self {
        let mut all = Inboxes::default();
        for ((inbox, json), index) in inboxes.zip(0..) {
            all.boxes.push(inbox);
            all.json.extend(json.map(|name| (name, index)));
        }
        all
    }

    /// The type whose shape an untyped message has.
    pub fn of_text(&self, payload: &Payload) -> Option<u16> {
        if self.json.is_empty() {
            return None;
        }
        self.json.get(json::name(payload.as_text()?)?).copied()
    }

    /// The name of a type; none if this app has no such type.
    pub fn name(&self, index: u16) -> Option<&str> {
        Some(self.boxes.get(usize::from(index))?.name())
    }

    /// Takes a message of a type that this app [has](Self::name).
    pub fn take(&mut self, index: u16, session: Entity, peer: Entity, payload: &Payload) -> Result<(), DecodeError> {
        let Some(inbox) = self.boxes.get_mut(usize::from(index)) else { return Ok(()) };
        inbox.take(session, peer, payload)?;
        if self.full.last() != Some(&index) && !self.full.contains(&index) {
            self.full.push(index);
        }
        Ok(())
    }

    /// Writes what has been taken.
    pub fn deliver(&mut self, world: &mut World) {
        for index in self.full.drain(..) {
            if let Some(inbox) = self.boxes.get_mut(usize::from(index)) {
                inbox.deliver(world);
            }
        }
    }
}

pub(super) struct TypedInbox<T: TypedMessage> {
    name: String,
    encoding: Encoding,
    waiting: Vec<FromPeer<T>>,
}

impl<T: TypedMessage> TypedInbox<T> {
    pub(super) fn boxed(name: &str, encoding: Encoding) -> Box<dyn Inbox> {
        Box::new(TypedInbox::<T> { name: name.to_owned(), encoding, waiting: Vec::new() })
    }
}

impl<T: TypedMessage> Inbox for TypedInbox<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn take(&mut self, session: Entity, peer: Entity, payload: &Payload) -> Result<(), DecodeError> {
        let message = match (self.encoding, payload) {
            (Encoding::Binary, Payload::Binary(bytes)) => {
                let (message, rest) = postcard::take_from_bytes(bytes).map_err(DecodeError::Binary)?;
                if !rest.is_empty() {
                    return Err(DecodeError::TooLong(rest.len()));
                }
                message
            }
            (Encoding::Json, Payload::Text(text)) => {
                json::read(text.as_bytes(), &self.name).map_err(DecodeError::Json)?
            }
            (Encoding::Binary, Payload::Text(_)) | (Encoding::Json, Payload::Binary(_)) => {
                return Err(DecodeError::OtherEncoding);
            }
        };
        self.waiting.push(FromPeer { session, peer, message });
        Ok(())
    }

    fn deliver(&mut self, world: &mut World) {
        let Some(mut messages) = world.get_resource_mut::<Messages<FromPeer<T>>>() else {
            return self.waiting.clear();
        };
        messages.write_batch(self.waiting.drain(..));
        self.waiting.shrink_to(KEPT);
    }
}
