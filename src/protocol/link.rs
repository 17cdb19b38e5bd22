//! Join links: where a session is, in one line that a player can paste.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// Escaped in the fragment of a link, beside what browsers escape: `%`, so that it can be read back.
const FRAGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'%').add(b'#');

/// A session by its id, and the relay it is on if the link names one.
///
/// Read from a bare id (`483920`) or from a link (`http://192.168.1.5:3000/#483920`).
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
    /// Nothing but white space.
    #[error("enter the code or the link that the host shows")]
    Empty,
    /// A link without the `#id` at its end.
    #[error("this link has no session id: copy it again, with everything after the #")]
    NoId,
    /// It looks like a link and is none.
    #[error("this is not a link to a relay: {0}")]
    BadUrl(String),
}

impl FromStr for JoinLink {
    type Err = JoinLinkError;

    fn from_str(text: &str) -> Result<Self, JoinLinkError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(JoinLinkError::Empty);
        }
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return Ok(JoinLink { relay: None, id: text.to_owned() });
        }
        let mut relay = Url::parse(text).map_err(|error| JoinLinkError::BadUrl(error.to_string()))?;
        let id = percent_decode_str(relay.fragment().unwrap_or_default()).decode_utf8_lossy().into_owned();
        if id.is_empty() {
            return Err(JoinLinkError::NoId);
        }
        relay.set_fragment(None);
        Ok(JoinLink { relay: Some(relay), id })
    }
}

impl fmt::Display for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.relay {
            Some(relay) => write!(f, "{relay}#{}", utf8_percent_encode(&self.id, FRAGMENT)),
            None => f.write_str(&self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_survives_its_text() {
        for id in ["483920", "my game", "a+b&c=d#e%20f", "größe 🎲"] {
            let link = JoinLink { relay: Url::parse("http://192.168.1.5:3000/").ok(), id: id.to_owned() };
            assert_eq!(link.to_string().parse(), Ok(link));
        }
    }

    #[test]
    fn a_bare_id_has_no_relay() {
        assert_eq!(" 483920\n".parse(), Ok(JoinLink { relay: None, id: "483920".to_owned() }));
    }

    #[test]
    fn what_names_no_session_says_so() {
        assert_eq!("  ".parse::<JoinLink>(), Err(JoinLinkError::Empty));
        assert_eq!("http://192.168.1.5:3000/".parse::<JoinLink>(), Err(JoinLinkError::NoId));
        assert!(matches!("http://#1".parse::<JoinLink>(), Err(JoinLinkError::BadUrl(_))));
    }
}
