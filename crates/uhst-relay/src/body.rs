//! Request bodies: which ones the original's body parser accepts, and the status for those it rejects.

use std::{
    borrow::Cow,
    future::poll_fn,
    io::{self, Read},
    pin::Pin,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Incoming},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{budget::Charge, json};
use uhst_proto::protocol;

/// The most messages in one batch. The limit exists because the listener receives an envelope for each.
pub(super) const MAX_BATCH: usize = 64;
/// The most bytes read of a body that is rejected or ignored. Reading it lets the sender see the response.
const MAX_DISCARDED: usize = 1 << 20;
/// The longest time spent reading a body that is ignored.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// An accepted message body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// No body, or a body of a content type that is not parsed. It is delivered as `{}`.
    Empty,
    /// A body that claims to be JSON and has not been checked.
    Json(Bytes),
}

impl Message {
    pub(super) fn new(bytes: Bytes) -> Self {
        if bytes.is_empty() { Message::Empty } else { Message::Json(bytes) }
    }

    /// Splits a batch into its messages. A listener receives either all of them together or none.
    pub(super) fn parts(&self) -> Result<Vec<Message>, StatusCode> {
        let Message::Json(bytes) = self else { return Err(StatusCode::BAD_REQUEST) };
        let parts: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|_| StatusCode::BAD_REQUEST)?;
        if parts.is_empty() || parts.len() > MAX_BATCH {
            return Err(StatusCode::BAD_REQUEST);
        }
        Ok(parts.into_iter().map(|part| Message::new(bytes.slice_ref(part.get().as_bytes()))).collect())
    }

    /// Returns whether this is a text that an original peer sends over the relay transport.
    pub(super) fn is_text(&self) -> bool {
        let Message::Json(bytes) = self else { return false };
        let body = std::str::from_utf8(bytes).ok().and_then(|json| protocol::Body::parse(json).ok());
        matches!(body, Some(protocol::Body::Text(_)))
    }

    /// The approximate length of the written message in bytes.
    pub(super) fn len(&self) -> usize {
        if let Message::Json(bytes) = self { bytes.len() } else { 2 }
    }

    /// Appends the message to an event as the original writes it. Returns a status if the body is not valid.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), StatusCode> {
        let Message::Json(bytes) = self else {
            out.extend_from_slice(b"{}");
            return Ok(());
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        json::rewrite(text, out).map_err(|json::NotJson| StatusCode::BAD_REQUEST)
    }
}

/// The supported content codings. Brotli is not supported: the original relay reads it, but none of its peers sends it,
/// and a few bytes of it make a decoder allocate up to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentCoding {
    Identity,
    Gzip,
    Deflate,
}

impl ContentCoding {
    /// The largest encoded size of `limit` decoded bytes. Incompressible data grows a little.
    pub(super) fn max_encoded_len(self, limit: usize) -> usize {
        if self == ContentCoding::Identity { limit } else { limit + limit / 8 + 1024 }
    }
}

/// Reads the body of a request, up to `limit` bytes after decompression. The charge grows with the bytes kept; the
/// result is 503 if there is no memory for them.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    mut charge: Charge,
) -> Result<(Message, Charge), StatusCode> {
    let has_body = headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(CONTENT_LENGTH);
    if !has_body {
        return Ok((Message::Empty, charge));
    }
    let read = match json_coding(headers) {
        Ok(Some(coding)) => match collect(&mut body, coding.max_encoded_len(limit), &mut charge).await {
            Ok(bytes) => decompress(bytes, coding, limit),
            Err(status) => Err(status),
        },
        Ok(None) => Ok(Bytes::new()),
        Err(status) => Err(status),
    };
    drain(&mut body).await;
    read.map(|bytes| (Message::new(bytes), charge))
}

/// Returns the content coding of a JSON body, or `None` if the body is not JSON.
pub(super) fn json_coding(headers: &HeaderMap) -> Result<Option<ContentCoding>, StatusCode> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text(&CONTENT_TYPE).split(';').map(str::trim);
    if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return Ok(None);
    }
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        if name.trim().eq_ignore_ascii_case("charset") && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
    }
    match text(&CONTENT_ENCODING).to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Some(ContentCoding::Identity)),
        "gzip" => Ok(Some(ContentCoding::Gzip)),
        "deflate" => Ok(Some(ContentCoding::Deflate)),
        _ => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}

