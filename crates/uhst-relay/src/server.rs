//! The relay server: its socket, its connections and its shutdown.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use socket2::{Domain, Socket as Socket2, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use url::Url;

use super::{RelayConfig, RelayStartError, connection, proxies, service::Service, tls::Tls, web_files::WebFiles};
use uhst_proto::protocol::{AddressUse, LocalAddress, by_rank, outward};

/// The interval at which expired rate-limit entries are removed.
const PRUNE: Duration = Duration::from_secs(60);
/// The most connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The code of "Address family not supported" on Linux, macOS and Windows.
const EAFNOSUPPORT: [i32; 3] = [97, 47, 10047];
/// The pause after a failed accept, for example because there are no file handles left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between the ends of two streams while the relay drains.
const STAGGER: Duration = Duration::from_millis(100);
/// The interval at which a draining relay checks whether all streams have ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// A running relay. It runs on the tokio runtime on which it was started.
///
/// Dropping it stops the relay immediately: the port is free again, and every connection is reset.
#[must_use = "dropping a relay stops it"]
pub struct RelayServer {
    addr: SocketAddr,
    secure: bool,
    shutdown_timeout: Duration,
    socket: Arc<Socket>,
    service: Arc<Service>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Closes when the server task ends for any reason.
    alive: watch::Receiver<()>,
}

/// The listening socket. It can be closed at once, whereas the runtime needs a moment to drop the task that accepts.
struct Socket(Mutex<Option<TcpListener>>);

impl Socket {
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Accepts a connection. Returns `None` if the socket is closed.
    async fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        poll_fn(|context| match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listener) => listener.poll_accept(context).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }
}

impl RelayServer {
    /// Binds the port and starts to serve. The relay accepts connections once this returns.
    ///
    /// # Errors
    ///
    /// Returns [`RelayStartError::PortInUse`] if every port that may be tried is in use, and other errors if the
    /// address, the secret, the TLS files or the random number generator of the system cannot be used.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O and time enabled.
    pub async fn start(config: RelayConfig) -> Result<RelayServer, RelayStartError> {
        let secret = match &config.secret {
            Some(secret) if !secret.is_empty() => {
                let (length, shortest) = (secret.len(), RelayConfig::SHORTEST_SECRET);
                if length < shortest {
                    return Err(RelayStartError::ShortSecret { length, shortest });
                }
                secret.as_bytes().to_vec()
            }
            _ => {
                let mut random = vec![0; 32];
                getrandom::fill(&mut random).map_err(|error| RelayStartError::Random(error.to_string()))?;
                random
            }
        };
        let files = config.web_files.clone();
        // A web build takes a while to hash, and this thread may carry the sessions of an app.
        let web_files = match tokio::task::spawn_blocking(move || WebFiles::new(&files)).await {
            Ok(web_files) => web_files.map_err(|path| RelayStartError::WebFile { path })?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let tls = config.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
        let listener = bind(config.bind, config.port_attempts).await?;
        let addr = listener.local_addr().map_err(|source| RelayStartError::Bind { addr: config.bind, source })?;

        let shutdown_timeout = config.shutdown_timeout;
        let socket = Arc::new(Socket(Mutex::new(Some(listener))));
        let service = Arc::new(Service::new(config, web_files, &secret));
        let stopping = watch::Sender::new(false);
        let secure = tls.is_some();
        let (lives, alive) = watch::channel(());
        let serving = serve(socket.clone(), service.clone(), tls, stopping.subscribe());
        let server = tokio::spawn(async move {
            let _lives = lives;
            serving.await;
        });
        tracing::info!(%addr, "relay is listening");
        Ok(RelayServer { addr, secure, shutdown_timeout, socket, service, stopping, server, alive })
    }

    /// The address the relay listens on, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port the relay listens on.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The addresses at which others can reach this relay, the most likely first: the interface of the default route,
    /// other local networks, public addresses, IPv6, containers, and loopback last. Link-local IPv6 addresses are
    /// omitted, because a URL cannot name their interface.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.addr.ip();
        if !bound.is_unspecified() {
            return vec![self.addr];
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the addresses of this machine");
            Vec::new()
        });
        let mut found: Vec<_> = interfaces
            .into_iter()
            .map(|found| LocalAddress { is_up: found.is_oper_up(), address: found.ip(), interface: found.name })
            .collect();
        if found.is_empty() {
            let address = Ipv4Addr::LOCALHOST.into();
            found.push(LocalAddress { interface: String::new(), address, is_up: true });
        }
        // An IPv4 socket cannot be reached over IPv6.
        found.retain(|local| bound.is_ipv6() || local.address.is_ipv4());
        let addresses = by_rank(&found, &outward(), AddressUse::Link).into_iter();
        addresses.map(|address| SocketAddr::new(address, self.port())).collect()
    }

    /// The [`addresses`](RelayServer::addresses) as URLs.
    pub fn urls(&self) -> Vec<Url> {
        let scheme = if self.secure { "https" } else { "http" };
        self.addresses().iter().filter_map(|address| Url::parse(&format!("{scheme}://{address}/")).ok()).collect()
    }

    /// Completes when the relay has stopped without a call to [`shutdown`](Self::shutdown) or [`drain`](Self::drain).
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Hands over to another relay within the given time, and shuts down.
    ///
    /// Requests to host, join or listen are redirected to [`RelayConfig::moved_to`], or refused (503) if it is `None`.
    /// Streams end one after the other, each host's before those of its clients, so that peers do not all reconnect at
    /// once. Messages are passed on until then. If `moved_to` is set, the relay keeps redirecting for most of the given
    /// time, because some peers reconnect late.
    pub async fn drain(self, within: Duration) {
        let end = Instant::now() + within;
        self.service.drain();
        let streams = self.service.sessions.all();
        let pause = within.mul_f64(0.8) / u32::try_from(streams.len().max(1)).unwrap_or(u32::MAX);
        let pause = pause.min(STAGGER);
        for stream in streams {
            stream.finish();
            sleep(pause).await;
        }
        while self.service.sessions.listeners() > 0 && Instant::now() < end {
            sleep_until(end.min(Instant::now() + DRAIN_POLL)).await;
        }
        if self.service.config.moved_to.is_some() {
            sleep_until(end - within / 10).await;
        }
        let left = end.saturating_duration_since(Instant::now()).min(self.shutdown_timeout);
        self.end(left).await;
    }

    /// Shuts down gracefully: frees the port, ends every stream, and answers pending requests. Waits at most
    /// [`RelayConfig::shutdown_timeout`].
    pub async fn shutdown(self) {
        let within = self.shutdown_timeout;
        self.end(within).await;
    }

    async fn end(mut self, within: Duration) {
        self.socket.close();
        self.service.sessions.close();
        self.stopping.send_replace(true);
        if timeout(within, &mut self.server).await.is_err() {
            tracing::warn!("closed connections that did not end in time");
        }
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        self.socket.close();
        self.server.abort();
    }
}

