//! The identity of a game, which must be the same on both sides of a session.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::EndReason;

/// The largest encoding in bytes.
pub(crate) const MAX_GAME: usize = 1024;
/// The bytes of the version, or of one name, that are shown.
const MAX_SHOWN: usize = 48;
const DIGEST: usize = 16;
const MARK: usize = 4;
/// The names of each side that a mismatch lists at most.
const NAMED: usize = 4;

/// Identifies a game and its version: a digest of the registered messages and of the version string. A joiner sends it
/// with its hello, and it must equal the host's. The default is the id of a game without a version and without
/// registered messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GameId {
    /// Empty, or the digest followed by what a mismatch shows: the length of the version and the version; then for each
    /// message, while there is room, a short hash of its description, the length of its name, and the name.
    bytes: Bytes,
}

/// A message as a mismatch shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown<'a> {
    mark: &'a [u8],
    name: &'a [u8],
}

impl GameId {
    /// Creates an id from the version and the description of each message. The order of the messages must not depend on
    /// the build. The first line of a description is the name of the message.
    pub fn new<'a>(version: Option<&'a str>, messages: impl IntoIterator<Item = &'a str>) -> Self {
        let (version, mut messages) = (version.unwrap_or_default(), messages.into_iter().peekable());
        if version.is_empty() && messages.peek().is_none() {
            return Self::default();
        }
        let mut digest = Sha256::new();
        let mut bytes = BytesMut::with_capacity(MAX_SHOWN);
        bytes.put_bytes(0, DIGEST);
        put_shown(&mut bytes, version);
        for part in
            std::iter::once(version).chain(messages.by_ref().inspect(|message| put_message(&mut bytes, message)))
        {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        bytes[..DIGEST].copy_from_slice(&digest.finalize()[..DIGEST]);
        GameId { bytes: bytes.freeze() }
    }

    pub(crate) fn from_wire(bytes: Bytes) -> Self {
        GameId { bytes }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns why a joiner with this id cannot join a host with that one, if it cannot.
    pub(crate) fn mismatch(&self, host: &Self) -> Option<EndReason> {
        if self == host {
            return None;
        }
        let (of_host, of_joiner) = (host.shown_version(), self.shown_version());
        let versions = (of_host != of_joiner).then(|| format!("the host has {of_host}, the joiner has {of_joiner}"));
        let differing: Vec<String> = self.differing_messages(host).collect();
        let mut text = versions.unwrap_or_default();
        if text.is_empty() {
            text.push_str("the messages that the host and the joiner have registered are not the same");
        }
        if !differing.is_empty() {
            text = format!("{text}: {}", differing.join("; "));
        }
        Some(EndReason::GameMismatch(text))
    }

    /// Lists the messages that only one side has, or that differ.
    fn differing_messages(&self, host: &Self) -> impl Iterator<Item = String> {
        let (of_host, of_joiner): (Vec<_>, Vec<_>) = (host.messages().collect(), self.messages().collect());
        let lacks = |all: &[Shown], name: &[u8]| !all.iter().any(|message| message.name == name);
        let only = |of: &[Shown], others: &[Shown]| list(of.iter().filter(|message| lacks(others, message.name)));
        let differs = |message: &&Shown| !lacks(&of_joiner, message.name) && !of_joiner.contains(message);
        let parts = [
            ("the host alone has", only(&of_host, &of_joiner)),
            ("the joiner alone has", only(&of_joiner, &of_host)),
            ("on another channel, or in another encoding:", list(of_host.iter().filter(differs))),
        ];
        parts.into_iter().filter_map(|(what, names)| Some(format!("{what} {}", names?)))
    }

    fn shown_version(&self) -> String {
        match self.bytes.get(DIGEST..).and_then(take_shown) {
            None | Some(([], _)) => "none".to_owned(),
            Some((version, _)) => format!("“{}”", readable(version)),
        }
    }

    /// The messages that had room. The bytes come from an unknown peer and may be anything.
    fn messages(&self) -> impl Iterator<Item = Shown<'_>> {
        let mut rest = self.bytes.get(DIGEST..).and_then(take_shown).map_or(&[][..], |(_, rest)| rest);
        std::iter::from_fn(move || {
            let (mark, after) = rest.split_at_checked(MARK)?;
            let (name, after) = take_shown(after)?;
            rest = after;
            Some(Shown { mark, name })
        })
    }
}