/// Returns the next chunk of a body, or an error if the sender aborted it.
async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, StatusCode> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(_)) => return Err(StatusCode::BAD_REQUEST),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn collect(body: &mut Incoming, limit: usize, charge: &mut Charge) -> Result<Bytes, StatusCode> {
    let too_large = StatusCode::PAYLOAD_TOO_LARGE;
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large);
    }
    // The charge covers the announced length at once, or grows with the data if no length was announced.
    let announced = body.size_hint().lower() as usize;
    let mut keep = |bytes| if charge.grow(bytes) { Ok(()) } else { Err(StatusCode::SERVICE_UNAVAILABLE) };
    keep(announced)?;
    let Some(first) = chunk(body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity((first.len() + body.size_hint().lower() as usize).min(limit));
    let mut next = Some(first);
    while let Some(bytes) = next {
        if all.len() + bytes.len() > limit {
            return Err(too_large);
        }
        if announced == 0 {
            keep(bytes.len())?;
        }
        all.extend_from_slice(&bytes);
        next = chunk(body).await?;
    }
    Ok(all.freeze())
}

/// Reads and drops a body that is ignored, within the bounds for a rejected one.
pub(super) async fn discard(mut body: Incoming) {
    if !body.is_end_stream() {
        let _ = timeout(DISCARD_TIMEOUT, drain(&mut body)).await;
    }
}

async fn drain(body: &mut Incoming) {
    let mut left = MAX_DISCARDED;
    while left > 0 && !body.is_end_stream() {
        match chunk(body).await {
            Ok(Some(bytes)) => left = left.saturating_sub(bytes.len()),
            _ => return,
        }
    }
}

pub(super) fn decompress(bytes: Bytes, coding: ContentCoding, limit: usize) -> Result<Bytes, StatusCode> {
    let mut out = Vec::new();
    let most = limit as u64 + 1;
    let read = |reader: &mut dyn Read, out: &mut Vec<u8>| -> io::Result<usize> { reader.take(most).read_to_end(out) };
    match coding {
        ContentCoding::Identity => return Ok(bytes),
        ContentCoding::Gzip => read(&mut flate2::read::MultiGzDecoder::new(&*bytes), &mut out),
        ContentCoding::Deflate => read(&mut flate2::read::ZlibDecoder::new(&*bytes), &mut out),
    }
    .map_err(|_| StatusCode::BAD_REQUEST)?;
    if out.len() > limit { Err(StatusCode::PAYLOAD_TOO_LARGE) } else { Ok(out.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn coding(headers: &[(&str, &str)]) -> Result<Option<ContentCoding>, u16> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect::<HeaderMap>();
        json_coding(&headers).map_err(|status| status.as_u16())
    }

    #[test]
    fn only_json_in_utf_8_is_parsed() {
        let of_type = |kind| coding(&[("content-type", kind)]);
        for kind in ["application/json", "Application/JSON; Charset=\"UTF-8\"", "application/json;charset=utf-8;x=y"] {
            assert_eq!(of_type(kind), Ok(Some(ContentCoding::Identity)), "{kind}");
        }
        for kind in ["text/plain", "application/jsonp", "application/vnd.api+json", "", "application/json, text/plain"]
        {
            assert_eq!(of_type(kind), Ok(None), "{kind}");
        }
        assert_eq!(of_type("application/json; charset=latin1"), Err(415));
        let json = ("content-type", "application/json");
        assert_eq!(coding(&[json, ("content-encoding", "GZIP")]), Ok(Some(ContentCoding::Gzip)));
        for unknown in ["zstd", "br", "gzip, gzip"] {
            assert_eq!(coding(&[json, ("content-encoding", unknown)]), Err(415));
        }
        assert_eq!(coding(&[("content-encoding", "zstd")]), Ok(None), "not parsed, so not decompressed");
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&[b' '; 1000]).expect("memory");
        let gzip = Bytes::from(gzip.finish().expect("memory"));
        assert_eq!(decompress(gzip.clone(), ContentCoding::Gzip, 1000).map(|bytes| bytes.len()), Ok(1000));
        assert_eq!(decompress(gzip.clone(), ContentCoding::Gzip, 999), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(decompress(gzip, ContentCoding::Deflate, 1000), Err(StatusCode::BAD_REQUEST));
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(b"{}").expect("memory");
        let zlib = zlib.finish().expect("memory").into();
        assert_eq!(decompress(zlib, ContentCoding::Deflate, 10).as_deref(), Ok(&b"{}"[..]));
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        let mut out = Vec::new();
        assert_eq!(Message::Json(Bytes::from_static(b"\xef\xbb\xbf[\"\xff\"]")).write(&mut out), Ok(()));
        assert_eq!(out, "[\"\u{fffd}\"]".as_bytes());
    }
}
