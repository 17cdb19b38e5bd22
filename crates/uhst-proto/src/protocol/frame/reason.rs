//! Encoding of end reasons: a code and a bounded text.

use bytes::BytesMut;

use super::wire::{FrameError, Reader, put_bytes, put_varint, varint_len};
use crate::protocol::EndReason;

/// The largest text in bytes. Longer ones are cut between characters.
const MAX_TEXT: usize = 256;

fn code_and_text(reason: &EndReason) -> (u64, &str) {
    match reason {
        // See `EndReason::seen_by_peer`.
        EndReason::Left | EndReason::EndedLocally | EndReason::NotStarted(_) => (0, ""),
        EndReason::Kicked(text) => (1, text),
        EndReason::Refused(text) => (2, text),
        EndReason::Full => (3, ""),
        EndReason::WrongPassword => (4, ""),
        EndReason::TimedOut => (5, ""),
        EndReason::RelayUnreachable(text) => (6, text),
        EndReason::HostIdInUse => (7, ""),
        EndReason::NoSuchHost => (8, ""),
        EndReason::ProtocolError(text) => (9, text),
        EndReason::TooMuchData => (10, ""),
        EndReason::GameMismatch(text) => (11, text),
        EndReason::NoDirectPath(text) => (12, text),
        EndReason::Replaced => (13, ""),
        EndReason::HostRestarted => (14, ""),
        EndReason::TooSlow => (15, ""),
        EndReason::WrongHostKey => (16, ""),
        EndReason::Rejoined => (17, ""),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

pub(super) fn len(reason: &EndReason) -> usize {
    let (code, text) = code_and_text(reason);
    let text = cut(text).len();
    varint_len(code) + varint_len(text as u64) + text
}

pub(super) fn put(out: &mut BytesMut, reason: &EndReason) {
    let (code, text) = code_and_text(reason);
    put_varint(out, code);
    put_bytes(out, cut(text).as_bytes());
}

/// Returns the encoding of a reason alone.
pub(crate) fn reason_bytes(reason: &EndReason) -> BytesMut {
    let mut out = BytesMut::with_capacity(len(reason));
    put(&mut out, reason);
    out
}

/// Reads a reason that stands alone.
pub(crate) fn read_reason(bytes: &[u8]) -> Result<EndReason, FrameError> {
    let mut reader = Reader::new(bytes);
    let reason = read(&mut reader)?;
    reader.finish().map(|()| reason)
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<EndReason, FrameError> {
    let code = reader.varint()?;
    let text = reader.bounded(MAX_TEXT, "text of a reason")?;
    // Games may print the text on a terminal.
    let text = || String::from_utf8_lossy(text).replace(char::is_control, " ");
    Ok(match code {
        0 => EndReason::Left,
        1 => EndReason::Kicked(text()),
        2 => EndReason::Refused(text()),
        3 => EndReason::Full,
        4 => EndReason::WrongPassword,
        5 => EndReason::TimedOut,
        6 => EndReason::RelayUnreachable(text()),
        7 => EndReason::HostIdInUse,
        8 => EndReason::NoSuchHost,
        9 => EndReason::ProtocolError(text()),
        10 => EndReason::TooMuchData,
        11 => EndReason::GameMismatch(text()),
        12 => EndReason::NoDirectPath(text()),
        13 => EndReason::Replaced,
        14 => EndReason::HostRestarted,
        15 => EndReason::TooSlow,
        16 => EndReason::WrongHostKey,
        17 => EndReason::Rejoined,
        // A newer peer may send unknown reasons. Their text is still useful.
        code => EndReason::ProtocolError(format!("ended for the unknown reason {code}: {}", text())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_the_wire() {
        for reason in [
            EndReason::Left,
            EndReason::Kicked("too loud".into()),
            EndReason::Refused("level 10 only".into()),
            EndReason::Full,
            EndReason::WrongPassword,
            EndReason::TimedOut,
            EndReason::RelayUnreachable("no route".into()),
            EndReason::HostIdInUse,
            EndReason::NoSuchHost,
            EndReason::ProtocolError("?".into()),
            EndReason::TooMuchData,
            EndReason::GameMismatch("the host has “2”, the joiner has “1”".into()),
            EndReason::NoDirectPath("a wall".into()),
            EndReason::Replaced,
            EndReason::HostRestarted,
            EndReason::TooSlow,
            EndReason::WrongHostKey,
        ] {
            let mut out = BytesMut::new();
            put(&mut out, &reason);
            assert_eq!(out.len(), len(&reason));
            assert_eq!(read(&mut Reader::new(&out)), Ok(reason));
        }
    }

    #[test]
    fn the_peer_sees_a_local_end_as_left() {
        for reason in [EndReason::EndedLocally, EndReason::NotStarted("no thread".into())] {
            let mut out = BytesMut::new();
            put(&mut out, &reason);
            assert_eq!(read(&mut Reader::new(&out)), Ok(reason.seen_by_peer()));
            assert_eq!(reason.seen_by_peer(), EndReason::Left);
        }
    }

    #[test]
    fn control_characters_of_a_reason_are_replaced() {
        let mut out = BytesMut::new();
        put(&mut out, &EndReason::Kicked("\u{1b}[2J\u{9b}31m\r\nbye".into()));
        assert_eq!(read(&mut Reader::new(&out)), Ok(EndReason::Kicked(" [2J 31m  bye".into())));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = BytesMut::new();
        put(&mut out, &EndReason::Kicked("ä".repeat(400)));
        assert_eq!(read(&mut Reader::new(&out)), Ok(EndReason::Kicked("ä".repeat(128))));
    }
}
