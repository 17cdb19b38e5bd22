//! Handshake and resumption packets, which authenticate both sides.
//!
//! ```text
//! packet    = 0x00  kind  …            the leading 0 is a packet number that no other packet has
//! hello     = 1  version  nonce[16]  spake[33]  limits  game  metadata            client → host
//! challenge = 2  nonce[16]  id[16]  host-nonce[16]  spake[33]                     host → client
//! proof     = 3  id[16]  mac[32]                                                  client → host
//! pending   = 4  id[16]                        the game decides                   host → client
//! welcome   = 5  id[16]  limits  metadata  mac[32]                                host → client
//! refusal   = 6  reason                        without a MAC: valid only while joining                host → client
//! resume    = 7  id[16]  counter  nonce[16]  ack  mac[32]                         client → host
//! resume-challenge = 8  id[16]  counter  nonce[16]  mac[32]   resume with this nonce                  host → client
//! resumed   = 9  id[16]  counter  ack  mac[32]                                    host → client
//! gone      = 10 id[16]  counter  reason  mac[32]         counter: that of the resumption, or 0       host → client
//! unknown   = 11 id[16]  counter  nonce[16]    without a MAC: the host does not know the connection   host → client
//! limits    = max-message  receive-buffer  timeout  resume-timeout  paths
//!                                      the timeouts in milliseconds; paths: 0 automatic, 1 relay only, 2 direct only
//! game, metadata = length  bytes       game: the bytes of `GameId`, at most 1 KiB; metadata: at most 4 KiB
//! ```
//!
//! A MAC is HMAC-SHA256 over everything before it, under the key from SPAKE2.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Ack, reason,
    wire::{FrameError, Reader, put_bytes, put_varint},
};
use crate::protocol::{EndReason, GameId, NATIVE_VERSION, PathPolicy, game::MAX_GAME};

/// The largest metadata of either side, in bytes.
pub const MAX_METADATA: usize = 4096;
/// The length of the MAC at the end of a sealed packet, in bytes.
pub(crate) const MAC: usize = 32;

/// Identifies a connection for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub [u8; 16]);

impl std::fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The kind of a packet from an unknown sender, which a host reads without any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeKind {
    /// A new client.
    Hello,
    /// A client that resumes this connection.
    Resume(ConnectionId),
    /// A packet of a known connection, or an invalid one.
    Other,
}

impl HandshakeKind {
    /// Reads the kind from the first bytes of a packet.
    pub fn peek(packet: &[u8]) -> Self {
        match packet {
            [0, HELLO, ..] => HandshakeKind::Hello,
            [0, RESUME, rest @ ..] => match rest.first_chunk() {
                Some(id) => HandshakeKind::Resume(ConnectionId(*id)),
                None => HandshakeKind::Other,
            },
            _ => HandshakeKind::Other,
        }
    }
}

/// Returns the answer to a hello that a host refuses without keeping state, for instance because it is full.
#[must_use]
pub fn refusal(reason: &EndReason) -> Bytes {
    let mut out = start(REFUSAL);
    reason::put(&mut out, reason);
    out.freeze()
}

/// Returns a host's answer to a resumption of a connection that it does not know. `None` if the packet is not a
/// resumption.
#[must_use]
pub fn unknown(packet: &Bytes) -> Option<Bytes> {
    let Ok(HandshakePacket::Resume { id, counter, nonce, .. }) = HandshakePacket::read(packet) else { return None };
    let mut out = with_id(UNKNOWN, id);
    put_varint(&mut out, counter);
    out.put_slice(&nonce);
    Some(out.freeze())
}

const HELLO: u8 = 1;
const CHALLENGE: u8 = 2;
const PROOF: u8 = 3;
const PENDING: u8 = 4;
const WELCOME: u8 = 5;
const REFUSAL: u8 = 6;
const RESUME: u8 = 7;
const RESUME_CHALLENGE: u8 = 8;
const RESUMED: u8 = 9;
const GONE: u8 = 10;
const UNKNOWN: u8 = 11;

/// The limits of one side, for the other to respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_message: u64,
    pub(crate) receive_buffer: u64,
    /// How long silence lasts before it interrupts, in milliseconds.
    pub(crate) timeout: u64,
    /// How long an interruption lasts before it ends the connection, in milliseconds.
    pub(crate) resume_timeout: u64,
    pub(crate) paths: PathPolicy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: [u8; 16],
    pub(crate) spake: [u8; 33],
    pub(crate) limits: Limits,
    pub(crate) game: GameId,
    pub(crate) metadata: Bytes,
}

