//! Files that a relay serves to browsers beside the protocol.

use bytes::Bytes;

/// A file for browsers, such as a page on which a phone joins the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebFile {
    /// Its path, with the slash in front. `/` is what a browser gets that opens a join link.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its content.
    pub body: Bytes,
}
