//! Files that a relay serves to browsers.

use std::borrow::Cow;

use bytes::Bytes;

/// A file for browsers, such as a page on which a phone joins the game, or a part of the game's web build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebFile {
    /// The path, with a leading slash, not percent-encoded. A browser that opens a join link requests `/`, for which a relay
    /// also serves `/index.html`.
    pub path: Cow<'static, str>,
    /// The `Content-Type`.
    pub content_type: Cow<'static, str>,
    /// The content.
    pub body: Bytes,
    /// The content as brotli, for browsers that take it. Most do so by HTTPS only. Default: none.
    pub brotli: Option<Bytes>,
    /// The content as gzip, for browsers that take it. Default: none.
    pub gzip: Option<Bytes>,
}

impl WebFile {
    /// Creates a file without compressed forms.
    pub fn new(
        path: impl Into<Cow<'static, str>>,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
    ) -> Self {
        let (path, content_type, body) = (path.into(), content_type.into(), body.into());
        WebFile { path, content_type, body, brotli: None, gzip: None }
    }
}