/// A handshake or resumption packet. Reading it does not verify its MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandshakePacket<'a> {
    Hello(Hello),
    Challenge { nonce: [u8; 16], id: ConnectionId, host_nonce: [u8; 16], spake: [u8; 33] },
    Proof { id: ConnectionId },
    Pending { id: ConnectionId },
    Welcome { id: ConnectionId, limits: Limits, metadata: Bytes },
    Refusal { reason: EndReason },
    Resume { id: ConnectionId, counter: u64, nonce: [u8; 16], ack: Ack<'a> },
    ResumeChallenge { id: ConnectionId, counter: u64, nonce: [u8; 16] },
    Resumed { id: ConnectionId, counter: u64, ack: Ack<'a> },
    Gone { id: ConnectionId, counter: u64, reason: EndReason },
    Unknown { id: ConnectionId, counter: u64, nonce: [u8; 16] },
}

fn start(kind: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(160);
    out.put_u8(0);
    out.put_u8(kind);
    out
}

fn put_limits(out: &mut BytesMut, limits: Limits) {
    put_varint(out, limits.max_message);
    put_varint(out, limits.receive_buffer);
    put_varint(out, limits.timeout);
    put_varint(out, limits.resume_timeout);
    out.put_u8(limits.paths.code());
}

impl Hello {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = start(HELLO);
        put_varint(&mut out, u64::from(NATIVE_VERSION));
        out.put_slice(&self.nonce);
        out.put_slice(&self.spake);
        put_limits(&mut out, self.limits);
        put_bytes(&mut out, self.game.as_bytes());
        put_bytes(&mut out, &self.metadata);
        out.freeze()
    }

    /// Reads what follows the kind. The game and the metadata are slices of the packet.
    fn read(reader: &mut Reader<'_>, packet: &Bytes) -> Result<Self, FrameError> {
        let version = reader.varint()?;
        if version != u64::from(NATIVE_VERSION) {
            return Err(FrameError::Version(version));
        }
        Ok(Self {
            nonce: reader.array()?,
            spake: reader.array()?,
            limits: read_limits(reader)?,
            game: GameId::from_wire(packet.slice_ref(reader.bounded(MAX_GAME, "game")?)),
            metadata: read_metadata(reader, packet)?,
        })
    }
}

pub(crate) fn challenge(nonce: &[u8; 16], id: ConnectionId, host_nonce: &[u8; 16], spake: &[u8; 33]) -> Bytes {
    let mut out = start(CHALLENGE);
    out.put_slice(nonce);
    out.put_slice(&id.0);
    out.put_slice(host_nonce);
    out.put_slice(spake);
    out.freeze()
}

fn with_id(kind: u8, id: ConnectionId) -> BytesMut {
    let mut out = start(kind);
    out.put_slice(&id.0);
    out
}

/// Returns the packet without its MAC, like the other functions that return a buffer.
pub(crate) fn proof(id: ConnectionId) -> BytesMut {
    with_id(PROOF, id)
}

pub(crate) fn pending(id: ConnectionId) -> Bytes {
    with_id(PENDING, id).freeze()
}

pub(crate) fn welcome(id: ConnectionId, limits: Limits, metadata: &[u8]) -> BytesMut {
    let mut out = with_id(WELCOME, id);
    put_limits(&mut out, limits);
    put_bytes(&mut out, metadata);
    out
}

/// The acknowledgement is still to be appended.
pub(crate) fn resume(id: ConnectionId, counter: u64, nonce: &[u8; 16]) -> BytesMut {
    let mut out = with_id(RESUME, id);
    put_varint(&mut out, counter);
    out.put_slice(nonce);
    out
}

pub(crate) fn resume_challenge(id: ConnectionId, counter: u64, nonce: &[u8; 16]) -> BytesMut {
    let mut out = with_id(RESUME_CHALLENGE, id);
    put_varint(&mut out, counter);
    out.put_slice(nonce);
    out
}

/// The acknowledgement is still to be appended.
pub(crate) fn resumed(id: ConnectionId, counter: u64) -> BytesMut {
    let mut out = with_id(RESUMED, id);
    put_varint(&mut out, counter);
    out
}

/// The counter of a [`gone`] that answers no resumption.
pub(crate) const UNASKED: u64 = 0;

pub(crate) fn gone(id: ConnectionId, counter: u64, reason: &EndReason) -> BytesMut {
    let mut out = with_id(GONE, id);
    put_varint(&mut out, counter);
    reason::put(&mut out, reason);
    out
}

impl<'a> HandshakePacket<'a> {
    pub(crate) fn read(packet: &'a Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(packet);
        if reader.u8()? != 0 {
            return Err(FrameError::Invalid("packet number"));
        }
        let kind = reader.u8()?;
        let message = match kind {
            HELLO => HandshakePacket::Hello(Hello::read(&mut reader, packet)?),
            CHALLENGE => HandshakePacket::Challenge {
                nonce: reader.array()?,
                id: ConnectionId(reader.array()?),
                host_nonce: reader.array()?,
                spake: reader.array()?,
            },
            REFUSAL => HandshakePacket::Refusal { reason: reason::read(&mut reader)? },
            PENDING => HandshakePacket::Pending { id: ConnectionId(reader.array()?) },
            UNKNOWN => HandshakePacket::Unknown {
                id: ConnectionId(reader.array()?),
                counter: reader.varint()?,
                nonce: reader.array()?,
            },
            kind => Self::read_sealed(kind, &mut reader, packet)?,
        };
        // A MAC covers the whole packet, so nothing may follow it.
        if reader.is_empty() { Ok(message) } else { Err(FrameError::Invalid("length")) }
    }

