//! An open event stream.
//!
//! hyper writes the response head and the first bytes. Then this module takes over the connection and writes the rest
//! itself, so that the request buffers, which take most of a connection's memory, are freed. An open stream consists of
//! a socket and a queue.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{listener::Listener, sessions::Sessions};

/// The first bytes of every stream.
const CONNECTED: Bytes = Bytes::from_static(b": Connected.\n");
/// The comment that shows proxies and peers that the stream is alive.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": sse-keep-alive\n");
const KEEP_ALIVE_CHUNK: Bytes = Bytes::from_static(b"11\r\n: sse-keep-alive\n\r\n");
/// The most bytes that a peer may send on its stream, such as pipelined requests. They are read and dropped.
const MAX_RECEIVED: usize = 64 * 1024;
/// The end of a chunked body.
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A listener's subscription to its session. Dropping it ends the subscription.
pub(super) struct Subscription {
    listener: Arc<Listener>,
    sessions: Arc<Sessions>,
    keep_alive: Duration,
}

impl Subscription {
    pub(super) fn new(listener: Arc<Listener>, sessions: Arc<Sessions>, keep_alive: Duration) -> Self {
        Subscription { listener, sessions, keep_alive }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.listener.finish();
        self.sessions.unsubscribe(&self.listener);
    }
}

/// Hands a subscription from the response that hyper writes to the task that serves the connection.
#[derive(Clone, Default)]
pub(super) struct SubscriptionSlot(Arc<Mutex<Option<Subscription>>>);

impl SubscriptionSlot {
    fn put(&self, subscription: Subscription) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(subscription);
    }

    pub(super) fn take(&self) -> Option<Subscription> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The part of a stream that hyper writes: the body of the response to a listening peer.
pub(super) struct StreamHead {
    slot: SubscriptionSlot,
    subscription: Option<Subscription>,
    head_written: bool,
}

impl StreamHead {
    pub(super) fn new(slot: SubscriptionSlot, subscription: Subscription) -> Self {
        StreamHead { slot, subscription: Some(subscription), head_written: false }
    }
}

impl Body for StreamHead {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.head_written {
            self.head_written = true;
            return Poll::Ready(Some(Ok(Frame::data(CONNECTED))));
        }
        if let Some(subscription) = self.subscription.take() {
            self.slot.put(subscription);
        }
        // The connection checks for the subscription after each poll of hyper.
        Poll::Pending
    }
}

/// Writes the rest of a stream, until the connection ends.
pub(super) struct StreamWriter<S> {
    io: S,
    subscription: Subscription,
    keep_alive: Interval,
    /// Bytes that are not written yet.
    writing: Bytes,
    ended: bool,
    /// The number of bytes the peer has sent.
    received: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamWriter<S> {
    pub(super) fn new(io: S, subscription: Subscription) -> Self {
        let mut keep_alive = interval_at(Instant::now() + subscription.keep_alive, subscription.keep_alive);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StreamWriter { io, subscription, keep_alive, writing: Bytes::new(), ended: false, received: 0 }
    }

    /// Completes when the peer has closed its side. Data from the peer is ignored, and more than [`MAX_RECEIVED`] bytes
    /// end the stream.
    fn poll_closed(&mut self, context: &mut Context) -> Poll<()> {
        let mut scrap = [0; 256];
        loop {
            let mut read = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.io).poll_read(context, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.received += read.filled().len(),
                _ => return Poll::Ready(()),
            }
            if self.received > MAX_RECEIVED {
                return Poll::Ready(());
            }
        }
    }

    /// Returns the next bytes to write.
    fn poll_next(&mut self, context: &mut Context) -> Poll<Bytes> {
        let listener = &self.subscription.listener;
        if self.keep_alive.poll_tick(context).is_ready() {
            return Poll::Ready(if listener.is_chunked() { KEEP_ALIVE_CHUNK } else { KEEP_ALIVE });
        }
        let next = ready!(listener.poll_events(context));
        Poll::Ready(next.unwrap_or_else(|| {
            self.ended = true;
            if listener.is_chunked() { LAST_CHUNK } else { Bytes::new() }
        }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for StreamWriter<S> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.poll_closed(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            while this.writing.has_remaining() {
                match ready!(Pin::new(&mut this.io).poll_write(context, &this.writing))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => {
                        this.writing.advance(written);
                        this.subscription.listener.wrote();
                    }
                }
            }
            if this.ended {
                return Pin::new(&mut this.io).poll_shutdown(context);
            }
            // An empty `Bytes` keeps the allocation it was split from, so an idle stream would retain its last message.
            this.writing = Bytes::new();
            match this.poll_next(context) {
                Poll::Ready(next) => this.writing = next,
                Poll::Pending => {
                    // Written data may still have to be encrypted.
                    ready!(Pin::new(&mut this.io).poll_flush(context))?;
                    return Poll::Pending;
                }
            }
        }
    }
}
