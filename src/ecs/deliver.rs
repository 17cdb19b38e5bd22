//! Messages of one peer on their way to the readers of their type.

use bevy::{platform::time::Instant, prelude::*};

use super::{
    UhstMessage,
    backend::BackendMessage,
    network::Owner,
    report::{Unreadable, report_once, unknown_tag},
    session,
    typed::{DecodeError, Inboxes},
};
use crate::{
    net::contract::{Held, PeerKey, Received, inbox_cost},
    protocol::Tag,
};

/// The longest description of an error in bytes: it may quote the peer, at any length.
const MAX_ERROR: usize = 200;

/// Writes messages of one peer as what they are: untyped, of a registered type, or for the replication backend.
pub(super) fn deliver(
    world: &mut World,
    inboxes: &mut Inboxes,
    owner: Owner,
    from: PeerKey,
    messages: Vec<Received>,
    now: Instant,
) {
    // A peer that the game has despawned is not heard any more.
    let Some(remote) = session::state(world, owner).and_then(|state| state.peers.get(from)) else { return };
    let mut held = remote.handle.hold(cost(&messages));
    let mut delivery = Delivery { session: owner.entity, peer: remote.entity, now, unreadable: Vec::new() };
    let replicates = inboxes.replicates(world, owner.key);
    let mut messages = messages.into_iter();
    while let Some(tag) = messages.as_slice().first().map(|message| tag_of(inboxes, message)) {
        let run = messages.as_slice().iter().take_while(|message| tag_of(inboxes, message) == tag).count();
        let held = held.split(cost(&messages.as_slice()[..run]));
        match tag {
            Tag::Untyped => {
                delivery.untyped(world, inboxes, messages.by_ref().take(run), held);
                continue;
            }
            Tag::Replication(channel) if replicates => {
                delivery.replication(world, inboxes, channel, messages.by_ref().take(run), held);
                continue;
            }
            Tag::Replication(_) => delivery.note(Unreadable::UnknownTag, || unknown_tag(tag)),
            Tag::Typed(index) => delivery.typed(world, inboxes, index, &messages.as_slice()[..run], held),
        }
        // These were read in place.
        messages.by_ref().take(run).for_each(drop);
    }
    for (kind, text) in delivery.unreadable {
        report_once(world, delivery.peer, kind, text);
    }
}

/// What the messages take of the peer's receive buffer.
fn cost(messages: &[Received]) -> usize {
    messages.iter().map(|message| inbox_cost(&message.payload)).sum()
}

fn tag_of(inboxes: &Inboxes, message: &Received) -> Tag {
    match message.tag {
        // A text may say itself what it is.
        Tag::Untyped => inboxes.of_text(&message.payload).map_or(Tag::Untyped, Tag::Typed),
        tag => tag,
    }
}

/// Messages in a row from one peer, as they are written.
struct Delivery {
    session: Entity,
    peer: Entity,
    now: Instant,
    /// Each kind of message that could not be read, once.
    unreadable: Vec<(Unreadable, String)>,
}

impl Delivery {
    fn note(&mut self, kind: Unreadable, describe: impl FnOnce() -> String) {
        if !self.unreadable.iter().any(|(known, _)| *known == kind) {
            self.unreadable.push((kind, describe()));
        }
    }

    fn message(&self, Received { channel, payload, .. }: Received) -> UhstMessage {
        UhstMessage { session: self.session, peer: self.peer, channel, payload }
    }

    fn untyped(&self, world: &mut World, inboxes: &mut Inboxes, messages: impl Iterator<Item = Received>, held: Held) {
        let messages = messages.map(|message| self.message(message));
        world.resource_mut::<Messages<UhstMessage>>().write_batch(messages);
        inboxes.keep(world, None, held, self.now);
    }

    fn replication(
        &self,
        world: &mut World,
        inboxes: &Inboxes,
        channel: u16,
        messages: impl Iterator<Item = Received>,
        mut held: Held,
    ) {
        let mut messages = messages.map(|message| {
            let held = held.split(inbox_cost(&message.payload));
            BackendMessage { peer: self.peer, channel, bytes: message.payload.into_bytes(), held }
        });
        inboxes.replicate(world, &mut messages);
    }

    fn typed(&mut self, world: &mut World, inboxes: &mut Inboxes, index: u16, messages: &[Received], held: Held) {
        let mut texts = Vec::new();
        let (from, mut refused) = ((self.session, self.peer), None);
        let mut refuse = |message: &Received, error: DecodeError| {
            refused.get_or_insert(error);
            // A text that only looks like one may mean something else.
            if message.tag == Tag::Untyped {
                texts.push(self.message(message.clone()));
            }
        };
        let known = inboxes.write(index, world, from, messages, &mut refuse);
        if !known {
            self.note(Unreadable::UnknownTag, || unknown_tag(Tag::Typed(index)));
        }
        if let Some(error) = refused {
            self.note(Unreadable::Undecoded(index), || {
                let (name, why) = (inboxes.name(index).unwrap_or_default(), error.to_string());
                format!("a message is no `{name}`: {}", &why[..why.floor_char_boundary(MAX_ERROR)])
            });
        }
        let kind = texts.is_empty().then_some(index);
        if !texts.is_empty() {
            world.resource_mut::<Messages<UhstMessage>>().write_batch(texts);
        }
        inboxes.keep(world, kind, held, self.now);
    }
}
