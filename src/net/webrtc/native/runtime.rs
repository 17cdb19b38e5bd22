//! What `webrtc` runs on: tokio, with two of its habits mended. `docs/webrtc-driver-wakeup.md` says how to mend them
//! at their source; once that is released, [`TokioRuntime`] does instead of this file.

use std::{
    future::{self, Future},
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::resolve::resolve;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The runtime of one peer connection.
///
/// Its driver writes what is ready, then handles events, then sleeps until its next timer. What the events made ready
/// (the ClientHello once ICE has a pair, the SCTP INIT once DTLS is up, …) stays behind, up to 200 ms each time. So
/// every first sleep ends at once and gives the driver another round, and only the second is slept: nothing polls, and
/// nothing is left behind.
#[derive(Debug, Default)]
pub(super) struct EagerRuntime {
    /// The task whose sleeps these are; others sleep as they say.
    driver: Arc<OnceLock<tokio::task::Id>>,
    /// Whether the driver has been around once since it last had something to do.
    settled: Arc<AtomicBool>,
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
        if self.driver.get().copied() != tokio::task::try_id() || self.settled.swap(false, Ordering::Relaxed) {
            return TokioRuntime.sleep(duration);
        }
        let settled = self.settled.clone();
        // Only when it is polled: the driver may find a packet first, and then starts over.
        Box::pin(future::poll_fn(move |_| {
            settled.store(true, Ordering::Relaxed);
            std::task::Poll::Ready(())
        }))
    }

    /// The driver resolves its servers one after the other and does nothing else meanwhile, not even for addresses
    /// that need no server.
    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(resolve(host))
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
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
