//! Handshake and resumption packets, which authenticate both sides.
//!
//! ```text
//! packet    = 0x00  kind  …            the leading 0 is a packet number that no other packet has
//! hello     = 1  version  noise[81]              message 1, with spake[33]                             client → host
//! challenge = 2  noise[129]                      message 2, with spake[33]                             host → client
//! proof     = 3  id[16]  sealed{ noise }         message 3, with the joiner; early key                 client → host
//! pending   = 4  id[16]  sealed{ }               the game decides                                      host → client
//! welcome   = 5  id[16]  sealed{ limits  metadata }                                                    host → client
//! refusal   = 6  reason                          not sealed: valid only before the proof               host → client
//! resume    = 7  id[16]  counter  nonce[16]  sealed{ ack }                                             client → host
//! resume-challenge = 8  id[16]  counter  nonce[16]  sealed{ }   resume with this nonce                 host → client
//! resumed   = 9  id[16]  counter  sealed{ ack }                                                        host → client
//! gone      = 10 id[16]  counter  sealed{ reason }      counter: that of the resumption, or 0          host → client
//! unknown   = 11 id[16]  counter  nonce[16]      not sealed: the host does not know the connection     host → client
//! refused   = 12 id[16]  sealed{ reason }        the early key if the password was not proved          host → client
//! leave     = 13 id[16]  sealed{ reason }        the client gives up; early key                        client → host
//!
//! sealed    = nonce[24]  ciphertext  tag[16]     the contents, and everything before is authenticated
//! joiner    = limits  game  metadata             the payload of message 3
//! limits    = max-message  receive-buffer  timeout  resume-timeout  paths
//!                                      the timeouts in milliseconds; paths: 0 automatic, 1 relay only, 2 direct only
//! game, metadata = length  bytes       game: the bytes of `GameId`, at most 1 KiB; metadata: at most 4 KiB
//! ```
//!
//! The messages are those of Noise. `docs/protocol.md` has the whole exchange.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    reason,
    wire::{FrameError, Reader, put_bytes, put_varint},
};
use crate::protocol::{EndReason, GameId, NATIVE_VERSION, PathPolicy, game::MAX_GAME};

/// The largest metadata of either side, in bytes.
pub const MAX_METADATA: usize = 4096;
/// The lengths of the nonce before the sealed contents, of the tag behind them, and of both, in bytes.
pub(crate) const NONCE: usize = 24;
pub(crate) const TAG: usize = 16;
pub(crate) const SEAL: usize = NONCE + TAG;
/// The length of a message of the PAKE, in bytes.
pub(crate) const SPAKE: usize = 33;
/// The length of the first message of Noise: a key, and the payload with its tag.
const NOISE_1: usize = 32 + SPAKE + TAG;
/// The length of the second message: a key, a sealed one, and the payload with its tag.
const NOISE_2: usize = 32 + 32 + TAG + SPAKE + TAG;

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
    /// A client that has answered the challenge of this connection.
    Proof(ConnectionId),
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
            [0, kind @ (PROOF | RESUME), rest @ ..] => match rest.first_chunk() {
                Some(id) if *kind == PROOF => HandshakeKind::Proof(ConnectionId(*id)),
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
const REFUSED: u8 = 12;
const LEAVE: u8 = 13;

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

/// The sealed part of a packet, and what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed<'a> {
    pub(crate) header: &'a [u8],
    /// The nonce, the ciphertext and the tag.
    pub(crate) bytes: &'a [u8],
}

