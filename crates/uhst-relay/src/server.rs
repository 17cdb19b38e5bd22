//! The running relay: its socket, its connections and its end.

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

use super::{RelayConfig, RelayStartError, connection, proxies, service::Service, tls::Tls};
use uhst_proto::protocol::{AddressRank, LocalAddress, by_rank, outward};

/// How often quiet addresses are forgotten.
const PRUNE: Duration = Duration::from_secs(60);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// "Address family not supported" on Linux, macOS and Windows.
const EAFNOSUPPORT: [i32; 3] = [97, 47, 10047];
/// After the system has refused a connection, for want of file handles say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between the ends of two streams of a relay that drains: few of them need no time.
const STAGGER: Duration = Duration::from_millis(100);
/// How often a relay that drains looks whether all streams have ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// A running relay, on the tokio runtime it was started on.
///
/// Dropping it ends everything at once: the port is free again, every connection is reset.
pub struct RelayServer {
    addr: SocketAddr,
    secure: bool,
    shutdown_timeout: Duration,
    socket: Arc<Socket>,
    service: Arc<Service>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Closed when the server ends, however it does.
    alive: watch::Receiver<()>,
}

/// The listening socket, which can be closed while it waits: dropping a task takes the runtime a moment.
struct Socket(Mutex<Option<TcpListener>>);

impl Socket {
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// `None`: it is closed.
    async fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        poll_fn(|context| match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listener) => listener.poll_accept(context).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }
}

impl RelayServer {
    /// Binds the port and starts serving. The relay serves once this returns.
    ///
    /// # Errors
    ///
    /// [`RelayStartError::PortInUse`] when every port that may be tried is taken, and others when the address, the secret,
    /// the TLS files or the system's random numbers do not work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time.
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
        let tls = config.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
        let listener = bind(config.bind, config.port_attempts).await?;
        let addr = listener.local_addr().map_err(|source| RelayStartError::Bind { addr: config.bind, source })?;

        let shutdown_timeout = config.shutdown_timeout;
        let socket = Arc::new(Socket(Mutex::new(Some(listener))));
        let service = Arc::new(Service::new(config, &secret));
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

    /// The address it listens on, with the port it really has.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The addresses under which this relay can be reached, the likeliest first: those of the default route's interface,
    /// of other local networks, public ones, IPv6, those of containers, and the machine itself last. Link-local IPv6 is
    /// left out, since no URL can name its interface.
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
        // An IPv4 socket is not reached over IPv6.
        found.retain(|local| bound.is_ipv6() || local.address.is_ipv4());
        by_rank(&found, &outward())
            .into_iter()
            .filter(|(rank, _)| *rank != AddressRank::LinkLocalV6)
            .map(|(_, address)| SocketAddr::new(address, self.port()))
            .collect()
    }

    /// The same [`addresses`](RelayServer::addresses) as URLs.
    pub fn urls(&self) -> Vec<Url> {
        let scheme = if self.secure { "https" } else { "http" };
        self.addresses().iter().filter_map(|address| Url::parse(&format!("{scheme}://{address}/")).ok()).collect()
    }

    /// Ready when the relay does not serve any more, although nobody has ended it.
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Makes room for another relay, in at most this time, and ends.
    ///
    /// Nobody new may host, join or listen: they are sent to [`RelayConfig::moved_to`], or asked to come again. The
    /// streams end one after the other, each host's before those of its clients, so that not all come back at once.
    /// Until then messages are passed on. With another relay to send them to, this one answers for all of this time,
    /// since some come late.
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

    /// Ends gracefully: frees the port, ends every stream, and answers what is being sent.
    pub async fn shutdown(self) {
        let within = self.shutdown_timeout;
        self.end(within).await;
    }

    async fn end(mut self, within: Duration) {
        self.socket.close();
        self.service.sessions.close();
        self.stopping.send_replace(true);
        if timeout(within, &mut self.server).await.is_err() {
            tracing::warn!("connections were cut: they did not end in time");
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

/// Binds the first free port. `[::]` takes both families, and IPv4 alone where this machine has no IPv6.
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

/// On Unix, a port may be bound again at once while old connections of it fade out.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket2::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        // Some systems say yes by default.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Also where IPv6 is there and switched off.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(|code| EAFNOSUPPORT.contains(&code))
}

/// Accepts connections until the socket is closed, then waits for those that are open.
async fn serve(socket: Arc<Socket>, service: Arc<Service>, tls: Option<Arc<Tls>>, mut stopping: watch::Receiver<bool>) {
    // Dropped with this task, and all connections with it.
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

/// What runs background_tasks the connections, until this is dropped.
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
