//! Join links: a session in one line that a player can paste.
//!
//! Links pass through chats, mails and phones. The parser removes what these add (quotes, brackets, invisible
//! characters, a trailing slash), completes what players leave out (the scheme), and rejects anything else with an
//! explanation. A damaged link never becomes an id.
//!
//! The fragment, which no server is ever sent, is `id~key`: the key pins the host, so that nobody can answer in its place.

mod paste;

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::KeyHash;

use self::paste::{cleaned, digits_of_code, in_pairs, link_in, trimmed_id, with_scheme};

/// Separates the id from the key.
const KEY_SEPARATOR: char = '~';

/// What follows a `~` in a bare code is taken for a damaged key from this length on. A whole key has 22 characters.
const MANY_OF_A_KEY: usize = 12;

/// Escaped in the id of a link, in addition to what browsers escape: `%` and the separator, so that it can be parsed, and
/// everything that [`paste`] removes.
const FRAGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'\'')
    .add(b'<')
    .add(b'>')
    .add(b'(')
    .add(b')')
    .add(b'`')
    .add(b'%')
    .add(b'#')
    .add(b'/')
    .add(b'~');

/// A session's id, and its relay and the hash of its host's key if the link names them.
///
/// It is parsed from a bare id (`483920`, `483 920`, `483-920`), from a link
/// (`http://192.168.1.5:3000/#483920~BqYG8VwT4S_1xZ3mTnW0aQ`, or without the key), or from a link without a scheme
/// (`192.168.1.5:3000/#483920`). Surrounding quotes, brackets, blanks and invisible characters are ignored. An id may
/// contain `/`, `#` or `~` only if the link escapes them (`%2F`, `%23`, `%7E`).
///
/// With a [key](Self::key), only the host that owns this key is joined. Without one, the relay could answer in the host's
/// place, unless there is a password.
///
/// `Display` writes a form that `FromStr` parses back. An id without a relay that would be parsed as something else is
/// written as `#id`, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinLink {
    /// The relay, without a fragment.
    pub relay: Option<Url>,
    /// The host's id.
    pub id: String,
    key: Option<KeyHash>,
}

/// A join code or link that names no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinLinkError {
    /// The text is empty or white space.
    #[error("enter the code or the link that the host shows")]
    Empty,
    /// The link has no `#id` at its end.
    #[error("this link has no session id: copy it again, with everything after the #")]
    NoId,
    /// The id in the link is damaged: it contains an unescaped `/` or `#`, or is not UTF-8.
    #[error("the session id in this link is damaged ({0}): copy the link again")]
    BadId(String),
    /// The key in the link, after the `~`, is cut or changed.
    #[error("the key in this link is damaged: copy the link again, with everything after the ~")]
    BadKey,
    /// The link is of another kind, or the id contains `/` or `#`.
    #[error(
        "`{0}` is no link to a session, which is like http://192.168.1.5:3000/#483920, and no session id, which has no \
         / and no #: copy it again"
    )]
    NotALink(String),
    /// The text looks like a link but is not a valid URL.
    #[error("this is not a link to a relay: {0}")]
    BadUrl(String),
}

impl JoinLink {
    /// Creates a link without a key.
    pub fn new(relay: Option<Url>, id: impl Into<String>) -> Self {
        Self { relay, id: id.into(), key: None }
    }

    /// Sets the hash of the host's key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Option<KeyHash>>) -> Self {
        self.key = key.into();
        self
    }

    /// Returns the hash of the host's key, if the link carries it.
    pub fn key(&self) -> Option<KeyHash> {
        self.key
    }
}

impl FromStr for JoinLink {
    type Err = JoinLinkError;

