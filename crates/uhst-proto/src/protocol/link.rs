//! Join links: a session in one line that a player can paste.
//!
//! Links pass through chats, mails and phones. The parser removes what these add (quotes, brackets, invisible
//! characters, a trailing slash), completes what players leave out (the scheme), and rejects anything else with an
//! explanation. A damaged link never becomes an id.

mod paste;

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use self::paste::{cleaned, digits_of_code, in_pairs, link_in, trimmed_id, with_scheme};

/// Escaped in the fragment of a link, in addition to what browsers escape: `%`, so that it can be parsed, and
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
    .add(b'/');

/// A session's id, and its relay if the link names one.
///
/// It is parsed from a bare id (`483920`, `483 920`, `483-920`), from a link (`http://192.168.1.5:3000/#483920`), or
/// from a link without a scheme (`192.168.1.5:3000/#483920`). Surrounding quotes, brackets, blanks and invisible
/// characters are ignored. An id may contain `/` or `#` only if the link escapes them (`%2F`, `%23`).
///
/// `Display` writes a form that `FromStr` parses back. An id without a relay that would be parsed as something else is
/// written as `#id`, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinLink {
    /// The relay, without a fragment.
    pub relay: Option<Url>,
    /// The host's id.
    pub id: String,
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
            Some(("", id)) => Ok(JoinLink { relay: None, id: decoded(id)? }),
            // Text with a slash or a `#`, and an address, is parsed as a link.
            _ if text.contains(['/', '#']) || paste::is_address(text) => match with_scheme(text) {
                Some(link) => parse_link(&link),
                None => Err(JoinLinkError::NotALink(text.to_owned())),
            },
            _ if text.is_empty() => Err(JoinLinkError::Empty),
            _ => Ok(JoinLink { relay: None, id: digits_of_code(text).unwrap_or_else(|| text.to_owned()) }),
        }
    }
}

/// Parses a link with a scheme.
fn parse_link(link: &str) -> Result<JoinLink, JoinLinkError> {
    // Some chats escape the `#` too.
    let escaped = || link.split_once("%23");
    let (relay, id) = link.split_once('#').or_else(escaped).unwrap_or((link, ""));
    let relay = Url::parse(relay.trim_end()).map_err(|error| JoinLinkError::BadUrl(error.to_string()))?;
    Ok(JoinLink { relay: Some(relay), id: decoded(id)? })
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
        match &self.relay {
            Some(relay) => write!(f, "{relay}#{escaped}"),
            None if self.id.parse().as_ref() == Ok(self) => f.write_str(&self.id),
            None => write!(f, "#{escaped}"),
        }
    }
}

#[cfg(test)]
mod tests;