impl std::fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Binds the first free port. `[::]` accepts both address families, or only IPv4 on a machine without IPv6.
async fn bind(addr: SocketAddr, attempts: u16) -> Result<TcpListener, RelayStartError> {
    let last = addr.port().saturating_add(attempts.saturating_sub(1));
    let mut ip = addr.ip();
    for port in addr.port()..=last {
        let listener = match listen(SocketAddr::new(ip, port)) {
            Err(error) if ip == Ipv6Addr::UNSPECIFIED && is_without_ipv6(&error) => {
                ip = Ipv4Addr::UNSPECIFIED.into();
                listen(SocketAddr::new(ip, port))
            }
            listener => listener,
        };
        match listener {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(RelayStartError::Bind { addr: SocketAddr::new(ip, port), source }),
        }
    }
    Err(RelayStartError::PortInUse { addr })
}

/// Opens a listening socket. On Unix, the port can be reused while old connections are in `TIME_WAIT`.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket2::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        // Some systems enable this by default.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Returns whether IPv6 is missing or disabled.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(|code| EAFNOSUPPORT.contains(&code))
}

/// Accepts connections until the socket is closed, and then waits for the open ones.
async fn serve(socket: Arc<Socket>, service: Arc<Service>, tls: Option<Arc<Tls>>, mut stopping: watch::Receiver<bool>) {
    // Dropping this task drops all connections.
    let mut connections = JoinSet::new();
    let _background_tasks = background_tasks(&service, tls.as_ref());
    let mut prune = interval(PRUNE);
    prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => {
                service.metrics.connections.set(connections.len() as f64);
                continue;
            }
            _ = prune.tick() => {
                service.prune();
                continue;
            }
            _ = stopping.changed() => break,
        };
        match accepted {
            None => break,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
            Some(Ok((stream, peer))) => {
                let is_proxy = proxies::is_trusted(peer.ip(), &service.config.trusted_proxies);
                match service.connection_limits.admit(peer.ip(), is_proxy) {
                    Ok(permit) => {
                        let tls = tls.as_ref().map(|tls| tls.acceptor());
                        let (service, stopping) = (service.clone(), stopping.clone());
                        connections.spawn(connection::serve(stream, permit, service, tls, stopping));
                    }
                    Err(refusal) => service.metrics.refused(refusal),
                }
                service.metrics.connections.set(connections.len() as f64);
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Spawns the tasks that run beside the connections. They stop when the result is dropped.
fn background_tasks(service: &Arc<Service>, tls: Option<&Arc<Tls>>) -> JoinSet<()> {
    let mut background_tasks = JoinSet::new();
    let scheduler = service.scheduler.clone();
    background_tasks.spawn(async move { scheduler.run().await });
    if let Some(tls) = tls.cloned() {
        background_tasks.spawn(async move { tls.run().await });
    }
    let service = service.clone();
    background_tasks.spawn(async move {
        if let Some(directory) = &service.directory {
            directory.run().await;
        }
    });
    background_tasks
}
