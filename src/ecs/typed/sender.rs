//! Sending typed messages.

use std::{any::type_name, cell::Cell, marker::PhantomData};

use bevy::{ecs::system::SystemParam, prelude::*};
use bytes::Bytes;
use bytestring::ByteString;

use super::{Encoding, TypedMessage, json, registry::Types};
use crate::{
    ecs::{BroadcastError, UhstClient, UhstHost, UhstPeer, error::Tally},
    net::SendError,
    protocol::{Channel, Payload, Tag},
};

/// Larger messages keep the buffer they were written into; smaller ones leave it for the next.
const COPIED: usize = 16 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Sends messages of one [registered](super::UhstAppExt::add_uhst_message) type, on its channel: a parameter of
/// systems and observers.
///
/// Any number of systems may send at once. A broadcast writes the message once and shares its bytes.
///
/// Errors are those of untyped messages, and [`SendError::NotRegistered`], [`SendError::NotSerializable`] and
/// [`SendError::NativeOnly`].
///
/// ```
/// # use bevy::prelude::*;
/// # use bevy_uhst::prelude::*;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Jump { height: f32 }
/// # let mut app = App::new();
/// /// The host passes on what one player does.
/// fn pass_on(mut jumps: MessageReader<FromPeer<Jump>>, sender: UhstSender<Jump>) -> Result {
///     for jump in jumps.read() {
///         sender.broadcast_except(jump.peer, jump)?;
///     }
///     Ok(())
/// }
/// # app.add_systems(Update, pass_on);
/// ```
#[derive(SystemParam)]
pub struct UhstSender<'w, 's, T: TypedMessage> {
    types: Option<Res<'w, Types>>,
    hosts: Query<'w, 's, (Entity, &'static UhstHost)>,
    clients: Query<'w, 's, &'static UhstClient>,
    peers: Query<'w, 's, &'static UhstPeer>,
    of: PhantomData<fn(T)>,
}

impl<T: TypedMessage> UhstSender<'_, '_, T> {
    /// To one peer.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] if the entity is no peer, or not any more.
    pub fn to(&self, peer: Entity, message: &T) -> Result<(), SendError> {
        let peer = self.peers.get(peer).map_err(|_| SendError::Disconnected)?;
        let Encoded { channel, tag, payload } = self.encode(message)?;
        peer.send_tagged(channel, tag, payload)
    }

    /// To the host that this app has joined; with several clients in one app, to the host of each.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] if a client is not connected, or there is none.
    pub fn to_host(&self, message: &T) -> Result<(), SendError> {
        let mut clients = self.clients.iter().filter(|client| client.is_running()).peekable();
        clients.peek().ok_or(SendError::NotConnected)?;
        let Encoded { channel, tag, payload } = self.encode(message)?;
        clients.try_for_each(|client| client.send_tagged(channel, tag, payload.clone()))
    }

    /// To every peer of this app's host; with several hosts in one app, of each.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`] if some peers missed it; the others got it. Having no peers is fine.
    pub fn broadcast(&self, message: &T) -> Result<(), BroadcastError> {
        self.fan_out(|_| true, None, message)
    }

    /// To every peer but one: to pass on what that one said.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_except(&self, peer: Entity, message: &T) -> Result<(), BroadcastError> {
        self.fan_out(|_| true, Some(peer), message)
    }

    /// To every peer of one host, where this app has several.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_from(&self, host: Entity, message: &T) -> Result<(), BroadcastError> {
        self.fan_out(|entity| entity == host, None, message)
    }

    fn fan_out(
        &self,
        is_meant: impl Fn(Entity) -> bool,
        except: Option<Entity>,
        message: &T,
    ) -> Result<(), BroadcastError> {
        let hosts = || self.hosts.iter().filter(|(entity, _)| is_meant(*entity)).map(|(_, host)| host);
        let Encoded { channel, tag, payload } = self.encode(message).map_err(|cause| {
            let peers = hosts().map(UhstHost::peer_count).sum();
            BroadcastError { missed: peers, peers, cause }
        })?;
        let mut tally = Tally::default();
        hosts().for_each(|host| host.fan_out_tagged(except, channel, tag, &payload, &mut tally));
        tally.result()
    }

    fn encode(&self, message: &T) -> Result<Encoded, SendError> {
        let sending = self.types.as_ref().and_then(|types| types.sending::<T>());
        let sending = sending.ok_or(SendError::NotRegistered(type_name::<T>()))?;
        let mut buffer = BUFFER.take();
        buffer.clear();
        let written = match sending.encoding {
            Encoding::Binary => postcard::to_extend(message, buffer).map_err(|error| error.to_string()),
            Encoding::Json => {
                let written = json::write(&mut buffer, sending.name, message);
                written.map(|()| buffer).map_err(|error| error.to_string())
            }
        };
        let buffer = written.map_err(|error| {
            tracing::debug!("{} cannot be written: {error}", type_name::<T>());
            SendError::NotSerializable(type_name::<T>())
        })?;
        let bytes = if buffer.len() > COPIED {
            Bytes::from(buffer)
        } else {
            let bytes = Bytes::copy_from_slice(&buffer);
            BUFFER.set(buffer);
            bytes
        };
        let channel = sending.channel;
        Ok(match sending.encoding {
            Encoding::Binary => Encoded { channel, tag: Tag::Typed(sending.index), payload: Payload::Binary(bytes) },
            // Untagged: a text says itself what it is, to peers that know no tags, too.
            Encoding::Json => {
                let text = ByteString::try_from(bytes).map_err(|_| SendError::NotSerializable(type_name::<T>()))?;
                Encoded { channel, tag: Tag::Untyped, payload: Payload::Text(text) }
            }
        })
    }
}

/// A message, ready for any number of peers.
struct Encoded {
    channel: Channel,
    tag: Tag,
    payload: Payload,
}