    /// Reads a packet that ends with a MAC.
    fn read_sealed(kind: u8, reader: &mut Reader<'a>, packet: &Bytes) -> Result<Self, FrameError> {
        let id = ConnectionId(reader.array()?);
        let message = match kind {
            PROOF => HandshakePacket::Proof { id },
            WELCOME => {
                let (limits, metadata) = (read_limits(reader)?, read_metadata(reader, packet)?);
                HandshakePacket::Welcome { id, limits, metadata }
            }
            RESUME => {
                let (counter, nonce, ack) = (reader.varint()?, reader.array()?, Ack::read(reader)?);
                HandshakePacket::Resume { id, counter, nonce, ack }
            }
            RESUME_CHALLENGE => {
                HandshakePacket::ResumeChallenge { id, counter: reader.varint()?, nonce: reader.array()? }
            }
            RESUMED => HandshakePacket::Resumed { id, counter: reader.varint()?, ack: Ack::read(reader)? },
            GONE => HandshakePacket::Gone { id, counter: reader.varint()?, reason: reason::read(reader)? },
            kind => return Err(FrameError::UnknownKind(kind)),
        };
        reader.bytes(MAC)?;
        Ok(message)
    }
}

fn read_limits(reader: &mut Reader<'_>) -> Result<Limits, FrameError> {
    let (max_message, receive_buffer) = (reader.varint()?, reader.varint()?);
    let (timeout, resume_timeout) = (reader.varint()?, reader.varint()?);
    let paths = PathPolicy::from_code(reader.u8()?).ok_or(FrameError::Invalid("path policy"))?;
    Ok(Limits { max_message, receive_buffer, timeout, resume_timeout, paths })
}

fn read_metadata(reader: &mut Reader<'_>, packet: &Bytes) -> Result<Bytes, FrameError> {
    let bytes = reader.bounded(MAX_METADATA, "length of metadata")?;
    Ok(packet.slice_ref(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let limits = Limits {
            max_message: 1 << 24,
            receive_buffer: 1 << 25,
            timeout: 5000,
            resume_timeout: 30_000,
            paths: PathPolicy::DirectOnly,
        };
        let game = GameId::new(Some("0.3"), ["Chat"]);
        Hello { nonce: [1; 16], spake: [2; 33], limits, game, metadata: "me".into() }
    }

    #[test]
    fn peek_reads_the_kind_of_a_packet() {
        let id = ConnectionId([9; 16]);
        assert_eq!(HandshakeKind::peek(&hello().encode()), HandshakeKind::Hello);
        assert_eq!(HandshakeKind::peek(&resume(id, 1, &[0; 16])), HandshakeKind::Resume(id));
        for other in [&[][..], &[0], &[0, 7, 1], &[1, 1, 1], &refusal(&EndReason::Full), &proof(id)] {
            assert_eq!(HandshakeKind::peek(other), HandshakeKind::Other);
        }
    }

    #[test]
    fn hellos_survive_the_wire() {
        assert_eq!(HandshakePacket::read(&hello().encode()), Ok(HandshakePacket::Hello(hello())));
        let refused = HandshakePacket::Refusal { reason: EndReason::Full };
        assert_eq!(HandshakePacket::read(&refusal(&EndReason::Full)), Ok(refused));
    }

    #[test]
    fn another_version_is_named() {
        let mut packet = BytesMut::from(&hello().encode()[..]);
        packet[2] = 2;
        assert_eq!(HandshakePacket::read(&packet.freeze()), Err(FrameError::Version(2)));
    }

    #[test]
    fn nothing_may_follow_a_mac() {
        let mut packet = proof(ConnectionId([9; 16]));
        packet.put_slice(&[0; MAC]);
        assert!(HandshakePacket::read(&packet.clone().freeze()).is_ok());
        packet.put_u8(0);
        assert!(HandshakePacket::read(&packet.freeze()).is_err());
    }

    #[test]
    fn unknown_names_the_request_it_answers() {
        let id = ConnectionId([9; 16]);
        let mut request = resume(id, 7, &[3; 16]);
        super::super::put_ack(&mut request, 0, [0; 2], [(0, &[]), (0, &[]), (0, &[])]);
        request.put_slice(&[0; MAC]);
        let answer = unknown(&request.freeze()).unwrap();
        assert_eq!(HandshakePacket::read(&answer), Ok(HandshakePacket::Unknown { id, counter: 7, nonce: [3; 16] }));
        assert_eq!(unknown(&answer), None);
    }

    #[test]
    fn metadata_is_bounded() {
        let packet = Hello { metadata: Bytes::from(vec![0; MAX_METADATA + 1]), ..hello() }.encode();
        assert_eq!(HandshakePacket::read(&packet), Err(FrameError::Invalid("length of metadata")));
    }

    #[test]
    fn a_game_is_bounded() {
        let game = GameId::from_wire(Bytes::from(vec![0; MAX_GAME + 1]));
        let packet = Hello { game, ..hello() }.encode();
        assert_eq!(HandshakePacket::read(&packet), Err(FrameError::Invalid("game")));
    }
}
