//! Requests to the relay: a query is read as any reader of queries reads it, and no body is passed on that is too long
//! or that the relay itself would not take.

use allocation_counter::measure;
use bytes::Bytes;
use uhst_relay::internals::{batch, body, parse_int, query, rewrite_json, write_number};
use url::form_urlencoded;

use super::source::Source;

const LIMIT: usize = 4096;

/// What the decompression of one body may take: the body twice, the largest window of gzip, and room for tables.
const MEMORY: u64 = 1 << 20;

const ENCODINGS: [&[u8]; 5] = [b"", b"gzip", b"deflate", b"br", b"identity"];

/// A line with the query, one with the type, one with the encoding (or a byte for a known one), and the body.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let text = String::from_utf8_lossy(source.until(b'\n'));
    read_query(&text);
    let number = write_number(parse_int(&text));
    assert!(number == "null" || number.parse::<f64>().is_ok(), "{number}");

    let kind = match source.until(b'\n') {
        b"" => b"application/json",
        kind => kind,
    };
    let encoding = match source.until(b'\n') {
        &[known] => ENCODINGS[usize::from(known) % ENCODINGS.len()],
        encoding => encoding,
    };
    let body = source.rest();
    read_body(kind, encoding, body);
    read_batch(body);
}

/// A batch is taken apart and not changed: its messages are the items of the array that it is as one message.
fn read_batch(bytes: &[u8]) {
    match batch(Bytes::copy_from_slice(bytes)) {
        Ok(messages) => {
            assert!((1..=64).contains(&messages.len()), "{} messages", messages.len());
            let text = std::str::from_utf8(bytes).expect("JSON is text");
            let apart = [b"[", &messages.join(&b","[..])[..], b"]"].concat();
            assert_eq!(Some(apart), rewrite_json(text), "{text}");
        }
        Err(status) => assert_eq!(status, 400),
    }
}

fn read_query(text: &str) {
    let read = query(text);
    let mut expected: Vec<(&str, Option<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        // Where others guess, `qs` leaves a text as it is.
        if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
            return;
        }
        let (plain, suffix) = name.split_once('[').map_or((&*name, false), |(plain, _)| (plain, true));
        let Some(known) = ["action", "hostId", "token", "timestamp", "uhst", "key", "batch"]
            .into_iter()
            .find(|known| *known == plain)
        else {
            continue;
        };
        match expected.iter_mut().find(|(name, _)| *name == known) {
            Some((_, many)) => *many = None,
            None => expected.push((known, (!suffix).then(|| value.into_owned()))),
        }
    }
    let bad_escape = text.bytes().enumerate().any(|(at, byte)| {
        let hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
        byte == b'%' && !(hex(at + 1) && hex(at + 2))
    });
    if !bad_escape {
        expected.sort_by_key(|(name, _)| *name);
        let mut read = read;
        read.sort_by_key(|(name, _)| *name);
        assert_eq!(read, expected, "{text}");
    }
}

fn read_body(kind: &[u8], encoding: &[u8], bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut read = Err(0);
    let memory = measure(|| read = body(kind, encoding, bytes, LIMIT)).bytes_max;
    assert!(memory < MEMORY, "{memory} bytes of memory");
    match read {
        Ok(out) => {
            // At worst a number: `1e20` and its comma become 22 bytes.
            assert!(out.len() <= 5 * LIMIT, "{} bytes", out.len());
            let text = String::from_utf8(out).expect("JSON is text");
            assert_eq!(rewrite_json(&text).as_deref(), Some(text.as_bytes()));
        }
        Err(status) => assert!([400, 413, 415].contains(&status), "{status}"),
    }
}
