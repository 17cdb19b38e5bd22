//! Rewrites JSON as JavaScript does: `JSON.stringify(JSON.parse(text))` in one pass.
//!
//! The original relay parses every body and writes it again. No JSON library follows its rules: a lone surrogate stays
//! escaped, `1e400` becomes `null`, and keys that are array indexes come first. This module therefore contains a small
//! reader of its own, which checks and copies at the same time, straight into the event that is sent.

use std::collections::{HashMap, HashSet};

use super::number::write_number;

/// The maximum nesting depth of arrays and objects. The original is limited only by its stack.
const MAX_DEPTH: usize = 512;

/// The largest number of members whose keys are compared pairwise. For the few members of a typical message this is
/// faster than hashing.
const FEW_MEMBERS: usize = 12;

/// The text is not JSON, nests too deeply, or its top level is neither an object nor an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// Appends the canonical form of `text` to `out`. After an error, `out` contains a part of it.
pub(super) fn rewrite(text: &str, out: &mut Vec<u8>) -> Result<(), NotJson> {
    let mut rewriter = Rewriter { text: text.as_bytes(), at: 0, out, members: Vec::new(), depth: 0 };
    match rewriter.next_token()? {
        b'{' => rewriter.object()?,
        b'[' => rewriter.array()?,
        _ => return Err(NotJson),
    }
    rewriter.skip_space();
    if rewriter.at == rewriter.text.len() { Ok(()) } else { Err(NotJson) }
}

struct Rewriter<'a> {
    text: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    /// The members of all open objects.
    members: Vec<Member>,
    depth: usize,
}

/// The position of a member in the output: `start` of its key, `colon` after the key, `end` of its value.
struct Member {
    start: usize,
    colon: usize,
    end: usize,
}

