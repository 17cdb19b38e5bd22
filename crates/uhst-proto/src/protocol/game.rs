//! Which game, in which version: what both sides of a session must have in common.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::EndReason;

/// On the wire, in bytes, at most.
pub(crate) const MAX_GAME: usize = 1024;
/// Of the version and of one name, as much as is shown.
const MAX_SHOWN: usize = 48;
const DIGEST: usize = 16;
const MARK: usize = 4;
/// Names that a mismatch gives of one side, at most.
const NAMED: usize = 4;

/// What a joiner shows its host before anything else, and what must be the host's own: a digest of the messages that a
/// game has registered and of the version it calls itself. The default is that of a game which has done neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GameId {
    /// Empty, or the digest, and what is shown of a mismatch: the length of the version and the version; then of each
    /// message, as long as there is room, a mark of its description, the length of its name and the name.
    bytes: Bytes,
}

/// A message, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown<'a> {
    mark: &'a [u8],
    name: &'a [u8],
}

impl GameId {
    /// From the version, and a description of each message in an order that does not depend on the build. The first line
    /// of a description is the name of the message.
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

    /// Why a joiner with this id cannot play on a host with that one; none if it can.
    pub(crate) fn mismatch(&self, host: &Self) -> Option<EndReason> {
        if self == host {
            return None;
        }
        let (of_host, of_joiner) = (host.shown_version(), self.shown_version());
        let versions = (of_host != of_joiner).then(|| format!("the host has {of_host}, the joiner has {of_joiner}"));
        let differing: Vec<String> = self.differing_messages(host).collect();
        let mut words = versions.unwrap_or_default();
        if words.is_empty() {
            words.push_str("the messages that the host and the joiner have registered are not the same");
        }
        if !differing.is_empty() {
            words = format!("{words}: {}", differing.join("; "));
        }
        Some(EndReason::GameMismatch(words))
    }

    /// In words, which messages one side alone has, or both have in different ways.
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

    /// The messages that found room; from a stranger, they may be anything.
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

/// The names of messages, if there are any; of many, the first.
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

/// Text of a stranger, to be shown.
fn readable(text: &[u8]) -> String {
    let text = &text[..text.len().min(MAX_SHOWN)];
    String::from_utf8_lossy(text).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(host: &GameId, joiner: &GameId) -> String {
        match joiner.mismatch(host) {
            Some(EndReason::GameMismatch(words)) => words,
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
            words(&host, &joiner),
            "the host has none, the joiner has “2”: the host alone has `Jump`; the joiner alone has `Fire`; on \
             another channel, or in another encoding: `Chat`"
        );
        assert_eq!(
            words(&GameId::default(), &joiner),
            "the host has none, the joiner has “2”: the joiner alone has `Chat`, `Fire`, `Shot`"
        );
    }

    #[test]
    fn what_is_shown_is_bounded_and_the_rest_counts() {
        let many: Vec<String> = (0..1000).map(|number| format!("Message{number}\nReliable")).collect();
        let game = |messages: &[String]| GameId::new(None, messages.iter().map(String::as_str));
        let (all, fewer) = (game(&many), game(&many[..999]));
        assert!(all.as_bytes().len() <= MAX_GAME);
        assert_eq!(words(&all, &fewer), "the messages that the host and the joiner have registered are not the same");
        let none = words(&all, &GameId::default());
        assert!(none.contains(": the host alone has `Message0`, `Message1`, `Message2`, `Message3` and "), "{none}");
    }

    #[test]
    fn what_a_stranger_shows_is_read_without_trust() {
        let host = GameId::new(Some("1"), ["Chat\nReliable"]);
        for bytes in
            [vec![], vec![0; 3], vec![255; DIGEST + 1], vec![255; MAX_GAME], vec![0; MAX_GAME], vec![7; MAX_GAME]]
        {
            let words = words(&host, &GameId::from_wire(bytes.into()));
            assert!(words.chars().count() < 600 && !words.contains(char::is_control), "{words}");
        }
    }
}