    fn from_str(text: &str) -> Result<Self, JoinLinkError> {
        let text = cleaned(text);
        let text = text.as_str();
        if text.is_empty() {
            return Err(JoinLinkError::Empty);
        }
        if let Some(link) = link_in(text) {
            return parse_link(link);
        }
        let text = in_pairs(text);
        match text.split_once('#') {
            Some(("", fragment)) => parse_fragment(None, fragment),
            // Text with a slash or a `#`, and an address, is parsed as a link.
            _ if text.contains(['/', '#']) || paste::is_address(text) => match with_scheme(text) {
                Some(link) => parse_link(&link),
                None => Err(JoinLinkError::NotALink(text.to_owned())),
            },
            _ if text.is_empty() => Err(JoinLinkError::Empty),
            _ => parse_code(text),
        }
    }
}

/// Parses a link with a scheme.
fn parse_link(link: &str) -> Result<JoinLink, JoinLinkError> {
    // Some chats escape the `#` too.
    let escaped = || link.split_once("%23");
    let (relay, id) = link.split_once('#').or_else(escaped).unwrap_or((link, ""));
    let relay = Url::parse(relay.trim_end()).map_err(|error| JoinLinkError::BadUrl(error.to_string()))?;
    parse_fragment(Some(relay), id)
}

/// Parses the fragment of a link. What follows the `~` must be a whole key: a join by a link that has lost a part of it
/// must not fall back to one that pins nothing.
fn parse_fragment(relay: Option<Url>, fragment: &str) -> Result<JoinLink, JoinLinkError> {
    let fragment = trimmed_id(fragment);
    // Some programs escape the separator too.
    let escaped = || {
        let parts = ["%7E", "%7e"].into_iter().find_map(|escape| fragment.rsplit_once(escape));
        parts.filter(|(_, key)| key.parse::<KeyHash>().is_ok())
    };
    let Some((id, key)) = fragment.split_once(KEY_SEPARATOR).or_else(escaped) else {
        return Ok(JoinLink::new(relay, decoded(fragment)?));
    };
    let id = decoded(id)?;
    if key.contains(['/', '#']) {
        return Err(JoinLinkError::BadId(fragment.to_owned()));
    }
    let key: KeyHash = key.parse().map_err(|_| JoinLinkError::BadKey)?;
    Ok(JoinLink::new(relay, id).with_key(key))
}

/// Parses a bare id, or `id~key`. An id may contain a `~` unless what follows looks like a damaged key.
fn parse_code(text: &str) -> Result<JoinLink, JoinLinkError> {
    let code = |text: &str| digits_of_code(text).unwrap_or_else(|| text.to_owned());
    let Some((id, key)) = text.rsplit_once(KEY_SEPARATOR).filter(|(id, _)| !id.is_empty()) else {
        return Ok(JoinLink::new(None, code(text)));
    };
    match key.parse::<KeyHash>() {
        Ok(key) => Ok(JoinLink::new(None, code(id)).with_key(key)),
        Err(_) if digits_of_code(id).is_some() || key.len() >= MANY_OF_A_KEY => Err(JoinLinkError::BadKey),
        Err(_) => Ok(JoinLink::new(None, code(text))),
    }
}

/// Decodes the id in a fragment.
fn decoded(fragment: &str) -> Result<String, JoinLinkError> {
    let id = trimmed_id(fragment);
    if id.is_empty() {
        return Err(JoinLinkError::NoId);
    }
    if id.contains(['/', '#']) {
        return Err(JoinLinkError::BadId(id.to_owned()));
    }
    let decoded = percent_decode_str(id).decode_utf8();
    Ok(decoded.map_err(|_| JoinLinkError::BadId(id.to_owned()))?.into_owned())
}

impl fmt::Display for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = utf8_percent_encode(&self.id, FRAGMENT);
        match (&self.relay, &self.key) {
            (Some(relay), _) => write!(f, "{relay}#{escaped}")?,
            (None, None) if self.id.parse().as_ref() == Ok(self) => f.write_str(&self.id)?,
            (None, _) => write!(f, "#{escaped}")?,
        }
        self.key.map_or(Ok(()), |key| write!(f, "{KEY_SEPARATOR}{key}"))
    }
}

#[cfg(test)]
mod tests;
