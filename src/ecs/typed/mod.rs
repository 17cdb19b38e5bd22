//! Typed messages, which a game registers, reads and sends instead of text and bytes.

mod inbox;
mod json;
mod registry;
mod sender;

use std::ops::Deref;

use bevy::{prelude::*, utils::prelude::ShortName};
use serde::{Serialize, de::DeserializeOwned};

pub(super) use inbox::DecodeError;
pub(crate) use inbox::Inboxes;
pub(super) use registry::Types;
pub use sender::UhstSender;

use super::{UhstSystems, slow_reader::watch_readers};
use crate::UhstChannel;

/// A type that can be registered: `serde` writes and reads it, and systems can share it.
pub trait TypedMessage: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> TypedMessage for T {}

/// How a registered type crosses the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `postcard`: small and fast, for peers that run this library. Sending it to others is
    /// [`SendError::NativeOnly`](crate::SendError::NativeOnly).
    #[default]
    Binary,
    /// A text that every peer can read and write, of the original protocol and web pages too:
    /// `{"Chat":{"text":"hello"}}` for a type of the name `Chat`.
    ///
    /// Every such text is received as the type, whatever program sent it. Other texts stay
    /// [`UhstMessage`](super::UhstMessage)s, and so does one that has the name but cannot be read.
    Json,
}

/// A message of a registered type, with who sent it; read them with a [`MessageReader`] in `Update`.
///
/// It is written when and where a [`UhstMessage`](super::UhstMessage) would be. Messages of one type from one peer
/// keep the promise of their channel. Between types, and towards untyped messages, there is no order within a frame.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromPeer<T: TypedMessage> {
    /// The entity with [`UhstHost`](super::UhstHost) or [`UhstClient`](super::UhstClient).
    pub session: Entity,
    /// The entity with [`UhstPeer`](super::UhstPeer), from whom it comes.
    pub peer: Entity,
    /// The message. A peer can send any value that the type can hold: do not trust it.
    pub message: T,
}

impl<T: TypedMessage> Deref for FromPeer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.message
    }
}

/// Registers types of messages, on an [`App`].
///
/// Do so before the first session starts, before or after [`UhstPlugin`](super::UhstPlugin) is added, in any order, and
/// alike in every build of the game: a joiner that has registered other types, names, channels or encodings is refused
/// with [`EndReason::GameMismatch`](crate::EndReason::GameMismatch). The fields of a type are not compared:
/// change [`UhstPlugin::version`](super::UhstPlugin::version) with them. Peers of the original protocol cannot be
/// compared, and are let in.
///
/// A type that contains itself (a tree) or many values without size (`Vec<()>`) lets a peer spend your stack or time with
/// a small message: do not register such.
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// # let mut app = App::new();
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Jump {
///     height: f32,
/// }
///
/// app.add_uhst_message::<Jump>(UhstChannel::Reliable);
/// ```
pub trait UhstAppExt {
    /// Registers a type in binary, under its name without its path.
    ///
    /// # Panics
    ///
    /// If another type has this name, this type is registered otherwise, or a session has started.
    fn add_uhst_message<T: TypedMessage>(&mut self, channel: UhstChannel) -> &mut Self {
        self.add_uhst_message_as::<T>(ShortName::of::<T>().to_string(), channel, Encoding::Binary)
    }

    /// Registers a type as JSON text, which every peer can read and write, under its name without its path.
    ///
    /// # Panics
    ///
    /// As [`add_uhst_message`](Self::add_uhst_message).
    fn add_uhst_message_json<T: TypedMessage>(&mut self, channel: UhstChannel) -> &mut Self {
        self.add_uhst_message_as::<T>(ShortName::of::<T>().to_string(), channel, Encoding::Json)
    }

    /// Registers a type under a name of your choice, for instance where two types have the same name.
    ///
    /// # Panics
    ///
    /// As [`add_uhst_message`](Self::add_uhst_message), or if the name is empty or has a quote, a backslash or a control
    /// character.
    fn add_uhst_message_as<T: TypedMessage>(
        &mut self,
        name: impl Into<String>,
        channel: UhstChannel,
        encoding: Encoding,
    ) -> &mut Self;
}

impl UhstAppExt for App {
    fn add_uhst_message_as<T: TypedMessage>(
        &mut self,
        name: impl Into<String>,
        channel: UhstChannel,
        encoding: Encoding,
    ) -> &mut Self {
        self.add_message::<FromPeer<T>>();
        let mut types = self.world_mut().get_resource_or_init::<Types>();
        if let Err(error) = types.register::<T>(name.into(), channel, encoding) {
            panic!("{error}");
        }
        watch_readers::<FromPeer<T>>(self, UhstSystems::Receive);
        self
    }
}
