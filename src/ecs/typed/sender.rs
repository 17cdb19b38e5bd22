//! Sending typed messages.

use std::{
    any::type_name,
    fmt::Display,
    marker::PhantomData,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bevy::{ecs::system::SystemParam, prelude::*};
use bytes::Bytes;
use bytestring::ByteString;

use super::{
    Encoding, TypedMessage, json,
    registry::{Sending, Types},
};
use crate::{
    ecs::{BroadcastReport, UhstClient, UhstHost, UhstPeer},
    net::SendError,
    protocol::{Payload, Tag},
};

/// Up to this size, a message is written on the stack first, and allocated once.
const SMALL: usize = 256;
/// Larger ones keep the buffer they were written into, with room to spare.
const COPIED: usize = 16 << 10;

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
/// fn pass_on(mut jumps: MessageReader<FromPeer<Jump>>, sender: UhstSender<Jump>) {
///     for jump in jumps.read() {
///         sender.broadcast_except(jump.peer, jump);
///     }
/// }
/// # app.add_systems(Update, pass_on);
/// ```
#[derive(SystemParam)]
pub struct UhstSender<'w, 's, T: TypedMessage> {
    types: Option<Res<'w, Types>>,
    /// The entry of this type, cached once it is fixed: the lookup takes as long as writing a small message.
    found: Local<'s, OnceLock<Sending>>,
    /// A mistake in a broadcast is logged.
    reported: Local<'s, AtomicBool>,
    hosts: Query<'w, 's, (Entity, &'static UhstHost)>,
    clients: Query<'w, 's, &'static UhstClient>,
    peers: Query<'w, 's, &'static UhstPeer>,
    of: PhantomData<fn(T)>,
}

impl<T: TypedMessage> UhstSender<'_, '_, T> {
    /// Sends to one peer.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Disconnected`] if the entity is not, or no longer, a peer.
    pub fn to(&self, peer: Entity, message: &T) -> Result<(), SendError> {
        let peer = self.peers.get(peer).map_err(|_| SendError::Disconnected)?;
        let sending = self.sending()?;
        peer.send_tagged(sending.channel, sending.tag(), self.payload(message, sending)?)
    }

    /// Sends to the host that this app has joined; with several clients in one app, to the host of each.
    ///
    /// # Errors
    ///
    /// [`SendError::NotConnected`] if a client is not connected, or there is none.
    pub fn to_host(&self, message: &T) -> Result<(), SendError> {
        let mut clients = self.clients.iter().filter(|client| client.is_running()).peekable();
        clients.peek().ok_or(SendError::NotConnected)?;
        let sending = self.sending()?;
        let payload = self.payload(message, sending)?;
        clients.try_for_each(|client| client.send_tagged(sending.channel, sending.tag(), payload.clone()))
    }

    /// Sends to every peer of this app's host; with several hosts in one app, of each.
    ///
    /// Peers that miss it do not keep the others from getting it: see [`BroadcastReport`].
    pub fn broadcast(&self, message: &T) -> BroadcastReport {
        self.fan_out(|_| true, None, message)
    }

    /// Sends to every peer but one, for instance to forward that peer's message.
    pub fn broadcast_except(&self, peer: Entity, message: &T) -> BroadcastReport {
        self.fan_out(|_| true, Some(peer), message)
    }

    /// Sends to every peer of one host, where this app has several.
    pub fn broadcast_from(&self, host: Entity, message: &T) -> BroadcastReport {
        self.fan_out(|entity| entity == host, None, message)
    }

    /// Sends to these peers. The message is written once, and its bytes are shared. Entities that are not, or no longer,
    /// peers are skipped.
    pub fn to_each(&self, peers: impl IntoIterator<Item = Entity>, message: &T) -> BroadcastReport {
        let mut peers = peers.into_iter().filter_map(|peer| self.peers.get(peer).ok()).peekable();
        let mut report = BroadcastReport::default();
        if peers.peek().is_none() {
            return report;
        }
        match self.encoded(message) {
            Ok((Sending { channel, .. }, tag, payload)) => {
                peers.for_each(|peer| report.count(peer.broadcast_tagged(channel, tag, payload.clone())))
            }
            Err(cause) => peers.for_each(|_| report.count(Err(cause))),
        }
        report
    }

    fn fan_out(&self, is_meant: impl Fn(Entity) -> bool, except: Option<Entity>, message: &T) -> BroadcastReport {
        let hosts = || self.hosts.iter().filter(|(entity, _)| is_meant(*entity)).map(|(_, host)| host);
        let mut report = BroadcastReport::default();
        match self.encoded(message) {
            Ok((Sending { channel, .. }, tag, payload)) => {
                hosts().for_each(|host| host.fan_out_tagged(except, channel, tag, &payload, &mut report));
            }
            Err(cause) => {
                let peers = hosts().map(UhstHost::peer_count).sum();
                report = BroadcastReport { peers, missed: peers, cause: Some(cause) };
            }
        }
        report
    }

    /// Encodes a message for several peers. An error is a mistake of the game, and is logged once.
    #[inline(always)]
    fn encoded(&self, message: &T) -> Result<(Sending, Tag, Payload), SendError> {
        let encoded = self.sending().and_then(|sending| Ok((sending, sending.tag(), self.payload(message, sending)?)));
        if let Err(cause) = &encoded
            && !self.reported.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("no peer gets this broadcast: {cause}");
        }
        encoded
    }

    fn sending(&self) -> Result<Sending, SendError> {
        if let Some(found) = self.found.get() {
            return Ok(*found);
        }
        let found = self.types.as_ref().and_then(|types| Some((types, types.sending::<T>()?)));
        let (types, sending) = found.ok_or(SendError::NotRegistered(type_name::<T>()))?;
        if types.are_fixed() {
            // Another thread that was faster has found the same.
            let _ = self.found.set(sending);
        }
        Ok(sending)
    }

    // Inlined, so that the payload is made where it is sent from: moving it costs as much as writing a small message.
    #[inline(always)]
    fn payload(&self, message: &T, sending: Sending) -> Result<Payload, SendError> {
        match sending.encoding {
            Encoding::Binary => Ok(Payload::Binary(binary(message)?)),
            Encoding::Json => {
                let name = self.types.as_ref().map_or("", |types| types.name(sending.index));
                Ok(Payload::Text(text(message, name)?))
            }
        }
    }
}

#[inline(always)]
fn binary<T: TypedMessage>(message: &T) -> Result<Bytes, SendError> {
    // A type that is large in memory is probably large on the wire.
    if size_of::<T>() > SMALL {
        return large(message);
    }
    let mut small = [0; SMALL];
    match postcard::to_slice(message, &mut small) {
        Ok(written) => Ok(Bytes::copy_from_slice(written)),
        Err(postcard::Error::SerializeBufferFull) => large(message),
        Err(error) => Err(unwritable::<T>(&error)),
    }
}

#[inline(never)]
fn large<T: TypedMessage>(message: &T) -> Result<Bytes, SendError> {
    let buffer = Vec::with_capacity((4 * SMALL).max(size_of::<T>()));
    postcard::to_extend(message, buffer).map(shrink).map_err(|error| unwritable::<T>(&error))
}

#[inline(never)]
fn text<T: TypedMessage>(message: &T, name: &str) -> Result<ByteString, SendError> {
    let mut buffer = Vec::with_capacity(SMALL);
    json::write(&mut buffer, name, message).map_err(|error| unwritable::<T>(&error))?;
    ByteString::try_from(shrink(buffer)).map_err(|error| unwritable::<T>(&error))
}

/// Drops spare capacity where a copy is cheap.
fn shrink(written: Vec<u8>) -> Bytes {
    if written.len() > COPIED { Bytes::from(written) } else { Bytes::copy_from_slice(&written) }
}

#[cold]
fn unwritable<T>(error: &dyn Display) -> SendError {
    tracing::debug!("{} cannot be written: {error}", type_name::<T>());
    SendError::NotSerializable(type_name::<T>())
}
