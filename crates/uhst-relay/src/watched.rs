//! A wrapper that observes the reads and writes of a stream and passes them on.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Observes the reads and writes of a stream.
pub(super) trait Watch: Unpin {
    /// Performs a read by calling `read`, which wakes the task of the context it is given.
    fn read(
        &mut self,
        context: &mut Context,
        read: impl FnOnce(&mut Context) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        read(context)
    }

    /// Observes the result of a write of `wanted` bytes, and may replace it.
    fn wrote(
        &mut self,
        _context: &mut Context,
        written: Poll<io::Result<usize>>,
        _wanted: usize,
    ) -> Poll<io::Result<usize>> {
        written
    }
}

/// A stream with an observer.
pub(super) struct Watched<S, W> {
    stream: S,
    watch: W,
}

impl<S, W> Watched<S, W> {
    pub(super) fn new(stream: S, watch: W) -> Self {
        Watched { stream, watch }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin, W: Watch> AsyncRead for Watched<S, W> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let Watched { stream, watch } = &mut *self;
        watch.read(context, |context| Pin::new(stream).poll_read(context, buffer))
    }
}

impl<S: AsyncWrite + Unpin, W: Watch> AsyncWrite for Watched<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch.wrote(context, written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        parts: &[IoSlice],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch.wrote(context, written, parts.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