/// A handshake or resumption packet. Reading it opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandshakePacket<'a> {
    Hello { noise: &'a [u8] },
    Challenge { noise: &'a [u8] },
    Proof { id: ConnectionId, sealed: Sealed<'a> },
    Pending { id: ConnectionId, sealed: Sealed<'a> },
    Welcome { id: ConnectionId, sealed: Sealed<'a> },
    Refusal { reason: EndReason },
    Resume { id: ConnectionId, counter: u64, nonce: [u8; 16], sealed: Sealed<'a> },
    ResumeChallenge { id: ConnectionId, counter: u64, nonce: [u8; 16], sealed: Sealed<'a> },
    Resumed { id: ConnectionId, counter: u64, sealed: Sealed<'a> },
    Gone { id: ConnectionId, counter: u64, sealed: Sealed<'a> },
    Unknown { id: ConnectionId, counter: u64, nonce: [u8; 16] },
    Refused { id: ConnectionId, sealed: Sealed<'a> },
    Leave { id: ConnectionId, sealed: Sealed<'a> },
}

/// What a host learns of a joiner that knows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joiner {
    pub(crate) limits: Limits,
    pub(crate) game: GameId,
    pub(crate) metadata: Bytes,
}

/// What a client learns of the host that admits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) limits: Limits,
    pub(crate) metadata: Bytes,
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

impl Joiner {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.metadata.len());
        put_limits(&mut out, self.limits);
        put_bytes(&mut out, self.game.as_bytes());
        put_bytes(&mut out, &self.metadata);
        out.freeze()
    }

    /// Reads the contents of a message. The game and the metadata are slices of them.
    pub(crate) fn read(contents: &Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(contents);
        let joiner = Self {
            limits: read_limits(&mut reader)?,
            game: GameId::from_wire(contents.slice_ref(reader.bounded(MAX_GAME, "game")?)),
            metadata: read_metadata(&mut reader, contents)?,
        };
        reader.finish().map(|()| joiner)
    }
}

impl Welcome {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.metadata.len());
        put_limits(&mut out, self.limits);
        put_bytes(&mut out, &self.metadata);
        out.freeze()
    }

    /// Reads the contents of a packet. The metadata are a slice of them.
    pub(crate) fn read(contents: &Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(contents);
        let welcome = Self { limits: read_limits(&mut reader)?, metadata: read_metadata(&mut reader, contents)? };
        reader.finish().map(|()| welcome)
    }
}

pub(crate) fn hello(noise: &[u8]) -> Bytes {
    let mut out = start(HELLO);
    put_varint(&mut out, u64::from(NATIVE_VERSION));
    out.put_slice(noise);
    out.freeze()
}

pub(crate) fn challenge(noise: &[u8]) -> Bytes {
    let mut out = start(CHALLENGE);
    out.put_slice(noise);
    out.freeze()
}

fn with_id(kind: u8, id: ConnectionId) -> BytesMut {
    let mut out = start(kind);
    out.put_slice(&id.0);
    out
}

/// Returns the header of the packet, like the other functions that return a buffer. What is to be sealed follows.
pub(crate) fn proof(id: ConnectionId) -> BytesMut {
    with_id(PROOF, id)
}

pub(crate) fn pending(id: ConnectionId) -> BytesMut {
    with_id(PENDING, id)
}

pub(crate) fn welcome(id: ConnectionId) -> BytesMut {
    with_id(WELCOME, id)
}

pub(crate) fn refused(id: ConnectionId) -> BytesMut {
    with_id(REFUSED, id)
}

pub(crate) fn leave(id: ConnectionId) -> BytesMut {
    with_id(LEAVE, id)
}

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

pub(crate) fn resumed(id: ConnectionId, counter: u64) -> BytesMut {
    let mut out = with_id(RESUMED, id);
    put_varint(&mut out, counter);
    out
}

/// The counter of a [`gone`] that answers no resumption.
pub(crate) const UNASKED: u64 = 0;

pub(crate) fn gone(id: ConnectionId, counter: u64) -> BytesMut {
    let mut out = with_id(GONE, id);
    put_varint(&mut out, counter);
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
            HELLO => {
                let version = reader.varint()?;
                if version != u64::from(NATIVE_VERSION) {
                    return Err(FrameError::Version(version));
                }
                HandshakePacket::Hello { noise: reader.bytes(NOISE_1)? }
            }
            CHALLENGE => HandshakePacket::Challenge { noise: reader.bytes(NOISE_2)? },
            REFUSAL => HandshakePacket::Refusal { reason: reason::read(&mut reader)? },
            UNKNOWN => HandshakePacket::Unknown {
                id: ConnectionId(reader.array()?),
                counter: reader.varint()?,
                nonce: reader.array()?,
            },
            kind => return Self::read_sealed(kind, reader),
        };
        reader.finish().map(|()| message)
    }

    /// Reads a packet with a sealed part, which is all that follows its header.
    fn read_sealed(kind: u8, mut reader: Reader<'a>) -> Result<Self, FrameError> {
        let id = ConnectionId(reader.array()?);
        Ok(match kind {
            PROOF => HandshakePacket::Proof { id, sealed: sealed(reader)? },
            PENDING => HandshakePacket::Pending { id, sealed: sealed(reader)? },
            WELCOME => HandshakePacket::Welcome { id, sealed: sealed(reader)? },
            REFUSED => HandshakePacket::Refused { id, sealed: sealed(reader)? },
            LEAVE => HandshakePacket::Leave { id, sealed: sealed(reader)? },
            RESUME => {
                let (counter, nonce) = (reader.varint()?, reader.array()?);
                HandshakePacket::Resume { id, counter, nonce, sealed: sealed(reader)? }
            }
            RESUME_CHALLENGE => {
                let (counter, nonce) = (reader.varint()?, reader.array()?);
                HandshakePacket::ResumeChallenge { id, counter, nonce, sealed: sealed(reader)? }
            }
            RESUMED => HandshakePacket::Resumed { id, counter: reader.varint()?, sealed: sealed(reader)? },
            GONE => HandshakePacket::Gone { id, counter: reader.varint()?, sealed: sealed(reader)? },
            kind => return Err(FrameError::UnknownKind(kind)),
        })
    }
}

fn sealed(reader: Reader<'_>) -> Result<Sealed<'_>, FrameError> {
    let (header, bytes) = reader.split();
    if bytes.len() < SEAL { Err(FrameError::Truncated) } else { Ok(Sealed { header, bytes }) }
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

    fn limits() -> Limits {
        Limits {
            max_message: 1 << 24,
            receive_buffer: 1 << 25,
            timeout: 5000,
            resume_timeout: 30_000,
            paths: PathPolicy::DirectOnly,
        }
    }

    fn joiner() -> Joiner {
        Joiner { limits: limits(), game: GameId::new(Some("0.3"), ["Chat"]), metadata: "me".into() }
    }

    #[test]
    fn peek_reads_the_kind_of_a_packet() {
        let id = ConnectionId([9; 16]);
        assert_eq!(HandshakeKind::peek(&hello(&[3; NOISE_1])), HandshakeKind::Hello);
        assert_eq!(HandshakeKind::peek(&resume(id, 1, &[0; 16])), HandshakeKind::Resume(id));
        assert_eq!(HandshakeKind::peek(&proof(id)), HandshakeKind::Proof(id));
        for other in [&[][..], &[0], &[0, 3, 1], &[0, 7, 1], &[1, 1, 1], &refusal(&EndReason::Full), &welcome(id)] {
            assert_eq!(HandshakeKind::peek(other), HandshakeKind::Other);
        }
    }

    #[test]
    fn packets_survive_the_wire() {
        let packet = hello(&[3; NOISE_1]);
        assert_eq!(HandshakePacket::read(&packet), Ok(HandshakePacket::Hello { noise: &[3; NOISE_1] }));
        let packet = challenge(&[3; NOISE_2]);
        assert_eq!(HandshakePacket::read(&packet), Ok(HandshakePacket::Challenge { noise: &[3; NOISE_2] }));
        let refused = HandshakePacket::Refusal { reason: EndReason::Full };
        assert_eq!(HandshakePacket::read(&refusal(&EndReason::Full)), Ok(refused));
        assert_eq!(Joiner::read(&joiner().encode()), Ok(joiner()));
        let welcome = Welcome { limits: limits(), metadata: "me".into() };
        assert_eq!(Welcome::read(&welcome.encode()), Ok(welcome));
    }

    #[test]
    fn another_version_is_named() {
        let mut packet = BytesMut::from(&hello(&[3; NOISE_1])[..]);
        packet[2] = 1;
        assert_eq!(HandshakePacket::read(&packet.freeze()), Err(FrameError::Version(1)));
    }

    #[test]
    fn nothing_may_follow_a_message_and_a_seal_has_its_length() {
        for packet in [hello(&[3; NOISE_1]), challenge(&[3; NOISE_2]), refusal(&EndReason::Full)] {
            let longer = Bytes::from([&packet[..], &[0]].concat());
            assert!(HandshakePacket::read(&packet).is_ok() && HandshakePacket::read(&longer).is_err());
        }
        let mut packet = proof(ConnectionId([9; 16]));
        packet.put_slice(&[0; SEAL - 1]);
        assert_eq!(HandshakePacket::read(&packet.clone().freeze()), Err(FrameError::Truncated));
        packet.put_u8(0);
        assert!(HandshakePacket::read(&packet.freeze()).is_ok());
    }

    #[test]
    fn unknown_names_the_request_it_answers() {
        let id = ConnectionId([9; 16]);
        let mut request = resume(id, 7, &[3; 16]);
        request.put_slice(&[0; SEAL]);
        let answer = unknown(&request.freeze()).unwrap();
        assert_eq!(HandshakePacket::read(&answer), Ok(HandshakePacket::Unknown { id, counter: 7, nonce: [3; 16] }));
        assert_eq!(unknown(&answer), None);
    }

    #[test]
    fn metadata_is_bounded() {
        let joiner = Joiner { metadata: Bytes::from(vec![0; MAX_METADATA + 1]), ..joiner() };
        assert_eq!(Joiner::read(&joiner.encode()), Err(FrameError::Invalid("length of metadata")));
        let welcome = Welcome { limits: limits(), metadata: joiner.metadata };
        assert_eq!(Welcome::read(&welcome.encode()), Err(FrameError::Invalid("length of metadata")));
    }

    #[test]
    fn a_game_is_bounded() {
        let game = GameId::from_wire(Bytes::from(vec![0; MAX_GAME + 1]));
        assert_eq!(Joiner::read(&Joiner { game, ..joiner() }.encode()), Err(FrameError::Invalid("game")));
    }
}