impl Rewriter<'_> {
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// Returns the next byte that is not white space, without consuming it.
    fn next_token(&mut self) -> Result<u8, NotJson> {
        self.skip_space();
        self.text.get(self.at).copied().ok_or(NotJson)
    }

    /// Consumes `byte` and copies it.
    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.next_token()? != byte {
            return Err(NotJson);
        }
        self.at += 1;
        self.out.push(byte);
        Ok(())
    }

    fn value(&mut self) -> Result<(), NotJson> {
        match self.next_token()? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(NotJson),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), NotJson> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(NotJson);
        }
        self.expect(bracket)
    }

    fn array(&mut self) -> Result<(), NotJson> {
        self.open(b'[')?;
        if self.next_token()? != b']' {
            self.value()?;
            while self.next_token()? == b',' {
                self.expect(b',')?;
                self.value()?;
            }
        }
        self.depth -= 1;
        self.expect(b']')
    }

    fn object(&mut self) -> Result<(), NotJson> {
        self.open(b'{')?;
        let first = self.members.len();
        if self.next_token()? != b'}' {
            self.member()?;
            while self.next_token()? == b',' {
                self.expect(b',')?;
                self.member()?;
            }
        }
        self.arrange(first);
        self.members.truncate(first);
        self.depth -= 1;
        self.expect(b'}')
    }

    fn member(&mut self) -> Result<(), NotJson> {
        if self.next_token()? != b'"' {
            return Err(NotJson);
        }
        let start = self.out.len();
        self.string()?;
        let colon = self.out.len();
        self.expect(b':')?;
        self.value()?;
        self.members.push(Member { start, colon, end: self.out.len() });
        Ok(())
    }

    /// Sorts the members from `first` on into JavaScript's order: array indexes first, ascending. A duplicate key keeps
    /// its first position and its last value.
    fn arrange(&mut self, first: usize) {
        let members = &self.members[first..];
        let key = |member: &Member| &self.out[member.start..member.colon];
        let repeated = if members.len() <= FEW_MEMBERS {
            members.iter().enumerate().any(|(n, member)| members[..n].iter().any(|other| key(other) == key(member)))
        } else {
            let mut seen = HashSet::with_capacity(members.len());
            !members.iter().all(|member| seen.insert(key(member)))
        };
        if !repeated && members.iter().all(|member| array_index(key(member)).is_none()) {
            return;
        }
        let start = members[0].start;
        let old = self.out.split_off(start);
        let mut places = HashMap::with_capacity(members.len());
        let mut ordered: Vec<(&[u8], &[u8])> = Vec::with_capacity(members.len());
        for member in members {
            let key = &old[member.start - start..member.colon - start];
            let value = &old[member.colon - start..member.end - start];
            match places.insert(key, ordered.len()) {
                None => ordered.push((key, value)),
                Some(place) => {
                    ordered[place].1 = value;
                    places.insert(key, place);
                }
            }
        }
        ordered.sort_by_key(|(key, _)| array_index(key).map_or(u64::MAX, u64::from));
        for (n, (key, value)) in ordered.into_iter().enumerate() {
            if n > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(key);
            self.out.extend_from_slice(value);
        }
    }

    fn string(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        self.out.push(b'"');
        loop {
            let rest = &self.text[self.at..];
            let plain = plain_length(rest);
            self.out.extend_from_slice(&rest[..plain]);
            self.at += plain + 1;
            match rest.get(plain) {
                Some(b'"') => {
                    self.out.push(b'"');
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(NotJson), // a control character, or no end
            }
        }
    }

    /// Reads an escape sequence after its backslash.
    fn escape(&mut self) -> Result<(), NotJson> {
        let kind = *self.text.get(self.at).ok_or(NotJson)?;
        self.at += 1;
        match kind {
            b'/' => self.out.push(b'/'),
            b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => self.out.extend_from_slice(&[b'\\', kind]),
            b'u' => {
                let unit = self.hex(self.at).ok_or(NotJson)?;
                self.at += 4;
                let low = match self.text.get(self.at..self.at + 2) {
                    Some(b"\\u") if (0xd800..0xdc00).contains(&unit) => self.hex(self.at + 2),
                    _ => None,
                };
                match low {
                    Some(low @ 0xdc00..0xe000) => {
                        self.at += 6;
                        self.character(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
                    }
                    _ => self.character(unit),
                }
            }
            _ => return Err(NotJson),
        }
        Ok(())
    }

    /// Reads four hexadecimal digits.
    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
    }

    /// Writes a character, or the lone surrogate `code`, as `JSON.stringify` does.
    fn character(&mut self, code: u32) {
        let short = match code {
            0x08 => Some(b'b'),
            0x09 => Some(b't'),
            0x0a => Some(b'n'),
            0x0c => Some(b'f'),
            0x0d => Some(b'r'),
            0x22 => Some(b'"'),
            0x5c => Some(b'\\'),
            _ => None,
        };
        match (short, char::from_u32(code)) {
            (Some(short), _) => self.out.extend_from_slice(&[b'\\', short]),
            (None, Some(character)) if code >= 0x20 => {
                self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => self.out.extend_from_slice(format!("\\u{code:04x}").as_bytes()),
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        let whole = self.at;
        let whole_digits = self.digits()?;
        if self.text[whole] == b'0' && whole_digits > 1 {
            return Err(NotJson);
        }
        let mut integer = true;
        if self.text.get(self.at) == Some(&b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // An integer of up to 15 digits has an exact double, which is written with the same digits.
        if integer && whole_digits <= 15 && text != b"-0" {
            self.out.extend_from_slice(text);
            return Ok(());
        }
        let number: f64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NotJson)?;
        let mut text = String::new();
        write_number(number, &mut text);
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Consumes at least one digit. Returns the number of digits.
    fn digits(&mut self) -> Result<usize, NotJson> {
        let digits = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Ok(digits) } else { Err(NotJson) }
    }
}

/// Returns the length of the prefix without a quote, a backslash or a control character. It scans in blocks, which
/// compile to vector code, because most bodies are one long string.
fn plain_length(text: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < 0x20);
    let blocks = text
        .chunks_exact(BLOCK)
        .take_while(|block| !block.iter().fold(false, |found, &byte| found | special(byte)))
        .count();
    let rest = &text[blocks * BLOCK..];
    blocks * BLOCK + rest.iter().position(|&byte| special(byte)).unwrap_or(rest.len())
}

/// Returns the number of a quoted key that JavaScript treats as an array index: canonical, below 2^32 - 1.
fn array_index(key: &[u8]) -> Option<u32> {
    let digits = &key[1..key.len() - 1];
    match digits {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 10 => {
            let index = std::str::from_utf8(digits).ok()?.parse().ok()?;
            (index != u32::MAX).then_some(index)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
