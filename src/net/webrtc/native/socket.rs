//! A socket of a peer connection. What the kernel has put together is received by way of one buffer for each thread,
//! and what it can take apart is given to it together.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::{outbox::Outbox, runtime::Progress};

/// What a socket may receive at once: 64 datagrams of one flow, each as large as Ethernet carries.
const AT_ONCE: usize = 64 * 1500;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives datagrams one by one.
///
/// A driver that is told of several at once has a buffer of [`AT_ONCE`] for each of its sockets, and one more: half a
/// megabyte for each peer.
#[derive(Debug)]
pub(super) struct OneByOne {
    socket: Arc<dyn AsyncUdpSocket>,
    /// Of the driver that receives from it.
    progress: Arc<Progress>,
    outbox: Arc<Outbox>,
    rest: Mutex<Rest>,
}

/// What was received with the datagram before.
#[derive(Debug, Default)]
struct Rest {
    datagrams: Bytes,
    meta: RecvMeta,
}

impl OneByOne {
    pub fn new(socket: Arc<dyn AsyncUdpSocket>, progress: Arc<Progress>, outbox: Arc<Outbox>) -> Self {
        OneByOne { socket, progress, outbox, rest: Mutex::default() }
    }
}

impl AsyncUdpSocket for OneByOne {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        // Before it is connected, the driver does other things than rounds.
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
                self.progress.moved();
                let [first] = first;
                let (datagram, others) = buffer[..first.len].split_at(first.len.min(first.stride));
                *meta = give(datagram, buf, first);
                *rest = Rest { datagrams: Bytes::copy_from_slice(others), meta: first };
                Poll::Ready(Ok(1))
            })
        } else {
            let len = rest.datagrams.len().min(rest.meta.stride);
            *meta = give(&rest.datagrams[..len], buf, rest.meta);
            rest.datagrams.advance(len);
            if rest.datagrams.is_empty() {
                // An empty `Bytes` keeps all of what it was a part of.
                rest.datagrams = Bytes::new();
            }
            Poll::Ready(Ok(1))
        }
    }
}

/// Of a larger one than there is room for, the end is lost, as a socket does it.
fn give(datagram: &[u8], buf: &mut [u8], mut meta: RecvMeta) -> RecvMeta {
    let len = datagram.len().min(buf.len());
    buf[..len].copy_from_slice(&datagram[..len]);
    (meta.len, meta.stride) = (len, len.max(1));
    meta
}
