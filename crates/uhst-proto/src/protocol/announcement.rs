//! Announcements of sessions on the local network: the TXT record of a DNS-SD service (RFC 6763).
//!
//! Anyone on the network can send a record. [`Announcement::from_txt`] accepts only values that are short, and text
//! without control characters.

use url::{Host, Url};

use super::NATIVE_VERSION;

/// The DNS-SD service type of sessions.
pub const SERVICE_TYPE: &str = "_bevy-uhst._tcp.local.";

/// The announcement of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The game, so that each game lists its own sessions; at most [`MAX_GAME`](Self::MAX_GAME) bytes.
    pub game: String,
    /// The name that players see; at most [`MAX_NAME`](Self::MAX_NAME) bytes.
    pub name: String,
    /// The host's id; at most [`MAX_ID`](Self::MAX_ID) bytes.
    pub id: String,
    /// The number of players.
    pub players: u16,
    /// The largest number of players.
    pub limit: u16,
    /// Whether joiners need a password.
    pub password: bool,
    /// The relay of the session; at most [`MAX_RELAY`](Self::MAX_RELAY) bytes. `None` means that the host's machine is
    /// the relay, on the port of the service.
    pub relay: Option<Url>,
}

/// An announcement that cannot be read or created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// The announcement has another version of the protocol. This is not a fault of its sender.
    #[error("it speaks version {0} of the protocol, this game speaks {NATIVE_VERSION}")]
    OtherVersion(u32),
    /// A required value is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A value is not text, or contains control characters.
    #[error("`{0}` is not text")]
    NotText(&'static str),
    /// A value is too long.
    #[error("`{key}` has {size} bytes, the limit is {limit}")]
    TooLong {
        /// The key of the value.
        key: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The largest size in bytes.
        limit: usize,
    },
    /// A value is not a number, or is out of range.
    #[error("`{0}` is not a number in its range")]
    BadNumber(&'static str),
    /// The relay is not the URL of a web server.
    #[error("`relay` is not the address of a relay")]
    BadRelay,
}

impl Announcement {
    /// The largest name of a game in bytes. Longer ones are cut.
    pub const MAX_GAME: usize = 64;
    /// The largest name of a session in bytes. Longer ones are cut.
    pub const MAX_NAME: usize = 96;
    /// The largest id in bytes. A session with a longer id cannot be announced.
    pub const MAX_ID: usize = 128;
    /// The largest URL of a relay in bytes. A session on a relay with a longer URL cannot be announced.
    pub const MAX_RELAY: usize = 240;

    /// Returns the pairs of the TXT record. Names are cut to their limits, and control characters are replaced.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError::TooLong`] if the id or the relay is too long. Cut ones would name another session.
    pub fn to_txt(&self) -> Result<Vec<(&'static str, String)>, AnnouncementError> {
        let mut pairs = vec![
            ("uhst", NATIVE_VERSION.to_string()),
            ("game", shown(&self.game, Self::MAX_GAME)),
            ("name", shown(&self.name, Self::MAX_NAME)),
            ("id", fitting("id", &self.id, Self::MAX_ID)?.to_owned()),
            ("players", self.players.to_string()),
            ("limit", self.limit.to_string()),
            ("password", u8::from(self.password).to_string()),
        ];
        if let Some(relay) = &self.relay {
            pairs.push(("relay", fitting("relay", relay.as_str(), Self::MAX_RELAY)?.to_owned()));
        }
        Ok(pairs)
    }

    /// Reads the values of a TXT record by their keys. Unknown keys are ignored.
    ///
    /// # Errors
    ///
    /// [`AnnouncementError`] if a value is missing or invalid.
    pub fn from_txt<'a>(value: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, AnnouncementError> {
        let text = |key, limit| {
            let value = value(key).ok_or(AnnouncementError::Missing(key))?;
            let text = std::str::from_utf8(value).map_err(|_| AnnouncementError::NotText(key))?;
            if text.contains(char::is_control) {
                return Err(AnnouncementError::NotText(key));
            }
            fitting(key, text, limit)
        };
        let version = number(text("uhst", 10)?, "uhst")?;
        if version != NATIVE_VERSION {
            return Err(AnnouncementError::OtherVersion(version));
        }
        let small = |key| u16::try_from(number(text(key, 5)?, key)?).map_err(|_| AnnouncementError::BadNumber(key));
        let (players, limit) = (small("players")?, small("limit")?);
        if players > limit {
            return Err(AnnouncementError::BadNumber("players"));
        }
        let id = text("id", Self::MAX_ID)?;
        if id.is_empty() {
            return Err(AnnouncementError::Missing("id"));
        }
        let relay = match value("relay") {
            Some(_) => Some(relay(text("relay", Self::MAX_RELAY)?)?),
            None => None,
        };
        Ok(Announcement {
            game: text("game", Self::MAX_GAME)?.to_owned(),
            name: text("name", Self::MAX_NAME)?.to_owned(),
            id: id.to_owned(),
            players,
            limit,
            password: match text("password", 1)? {
                "0" => false,
                "1" => true,
                _ => return Err(AnnouncementError::BadNumber("password")),
            },
            relay,
        })
    }

    /// Returns the name of a game in the form in which it is announced.
    pub fn game(name: &str) -> String {
        shown(name, Self::MAX_GAME)
    }
}

