//! A socket of a peer connection. It splits received batches by way of one buffer per thread, and sends datagrams in
//! batches.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::{outbox::Outbox, progress::Progress};

/// The bytes that a socket may receive at once: 64 datagrams of one flow, each of Ethernet's size.
const AT_ONCE: usize = 64 * 1500;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket that delivers datagrams one by one.
///
/// A driver that receives batches has a buffer of [`AT_ONCE`] for each of its sockets, and one more: half a megabyte per
/// peer.
#[derive(Debug)]
pub(super) struct SplittingSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    /// The progress of the driver that receives.
    progress: Arc<Progress>,
    outbox: Arc<Outbox>,
    rest: Mutex<Rest>,
}

/// The rest of a received batch.
#[derive(Debug, Default)]
struct Rest {
    datagrams: Bytes,
    meta: RecvMeta,
}

impl SplittingSocket {
    pub fn new(socket: Arc<dyn AsyncUdpSocket>, progress: Arc<Progress>, outbox: Arc<Outbox>) -> Self {
        SplittingSocket { socket, progress, outbox, rest: Mutex::default() }
    }
}

impl AsyncUdpSocket for SplittingSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        // Before the connection, the driver also sends outside of its rounds.
        if self.progress.is_connected() {
            self.outbox.poll_push(cx, &self.socket, transmit)
        } else {
            self.socket.poll_send(cx, transmit)
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let ([buf, ..], [meta, ..]) = (bufs, meta) else { return Poll::Ready(Ok(0)) };
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if rest.datagrams.is_empty() {
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(AT_ONCE, 0);
                let mut first = [RecvMeta::default()];
                ready!(self.socket.poll_recv(cx, &mut [IoSliceMut::new(buffer)], &mut first))?;
                let [first] = first;
                let (datagram, others) = buffer[..first.len].split_at(first.len.min(first.stride));
                self.progress.set_received(datagram);
                *meta = copy_out(datagram, buf, first);
                *rest = Rest { datagrams: Bytes::copy_from_slice(others), meta: first };
                Poll::Ready(Ok(1))
            })
        } else {
            let len = rest.datagrams.len().min(rest.meta.stride);
            *meta = copy_out(&rest.datagrams[..len], buf, rest.meta);
            rest.datagrams.advance(len);
            if rest.datagrams.is_empty() {
                // An empty `Bytes` keeps its whole buffer alive.
                rest.datagrams = Bytes::new();
            }
            Poll::Ready(Ok(1))
        }
    }
}

/// Copies a datagram into `buf`. The end of a larger one is lost, as with any socket.
fn copy_out(datagram: &[u8], buf: &mut [u8], mut meta: RecvMeta) -> RecvMeta {
    let len = datagram.len().min(buf.len());
    buf[..len].copy_from_slice(&datagram[..len]);
    (meta.len, meta.stride) = (len, len.max(1));
    meta
}
