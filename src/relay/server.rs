//! The running relay: its socket, its connections and its end.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::{RelayConfig, RelayError, connection, service::Service, tls};

/// How often quiet addresses are forgotten.
const TIDY: Duration = Duration::from_secs(60);
/// After the system has refused a connection, for want of file handles say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running relay, on the tokio runtime it was started on.
///
/// Dropping it ends everything at once: the port is free again, every connection is reset.
pub struct Relay {
    addr: SocketAddr,
    secure: bool,
    shutdown_timeout: Duration,
    socket: Arc<Socket>,
    service: Arc<Service>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
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

impl Relay {
    /// Binds the port and starts serving. The relay serves once this returns.
    ///
    /// # Errors
    ///
    /// [`RelayError::PortInUse`] when every port that may be tried is taken, and others when the address, the TLS
    /// files or the system's random numbers do not work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time.
    pub async fn start(config: RelayConfig) -> Result<Relay, RelayError> {
        let secret = match &config.secret {
            Some(secret) if !secret.is_empty() => secret.as_bytes().to_vec(),
            _ => {
                let mut random = vec![0; 32];
                getrandom::fill(&mut random).map_err(|error| RelayError::Random(error.to_string()))?;
                random
            }
        };
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = bind(config.bind, config.port_attempts).await?;
        let addr = listener.local_addr().map_err(|source| RelayError::Bind { addr: config.bind, source })?;

        let shutdown_timeout = config.shutdown_timeout;
        let socket = Arc::new(Socket(Mutex::new(Some(listener))));
        let service = Arc::new(Service::new(config, &secret));
        let stopping = watch::Sender::new(false);
        let secure = tls.is_some();
        let server = tokio::spawn(serve(socket.clone(), service.clone(), tls, stopping.subscribe()));
        tracing::info!(%addr, "relay is listening");
        Ok(Relay { addr, secure, shutdown_timeout, socket, service, stopping, server })
    }

    /// The address it listens on, with the port it really has.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The addresses under which this relay can be reached, the most useful first: IPv4 on the local network, public
    /// IPv4, IPv6, and the machine itself last. Link-local ones are left out.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.addr.ip();
        if !bound.is_unspecified() {
            return vec![self.addr];
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the addresses of this machine");
            Vec::new()
        });
        let mut addresses: Vec<IpAddr> = interfaces.iter().map(|interface| interface.ip()).collect();
        addresses.push(Ipv4Addr::LOCALHOST.into());
        // An IPv4 socket is not reached over IPv6.
        addresses.retain(|address| (bound.is_ipv6() || address.is_ipv4()) && !is_link_local(address));
        let outward = outward();
        addresses.sort_by_key(|address| (rank(address), Some(*address) != outward, *address));
        addresses.dedup();
        addresses.into_iter().map(|address| SocketAddr::new(address, self.port())).collect()
    }

    /// The same [`addresses`](Relay::addresses) as URLs.
    pub fn urls(&self) -> Vec<Url> {
        let scheme = if self.secure { "https" } else { "http" };
        self.addresses().iter().filter_map(|address| Url::parse(&format!("{scheme}://{address}/")).ok()).collect()
    }

    /// Ends gracefully: frees the port, ends every stream, and answers what is being sent.
    pub async fn shutdown(mut self) {
        self.socket.close();
        self.service.rooms.close();
        self.stopping.send_replace(true);
        if timeout(self.shutdown_timeout, &mut self.server).await.is_err() {
            tracing::warn!("connections were cut: they did not end in time");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.socket.close();
        self.server.abort();
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("addr", &self.addr).finish_non_exhaustive()
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn rank(address: &IpAddr) -> u8 {
    match address {
        address if address.is_loopback() => 3,
        IpAddr::V4(address) if address.is_private() => 0,
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 2,
    }
}

/// The address this machine uses towards others, rather than towards its own containers. Nothing is sent.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// On Unix, tokio lets a port be bound again at once while old connections of it fade out.
async fn bind(addr: SocketAddr, attempts: u16) -> Result<TcpListener, RelayError> {
    let last = addr.port().saturating_add(attempts.saturating_sub(1));
    for port in addr.port()..=last {
        let addr = SocketAddr::new(addr.ip(), port);
        match TcpListener::bind(addr).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(RelayError::Bind { addr, source }),
        }
    }
    Err(RelayError::PortInUse { addr })
}

/// Accepts connections until the socket is closed, then waits for those that are open.
async fn serve(
    socket: Arc<Socket>,
    service: Arc<Service>,
    tls: Option<TlsAcceptor>,
    mut stopping: watch::Receiver<bool>,
) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    let mut turns = JoinSet::new();
    turns.spawn({
        let turns = service.turns.clone();
        async move { turns.run().await }
    });
    let mut tidy = interval(TIDY);
    tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => {
                service.metrics.connections.set(connections.len() as f64);
                continue;
            }
            _ = tidy.tick() => {
                service.tidy();
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
            Some(Ok(_)) if connections.len() >= service.config.limits.connections => {}
            Some(Ok((stream, peer))) => {
                connections.spawn(connection::serve(stream, peer, service.clone(), tls.clone(), stopping.clone()));
                service.metrics.connections.set(connections.len() as f64);
            }
        }
    }
    while connections.join_next().await.is_some() {}
}