/// Cuts untrusted text to at most `limit` bytes, between characters, and replaces control characters by spaces, so that
/// it can be printed on a terminal.
pub fn shown(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}

fn fitting<'a>(key: &'static str, text: &'a str, limit: usize) -> Result<&'a str, AnnouncementError> {
    match text.len() {
        size if size > limit => Err(AnnouncementError::TooLong { key, size, limit }),
        _ => Ok(text),
    }
}

fn number(text: &str, key: &'static str) -> Result<u32, AnnouncementError> {
    // `parse` would also accept a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(AnnouncementError::BadNumber(key))
}

fn relay(text: &str) -> Result<Url, AnnouncementError> {
    let url = Url::parse(text).map_err(|_| AnnouncementError::BadRelay)?;
    let somewhere = match url.host() {
        Some(Host::Domain(_)) => true,
        Some(Host::Ipv4(address)) => !(address.is_unspecified() || address.is_broadcast() || address.is_multicast()),
        Some(Host::Ipv6(address)) => !(address.is_unspecified() || address.is_multicast()),
        None => false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let web = matches!(url.scheme(), "http" | "https");
    (web && somewhere && plain).then_some(url).ok_or(AnnouncementError::BadRelay)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one() -> Announcement {
        Announcement {
            game: "sparks".to_owned(),
            name: "Ada’s lobby 🎲".to_owned(),
            id: "483920".to_owned(),
            players: 2,
            limit: 4,
            password: true,
            relay: None,
        }
    }

    /// Reads the pairs of an announcement, with some replaced or added.
    fn read(announcement: &Announcement, other: &[(&str, &[u8])]) -> Result<Announcement, AnnouncementError> {
        let pairs = announcement.to_txt()?;
        Announcement::from_txt(|key| {
            let replaced = other.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            replaced.or_else(|| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_bytes()))
        })
    }

    #[test]
    fn an_announcement_survives_its_record() {
        let relay = Url::parse("https://relay.example.com/uhst/").ok();
        for announcement in [one(), Announcement { relay, password: false, ..one() }] {
            assert_eq!(read(&announcement, &[]), Ok(announcement));
        }
    }

    #[test]
    fn the_longest_announcement_fits_its_record() {
        let long = "ä".repeat(1000);
        let relay = Url::parse(&format!("http://10.0.0.1/{}", "a".repeat(Announcement::MAX_RELAY - 16))).unwrap();
        let announcement = Announcement {
            game: long.clone(),
            name: long,
            id: "i".repeat(Announcement::MAX_ID),
            relay: Some(relay),
            ..one()
        };
        let pairs = announcement.to_txt().unwrap();
        // Each pair is a string with a length of one byte.
        assert!(pairs.iter().all(|(key, value)| key.len() + 1 + value.len() <= 255));
        let back = read(&announcement, &[]).unwrap();
        assert_eq!((back.game.len(), back.name.len()), (Announcement::MAX_GAME, Announcement::MAX_NAME));
        assert_eq!(back.game, Announcement::game(&announcement.game));
    }

    #[test]
    fn an_id_is_not_cut_to_that_of_another_session() {
        let id = "i".repeat(Announcement::MAX_ID + 1);
        let error = Announcement { id, ..one() }.to_txt().unwrap_err();
        assert_eq!(error, AnnouncementError::TooLong { key: "id", size: 129, limit: 128 });
    }

    #[test]
    fn control_characters_of_a_name_are_replaced() {
        let named = Announcement { name: "a\x1b[2Jb\n".to_owned(), ..one() };
        assert_eq!(read(&named, &[]).unwrap().name, "a [2Jb ");
        assert_eq!(read(&one(), &[("name", b"a\x1b[2Jb")]), Err(AnnouncementError::NotText("name")));
    }

    #[test]
    fn an_invalid_announcement_is_an_error_that_says_why() {
        use AnnouncementError as E;
        let long = [b'x'; 300];
        for (key, value, error) in [
            ("uhst", b"1".as_slice(), E::OtherVersion(1)),
            ("uhst", b"one", E::BadNumber("uhst")),
            ("name", &[0xff, 0xfe], E::NotText("name")),
            ("name", &long, E::TooLong { key: "name", size: 300, limit: 96 }),
            ("game", &long, E::TooLong { key: "game", size: 300, limit: 64 }),
            ("id", &long, E::TooLong { key: "id", size: 300, limit: 128 }),
            ("id", b"", E::Missing("id")),
            ("players", b"-1", E::BadNumber("players")),
            ("players", b"+1", E::BadNumber("players")),
            ("players", b"5", E::BadNumber("players")),
            ("players", b"", E::BadNumber("players")),
            ("limit", b"65536", E::BadNumber("limit")),
            ("limit", b"4294967300", E::TooLong { key: "limit", size: 10, limit: 5 }),
            ("password", b"y", E::BadNumber("password")),
            ("relay", b"ftp://example.com/", E::BadRelay),
            ("relay", b"http://user:secret@example.com/", E::BadRelay),
            ("relay", b"http://0.0.0.0:3000/", E::BadRelay),
            ("relay", b"http://224.0.0.251/", E::BadRelay),
            ("relay", b"file:///etc/passwd", E::BadRelay),
            ("relay", b"no address", E::BadRelay),
        ] {
            assert_eq!(read(&one(), &[(key, value)]), Err(error), "{key}={}", String::from_utf8_lossy(value));
        }
        assert_eq!(Announcement::from_txt(|_| None), Err(E::Missing("uhst")));
    }

    proptest! {
        #[test]
        fn any_record_is_read_or_rejected(
            values in proptest::collection::hash_map(
                proptest::sample::select(vec!["uhst", "game", "name", "id", "players", "limit", "password", "relay"]),
                proptest::collection::vec(any::<u8>(), 0..255),
                0..8,
            ),
        ) {
            if let Ok(read) = Announcement::from_txt(|key| values.get(key).map(Vec::as_slice)) {
                prop_assert!(read.name.len() <= Announcement::MAX_NAME);
            }
        }

        #[test]
        fn every_session_can_be_announced_as_it_is_read(
            game: String, name: String, id in "[^\\p{Cc}]{1,30}", players: u16, limit: u16, password: bool,
        ) {
            let announcement =
                Announcement { game, name, id, players: players.min(limit), limit, password, relay: None };
            let read = read(&announcement, &[]).unwrap();
            prop_assert_eq!(&read.id, &announcement.id);
            prop_assert_eq!((read.players, read.limit), (announcement.players, announcement.limit));
            // A second round trip changes nothing.
            prop_assert_eq!(self::read(&read, &[]).unwrap(), read);
        }
    }
}
