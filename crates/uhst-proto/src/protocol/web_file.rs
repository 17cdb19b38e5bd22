//! Files that a relay serves to browsers.

use bytes::Bytes;

/// A file for browsers, such as a page on which a phone joins the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebFile {
    /// The path, with a leading slash. A browser that opens a join link requests `/`.
    pub path: &'static str,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub body: Bytes,
}
