//! Batches the datagrams that a driver sends in one round into one system call.
//!
//! The driver itself batches sixteen or more datagrams of one size. A message of 16 KiB has fourteen and a shorter one, so
//! the driver sends each with its own system call.

use std::{
    cell::RefCell,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use webrtc::runtime::{AsyncUdpSocket, Transmit};

/// The limit of a batch in bytes: that of a datagram, which the kernel checks first.
const MAX_BATCH: usize = 65_000;

thread_local! {
    /// The buffer for the next batch.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Datagrams for one address, all of one size except for the last, which may be shorter.
struct Batch {
    socket: Arc<dyn AsyncUdpSocket>,
    to: SocketAddr,
    size: usize,
    count: usize,
    bytes: Vec<u8>,
}

impl Batch {
    fn has_room_for(&self, socket: &Arc<dyn AsyncUdpSocket>, next: &Transmit<'_>) -> bool {
        Arc::ptr_eq(&self.socket, socket)
            && self.to == next.destination
            && self.bytes.len() == self.count * self.size
            && (1..=self.size).contains(&next.contents.len())
            && self.bytes.len() + next.contents.len() <= MAX_BATCH
            && self.count < self.socket.max_gso_segments()
    }
}

/// The datagrams that wait for the end of the round.
#[derive(Default)]
pub(super) struct Outbox(Mutex<Option<Batch>>);

impl Outbox {
    /// Adds a datagram. Sends the former batch first if it has no room for it.
    pub fn poll_push(
        &self,
        cx: &mut Context<'_>,
        socket: &Arc<dyn AsyncUdpSocket>,
        next: &Transmit<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut batch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batch) = &mut *batch
            && batch.has_room_for(socket, next)
        {
            batch.bytes.extend_from_slice(next.contents);
            batch.count += 1;
            return Poll::Ready(Ok(next.contents.len()));
        }
        ready!(poll_flush(&mut batch, cx));
        if next.segment_size.is_some() || next.ecn.is_some() || socket.max_gso_segments() < 2 {
            return socket.poll_send(cx, next);
        }
        let mut bytes = SPARE.take();
        bytes.extend_from_slice(next.contents);
        let (socket, to, size) = (socket.clone(), next.destination, next.contents.len());
        *batch = Some(Batch { socket, to, size, count: 1, bytes });
        Poll::Ready(Ok(size))
    }

    /// Sends the batch. Pending while the socket takes nothing.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_flush(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), cx)
    }
}

fn poll_flush(batch: &mut Option<Batch>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(Batch { socket, to, size, count, bytes }) = batch else { return Poll::Ready(()) };
    let segment_size = (*count > 1).then_some(*size);
    let transmit = Transmit { destination: *to, ecn: None, contents: bytes, segment_size, src_ip: None };
    if let Err(error) = ready!(socket.poll_send(cx, &transmit)) {
        // This is like a loss on the network, which the sender detects.
        tracing::debug!("{count} datagrams to {to} were not sent: {error}");
    }
    bytes.clear();
    SPARE.set(std::mem::take(bytes));
    *batch = None;
    Poll::Ready(())
}

impl Drop for Outbox {
    /// Sends the batch of a driver that has ended.
    fn drop(&mut self) {
        let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use webrtc::runtime::RecvMeta;

    use super::*;

    /// The port of a batch, and the lengths of its datagrams.
    type Sent = (u16, Vec<usize>);

    /// A socket that records what it sends. `None` while it takes nothing.
    #[derive(Debug, Default)]
    struct Socket(Mutex<Option<Vec<Sent>>>);

    impl Socket {
        fn sent(&self) -> Vec<Sent> {
            self.0.lock().expect("no panic").replace(Vec::new()).unwrap_or_default()
        }
    }

    impl AsyncUdpSocket for Socket {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }

        fn max_gso_segments(&self) -> usize {
            4
        }

        fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
            let mut sent = self.0.lock().expect("no panic");
            let Some(sent) = &mut *sent else { return Poll::Pending };
            let size = transmit.segment_size.unwrap_or(transmit.contents.len());
            let lengths = transmit.contents.chunks(size.max(1)).map(<[u8]>::len).collect();
            sent.push((transmit.destination.port(), lengths));
            Poll::Ready(Ok(transmit.contents.len()))
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    fn push(outbox: &Outbox, socket: &Arc<Socket>, port: u16, len: usize) -> bool {
        let contents = vec![0; len];
        let destination = ([127, 0, 0, 1], port).into();
        let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size: None, src_ip: None };
        let socket: Arc<dyn AsyncUdpSocket> = socket.clone();
        outbox.poll_push(&mut Context::from_waker(Waker::noop()), &socket, &transmit).is_ready()
    }

    fn flush(outbox: &Outbox) -> bool {
        outbox.poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn open() -> (Outbox, Arc<Socket>) {
        let socket = Arc::new(Socket(Mutex::new(Some(Vec::new()))));
        (Outbox::default(), socket)
    }

    #[test]
    fn datagrams_of_one_size_and_a_shorter_one_are_sent_together_at_the_end_of_the_round() {
        let (outbox, socket) = open();
        for len in [1200, 1200, 300] {
            assert!(push(&outbox, &socket, 7, len));
        }
        assert_eq!(socket.sent(), []);
        assert!(flush(&outbox));
        assert_eq!(socket.sent(), [(7, vec![1200, 1200, 300])]);
        assert!(flush(&outbox));
        assert_eq!(socket.sent(), [], "each once");
    }

    #[test]
    fn datagrams_in_different_batches_keep_their_order() {
        let (outbox, socket) = open();
        for (port, len) in [(7, 300), (7, 1200), (7, 200), (7, 200), (8, 200), (8, 0), (8, 200)] {
            assert!(push(&outbox, &socket, port, len));
        }
        assert!(flush(&outbox));
        let expected =
            [(7, vec![300]), (7, vec![1200, 200]), (7, vec![200]), (8, vec![200]), (8, vec![]), (8, vec![200])];
        assert_eq!(socket.sent(), expected);
        for _ in 0..5 {
            push(&outbox, &socket, 7, 100);
        }
        assert_eq!(socket.sent(), [(7, vec![100; 4])], "the limit of the kernel");
        drop(outbox);
        assert_eq!(socket.sent(), [(7, vec![100])], "dropping the outbox sends the rest");
    }

    #[test]
    fn a_full_socket_delays_the_batch() {
        let (outbox, socket) = open();
        push(&outbox, &socket, 7, 300);
        *socket.0.lock().expect("no panic") = None;
        assert!(!flush(&outbox));
        assert!(!push(&outbox, &socket, 8, 300), "the next datagram waits");
        socket.sent();
        assert!(flush(&outbox));
        assert_eq!(socket.sent(), [(7, vec![300])]);
    }
}
