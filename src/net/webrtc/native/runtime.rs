//! What `webrtc` runs on: tokio, with four of its habits mended. `docs/webrtc-driver-wakeup.md` says how to mend three
//! of them at their source; the fourth is in `socket`.

use std::{
    future::{self, Future},
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::{outbox::Outbox, resolve::resolve, socket::OneByOne};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The runtime of one peer connection.
///
/// Its driver writes what is ready, then handles events, then sleeps until its next timer. What the events made ready
/// (the ClientHello once ICE has a pair, the SCTP INIT once DTLS is up, …) stays behind, up to 200 ms each time. So
/// every first sleep ends at once and gives the driver another round, and only the second is slept: nothing polls, and
/// nothing is left behind. Once connected, it needs no second round when it was woken only to write.
#[derive(Debug)]
pub(super) struct EagerRuntime {
    /// The task whose sleeps these are; others sleep as they say.
    driver: Arc<OnceLock<tokio::task::Id>>,
    progress: Arc<Progress>,
    outbox: Arc<Outbox>,
}

/// What the driver of one peer connection does.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether it has been around once since it last had something to do.
    settled: AtomicBool,
    connected: AtomicBool,
    /// Whether something has come since it last slept: a datagram, or the time it slept for.
    moved: AtomicBool,
}

impl Progress {
    /// The peer is reached: what is to be done from here on begins with a datagram or a timer.
    pub fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    /// Whether the peer is reached.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// A datagram has come, or a timer is due.
    pub fn moved(&self) {
        self.moved.store(true, Ordering::Relaxed);
    }

    /// Whether another round is due before the next sleep.
    fn is_behind(&self) -> bool {
        let moved = self.moved.swap(false, Ordering::Relaxed);
        let settled = self.settled.swap(false, Ordering::Relaxed);
        moved || !settled && !self.is_connected()
    }
}

impl EagerRuntime {
    pub fn new(progress: Arc<Progress>) -> Self {
        EagerRuntime { driver: Arc::default(), progress, outbox: Arc::default() }
    }
}

impl Runtime for EagerRuntime {
    fn spawn(&self, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        // The first task of a connection is its driver.
        let driver = self.driver.clone();
        TokioRuntime.spawn(Box::pin(async move {
            driver.get_or_init(tokio::task::id);
            future.await;
        }))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if self.driver.get().copied() != tokio::task::try_id() {
            return TokioRuntime.sleep(duration);
        }
        // The end of a round. What the socket does not take now goes with the next, or while this one sleeps.
        let _ = self.outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
        let (progress, outbox) = (self.progress.clone(), self.outbox.clone());
        if self.progress.is_behind() {
            // Only when it is polled: the driver may find a packet first, and then starts over.
            return Box::pin(future::poll_fn(move |_| {
                progress.settled.store(true, Ordering::Relaxed);
                Poll::Ready(())
            }));
        }
        Box::pin(async move {
            future::poll_fn(|cx| outbox.poll_flush(cx)).await;
            tokio::time::sleep(duration).await;
            progress.moved();
        })
    }

    /// The driver resolves its servers one after the other and does nothing else meanwhile, not even for addresses
    /// that need no server.
    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(resolve(host))
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(OneByOne::new(TokioRuntime.wrap_udp_socket(socket)?, self.progress.clone(), self.outbox.clone())))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> BoxFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "tokio, eager"
    }
}
