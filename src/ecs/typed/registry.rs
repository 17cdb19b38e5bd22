//! The types that a game has registered, and their names on the wire.

use std::any::{TypeId, type_name};

use bevy::{ecs::world::DeferredWorld, platform::collections::HashMap, prelude::*};

use super::{
    Encoding, TypedMessage,
    inbox::{Inbox, Inboxes, TypedInbox},
};
use crate::{
    UhstChannel,
    protocol::{GameId, Tag},
};

/// The registered types, in the order of their names: the index of one is its number on the wire.
#[derive(Resource, Default)]
pub(in crate::ecs) struct Types {
    list: Vec<Registered>,
    by_type: HashMap<TypeId, u16>,
    /// The game's name for its version.
    pub version: Option<String>,
    /// Known, and the types fixed, once a session has started.
    game: Option<GameId>,
}

struct Registered {
    name: String,
    path: &'static str,
    of: TypeId,
    channel: UhstChannel,
    encoding: Encoding,
    inbox: fn(&str, Encoding) -> Box<dyn Inbox>,
}

/// What a sender must know of its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub index: u16,
    pub channel: UhstChannel,
    pub encoding: Encoding,
}

impl Sending {
    /// Texts have no tag: they contain the name of their type, also for peers that know no tags.
    pub fn tag(&self) -> Tag {
        match self.encoding {
            Encoding::Binary => Tag::Typed(self.index),
            Encoding::Json => Tag::Untyped,
        }
    }
}

/// Why a type cannot be registered: a mistake in the game, for its author.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RegisterError {
    #[error("{0} is registered after a session has started: peers know each other's messages by then")]
    TooLate(&'static str),
    #[error("{0} and {1} both have the name `{2}`: give one of them another with `add_uhst_message_as`")]
    SameName(&'static str, &'static str, String),
    #[error("{0} is registered twice, under different names, channels or encodings")]
    Twice(&'static str),
    #[error("`{1}` is no name for {0}: it must not be empty, nor have a quote, a backslash or a control character")]
    NoName(&'static str, String),
    #[error("more than 65,536 types of messages")]
    TooMany,
}

impl Types {
    pub(super) fn register<T: TypedMessage>(
        &mut self,
        name: String,
        channel: UhstChannel,
        encoding: Encoding,
    ) -> Result<(), RegisterError> {
        let (path, of) = (type_name::<T>(), TypeId::of::<T>());
        if let Some(known) = self.list.iter().find(|known| known.of == of) {
            // Two plugins may use the same message.
            let same = (&*known.name, known.channel, known.encoding) == (&*name, channel, encoding);
            return if same { Ok(()) } else { Err(RegisterError::Twice(path)) };
        }
        if self.game.is_some() {
            return Err(RegisterError::TooLate(path));
        }
        if name.is_empty() || name.contains(|c: char| c == '"' || c == '\\' || c.is_control()) {
            return Err(RegisterError::NoName(path, name));
        }
        let index = match self.list.binary_search_by(|known| known.name.cmp(&name)) {
            Ok(index) => return Err(RegisterError::SameName(self.list[index].path, path, name)),
            Err(index) => index,
        };
        if self.list.len() > usize::from(u16::MAX) {
            return Err(RegisterError::TooMany);
        }
        self.list.insert(index, Registered { name, path, of, channel, encoding, inbox: TypedInbox::<T>::boxed });
        self.by_type = self.list.iter().zip(0..).map(|(known, index)| (known.of, index)).collect();
        Ok(())
    }

    pub(super) fn sending<T: TypedMessage>(&self) -> Option<Sending> {
        let index = *self.by_type.get(&TypeId::of::<T>())?;
        let Registered { channel, encoding, .. } = self.list.get(usize::from(index))?;
        Some(Sending { index, channel: *channel, encoding: *encoding })
    }

    pub(super) fn name(&self, index: u16) -> &str {
        self.list.get(usize::from(index)).map_or("", |known| &known.name)
    }

    /// Returns whether a session has started, from when on indices do not change.
    pub(super) fn are_fixed(&self) -> bool {
        self.game.is_some()
    }

    /// Fixes the registered types for all sessions of the app, when the first one starts.
    pub fn fix(world: &mut DeferredWorld) -> GameId {
        let Some(mut types) = world.get_resource_mut::<Types>() else { return GameId::default() };
        if let Some(game) = &types.game {
            return game.clone();
        }
        let (game, inboxes) = (types.describe(), types.inboxes());
        types.game = Some(game.clone());
        if let Some(mut unread) = world.get_resource_mut::<Inboxes>() {
            unread.set_types(inboxes);
        }
        game
    }

    fn describe(&self) -> GameId {
        let describe = |known: &Registered| format!("{}\n{:?}\n{:?}", known.name, known.channel, known.encoding);
        let described: Vec<_> = self.list.iter().map(describe).collect();
        GameId::new(self.version.as_deref(), described.iter().map(String::as_str))
    }

    fn inboxes(&self) -> Inboxes {
        Inboxes::new(self.list.iter().map(|known| {
            let json = (known.encoding == Encoding::Json).then(|| known.name.clone());
            ((known.inbox)(&known.name, known.encoding), json)
        }))
    }
}
