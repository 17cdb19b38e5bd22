//! The query string, parsed like `qs` in the original relay.

use std::{borrow::Cow, fmt};

use percent_encoding::percent_decode_str;

/// The value of one query parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Param<'a> {
    /// The parameter is missing.
    #[default]
    Missing,
    /// The parameter occurs once.
    One(Cow<'a, str>),
    /// The parameter occurs more than once, or as `name[…]=`, which `qs` turns into an array or an object. The original
    /// accepts the array; this relay refuses it in every request.
    Many,
}

impl Param<'_> {
    /// Returns the value if the parameter occurs exactly once and is not empty.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Param::One(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

/// The known query parameters. `Debug` omits the token and the key.
#[derive(Default, PartialEq)]
pub(super) struct Query<'a> {
    pub(super) action: Param<'a>,
    pub(super) host_id: Param<'a>,
    pub(super) token: Param<'a>,
    pub(super) timestamp: Param<'a>,
    pub(super) uhst: Param<'a>,
    pub(super) key: Param<'a>,
    pub(super) batch: Param<'a>,
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("action", &self.action).field("host_id", &self.host_id).finish_non_exhaustive()
    }
}

impl<'a> Query<'a> {
    /// Parses a query without its question mark. Every text is a valid query.
    pub(super) fn parse(query: &'a str) -> Self {
        let mut parsed = Query::default();
        for part in query.split('&') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let key = decode(key);
            let (name, plain) = match key.split_once('[') {
                Some((name, _)) => (name, false),
                None => (&*key, true),
            };
            let param = match name {
                "action" => &mut parsed.action,
                "hostId" => &mut parsed.host_id,
                "token" => &mut parsed.token,
                "timestamp" => &mut parsed.timestamp,
                "uhst" => &mut parsed.uhst,
                "key" => &mut parsed.key,
                "batch" => &mut parsed.batch,
                _ => continue,
            };
            *param = match param {
                Param::Missing if plain => Param::One(decode(value)),
                _ => Param::Many,
            };
        }
        parsed
    }
}

/// Decodes a value. `+` is a space. A text with an invalid percent escape is kept as it is.
fn decode(text: &str) -> Cow<'_, str> {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let bytes = spaced.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(at, _)| at).peekable();
    if escapes.peek().is_none() || !escapes.all(|at| is_hex(at + 1) && is_hex(at + 2)) {
        return spaced;
    }
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Cow::Owned(decoded.into_owned()),
        Err(_) => spaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_qs_does() {
        for (value, expected) in [
            ("demo", "demo"),
            ("a+b", "a b"),
            ("a%2Bb%20c", "a+b c"),
            ("gr%C3%B6%C3%9Fe", "größe"),
            ("größe", "größe"),
            ("%zz", "%zz"),
            ("100%", "100%"),
            ("a+%41%", "a %41%"),
            ("%ff", "%ff"),
            ("%ed%a0%80", "%ed%a0%80"),
            ("a=b", "a=b"),
            ("%00", "\0"),
        ] {
            let query = format!("hostId={value}");
            assert_eq!(Query::parse(&query).host_id, Param::One(expected.into()), "{value}");
        }
    }

    #[test]
    fn repeated_parameters_and_arrays_have_no_value() {
        for query in ["token=a&token=b", "token[]=a", "token[0]=a", "token%5B%5D=a", "token[x]=a&token=b"] {
            assert_eq!(Query::parse(query).token, Param::Many, "{query}");
        }
        assert_eq!(Query::parse("token").token, Param::One("".into()));
        assert_eq!(Query::parse("&&x=1&TOKEN=a&=").token, Param::Missing);
        assert_eq!(Query::parse("tok%65n=a").token, Param::One("a".into()));
    }
}
