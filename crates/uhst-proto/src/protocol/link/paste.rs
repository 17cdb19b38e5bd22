//! Cleans up pasted links: removes what chats, mails and players add, and completes what they leave out.

use std::net::IpAddr;

use url::Host;

/// Pairs of marks that surround quoted text.
const PAIRS: [(char, char); 15] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('<', '>'),
    ('(', ')'),
    ('“', '”'),
    ('„', '“'),
    ('„', '”'),
    ('‘', '’'),
    ('‚', '‘'),
    ('‹', '›'),
    ('›', '‹'),
    ('«', '»'),
    ('»', '«'),
    ('「', '」'),
];

/// Whether a character has no width and is not part of readable text. (U+200C and U+200D are: they join emoji.)
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}'
    )
}

/// Whether a character may surround a link or an id.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || is_invisible(c) || matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_mark(c: char) -> bool {
    PAIRS.iter().any(|(open, close)| c == *open || c == *close)
}

/// Removes surrounding blanks, and line breaks and invisible characters within.
pub(super) fn cleaned(text: &str) -> String {
    text.trim_matches(is_blank).chars().filter(|c| !is_invisible(*c) && !c.is_control()).collect()
}

/// Removes quotes or brackets that surround the text.
pub(super) fn in_pairs(mut text: &str) -> &str {
    while let Some(inner) = PAIRS.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close)) {
        text = inner.trim_matches(is_blank);
    }
    text
}

/// Finds a link with a scheme in a text. If words precede it, it ends at a blank.
pub(super) fn link_in(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let begin = ["http://", "https://"].iter().filter_map(|scheme| lower.find(scheme)).min()?;
    let (before, link) = text.split_at(begin);
    let quoted = before.chars().all(|c| is_mark(c) || is_blank(c));
    if quoted {
        return Some(link);
    }
    if !before.ends_with(|c: char| is_blank(c) || is_mark(c) || c == ':') {
        return None;
    }
    let end = link.find(char::is_whitespace).unwrap_or(link.len());
    Some(link[..end].trim_end_matches(['.', ',', ';', '!', '?']))
}

/// Removes what surrounds the id in a fragment.
pub(super) fn trimmed_id(fragment: &str) -> &str {
    fragment.trim_matches(|c| is_blank(c) || is_mark(c) || c == '/')
}

/// Returns the six or nine digits of a code that was typed in groups. Groups joined by a dash have three digits each,
/// because `0042-18` may be an id of a public relay.
pub(super) fn digits_of_code(text: &str) -> Option<String> {
    let is_dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let digits = |text: &str| text.chars().filter(|c| !is_blank(*c)).collect::<String>();
    let groups: Vec<String> = text.split(is_dash).map(digits).collect();
    if groups.len() > 1 && groups.iter().any(|group| group.len() != 3) {
        return None;
    }
    let code = groups.concat();
    (matches!(code.len(), 6 | 9) && code.bytes().all(|byte| byte.is_ascii_digit())).then_some(code)
}

/// Whether a text without `/` and `#` is an address, so that the id is missing.
pub(super) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return text.parse::<IpAddr>().is_ok() };
    let is_host = host.starts_with('[') || host.contains('.') || host.eq_ignore_ascii_case("localhost");
    is_host && port.parse::<u16>().is_ok()
}

/// Completes a link without a scheme: with `http` on a LAN or with a port other than 443 and 8443, otherwise with
/// `https`.
pub(super) fn with_scheme(text: &str) -> Option<String> {
    let text = text.strip_prefix("//").unwrap_or(text);
    let authority = text.find(['/', '#', '?']).map_or(text, |end| &text[..end]);
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((_, "")) => (authority, None),
        Some((ip, port)) => (&authority[..ip.len() + 2], Some(port.strip_prefix(':')?)),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(str::parse::<u16>).transpose().ok()?;
    // A word followed by `#` is more likely an id that contains one.
    let is_word = !host.contains(['.', '[']) && port.is_none();
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '%')) {
        return None;
    }
    if is_word && !text[authority.len()..].starts_with("/#") {
        return None;
    }
    let is_public = match Host::parse(host).ok()? {
        Host::Domain(name) => name.contains('.') && !name.ends_with(".local"),
        Host::Ipv4(_) | Host::Ipv6(_) => false,
    };
    let scheme = match port {
        Some(443 | 8443) => "https",
        None if is_public => "https",
        _ => "http",
    };
    Some(format!("{scheme}://{text}"))
}