fn put_shown(out: &mut BytesMut, text: &str) {
    let shown = &text[..text.floor_char_boundary(MAX_SHOWN)];
    out.put_u8(shown.len() as u8);
    out.put_slice(shown.as_bytes());
}

fn take_shown(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked((*len).into())
}

fn put_message(out: &mut BytesMut, description: &str) {
    if out.len() + MARK + 1 + MAX_SHOWN <= MAX_GAME {
        out.put_slice(&Sha256::digest(description)[..MARK]);
        put_shown(out, description.lines().next().unwrap_or_default());
    }
}

/// Lists the names of messages, at most [`NAMED`] of them.
fn list<'a>(messages: impl Iterator<Item = &'a Shown<'a>>) -> Option<String> {
    let names: Vec<_> = messages.map(|message| format!("`{}`", readable(message.name))).collect();
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len() - more].join(", ");
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(named),
        (_, more) => Some(format!("{named} and {more} more")),
    }
}

/// Makes text of an unknown peer safe to show.
fn readable(text: &[u8]) -> String {
    let text = &text[..text.len().min(MAX_SHOWN)];
    String::from_utf8_lossy(text).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(host: &GameId, joiner: &GameId) -> String {
        match joiner.mismatch(host) {
            Some(EndReason::GameMismatch(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mismatch_names_the_versions_and_the_messages_that_differ() {
        let host = GameId::new(None, ["Chat\nReliable\nBinary", "Jump\nReliable\nBinary", "Shot\nReliable\nBinary"]);
        let joiner =
            GameId::new(Some("2"), ["Chat\nReliable\nJson", "Fire\nReliable\nBinary", "Shot\nReliable\nBinary"]);
        assert_eq!(host.mismatch(&host), None);
        assert_eq!(
            text(&host, &joiner),
            "the host has none, the joiner has “2”: the host alone has `Jump`; the joiner alone has `Fire`; on \
             another channel, or in another encoding: `Chat`"
        );
        assert_eq!(
            text(&GameId::default(), &joiner),
            "the host has none, the joiner has “2”: the joiner alone has `Chat`, `Fire`, `Shot`"
        );
    }

    #[test]
    fn the_shown_messages_are_bounded_and_the_digest_covers_all() {
        let many: Vec<String> = (0..1000).map(|number| format!("Message{number}\nReliable")).collect();
        let game = |messages: &[String]| GameId::new(None, messages.iter().map(String::as_str));
        let (all, fewer) = (game(&many), game(&many[..999]));
        assert!(all.as_bytes().len() <= MAX_GAME);
        assert_eq!(text(&all, &fewer), "the messages that the host and the joiner have registered are not the same");
        let none = text(&all, &GameId::default());
        assert!(none.contains(": the host alone has `Message0`, `Message1`, `Message2`, `Message3` and "), "{none}");
    }

    #[test]
    fn the_bytes_of_an_unknown_peer_are_not_trusted() {
        let host = GameId::new(Some("1"), ["Chat\nReliable"]);
        for bytes in
            [vec![], vec![0; 3], vec![255; DIGEST + 1], vec![255; MAX_GAME], vec![0; MAX_GAME], vec![7; MAX_GAME]]
        {
            let text = text(&host, &GameId::from_wire(bytes.into()));
            assert!(text.chars().count() < 600 && !text.contains(char::is_control), "{text}");
        }
    }
}
