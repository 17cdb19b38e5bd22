//! The runtime of `webrtc`: tokio, with workarounds for five problems of its driver. `docs/webrtc-driver-wakeup.md`
//! says how to fix four of them at their source; the fifth is in `socket`.

use std::{
    future::{self, Future},
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::{outbox::Outbox, progress::Progress, resolve::resolve, socket::SplittingSocket};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The runtime of one peer connection.
///
/// The driver writes ready output, then handles events, then sleeps until its next timer. Output of these events (the
/// ClientHello once ICE has a pair, the SCTP INIT once DTLS is up, …) waits for the next round, up to 200 ms each time. So
/// every first sleep ends at once and gives the driver another round, and only the second one sleeps. Once connected, the
/// driver needs no second round when it was woken only to write.
///
/// A driver whose path is idle wakes five times a second and finds nothing to do. Here it sleeps longer: see
/// [`Progress::rest`].
#[derive(Debug)]
pub(super) struct EagerRuntime {
    /// The task of the driver. Sleeps of other tasks are not changed.
    driver: Arc<OnceLock<tokio::task::Id>>,
    progress: Arc<Progress>,
    outbox: Arc<Outbox>,
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
        // The round ends. What the socket does not take now is sent in the next round, or during this sleep.
        let _ = self.outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
        let (progress, outbox) = (self.progress.clone(), self.outbox.clone());
        if self.progress.needs_another_round() {
            // Settled only when polled: the driver may find a packet first, and then starts over.
            return Box::pin(future::poll_fn(move |_| {
                progress.set_settled();
                Poll::Ready(())
            }));
        }
        Box::pin(async move {
            future::poll_fn(|cx| outbox.poll_flush(cx)).await;
            tokio::time::sleep(progress.rest(duration)).await;
            progress.set_woken();
        })
    }

    /// Resolves from a cache: the driver resolves its servers one after the other and does nothing else meanwhile, not even
    /// for addresses that need no server.
    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(resolve(host))
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(SplittingSocket::new(
            TokioRuntime.wrap_udp_socket(socket)?,
            self.progress.clone(),
            self.outbox.clone(),
        )))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> BoxFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.progress.set_stream();
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
