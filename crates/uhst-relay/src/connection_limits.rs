//! Limits on the number of connections, in total and for each address, and the choice of the connection to close.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::{
    RelayLimits,
    arrivals::{Arrival, Arrivals},
    metrics::Refusal,
    stream::SubscriptionSlot,
};

/// The connection on which a request arrived.
pub(super) struct ClientConnection {
    /// The address of the other end, which is a client or a proxy.
    pub(super) peer: IpAddr,
    /// Closes the connection when notified.
    pub(super) kill: Arc<Notify>,
    pub(super) arrival: Arc<Arrival>,
    /// The number of requests without a response yet.
    requests: AtomicUsize,
    listening: AtomicBool,
    /// The place of the subscription after a stream has begun on this connection.
    pub(super) subscription: SubscriptionSlot,
}

impl ClientConnection {
    pub(super) fn new(peer: IpAddr, arrivals: Arc<Arrivals>) -> Arc<Self> {
        let (requests, listening) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (kill, arrival) = (Arc::default(), Arrival::new(arrivals));
        Arc::new(ClientConnection {
            peer,
            kill,
            arrival,
            requests,
            listening,
            subscription: SubscriptionSlot::default(),
        })
    }

    /// Marks the connection as one with an event stream.
    pub(super) fn set_listening(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// Counts a pending request until the returned guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> PendingRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        PendingRequest(self.clone())
    }

    /// Returns whether the connection can be closed without loss: it has no stream and no pending request.
    fn is_idle(&self) -> bool {
        !self.listening.load(Ordering::Relaxed) && self.requests.load(Ordering::Relaxed) == 0
    }
}

/// A guard that counts one pending request.
pub(super) struct PendingRequest(Arc<ClientConnection>);

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limits, and all connections of a relay.
pub(super) struct ConnectionLimits {
    total: usize,
    per_address: usize,
    arrivals: Arc<Arrivals>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    total: usize,
    /// The connections of each network, oldest first.
    by_network: HashMap<IpAddr, Vec<Arc<ClientConnection>>>,
}

/// A counted connection. Dropping it removes the connection from the count.
pub(super) struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    pub(super) connection: Arc<ClientConnection>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.arrival.close();
        self.limits.table().remove(network(connection.peer), |other| Arc::ptr_eq(other, connection));
    }
}

impl Table {
    fn remove(
        &mut self,
        network: IpAddr,
        which: impl Fn(&Arc<ClientConnection>) -> bool,
    ) -> Option<Arc<ClientConnection>> {
        let connections = self.by_network.get_mut(&network)?;
        let removed = connections.remove(connections.iter().position(which)?);
        self.total -= 1;
        if connections.is_empty() {
            self.by_network.remove(&network);
        }
        Some(removed)
    }

    /// Closes the oldest idle connection of a network. Returns whether there was one.
    fn make_room(&mut self, network: IpAddr) -> bool {
        let idle = self.remove(network, |connection| connection.is_idle());
        idle.inspect(|connection| connection.kill.notify_one()).is_some()
    }

    fn largest(&self) -> Option<IpAddr> {
        self.by_network.iter().max_by_key(|(_, connections)| connections.len()).map(|(network, _)| *network)
    }
}

impl ConnectionLimits {
    pub(super) fn new(limits: &RelayLimits) -> Arc<Self> {
        let (total, per_address) = (limits.connections, limits.connections_per_address);
        Arc::new(ConnectionLimits { total, per_address, arrivals: Arc::default(), table: Mutex::default() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection. If its address or the relay has too many, an idle connection is closed: one of the same
    /// address, or one of the address that has the most.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, is_proxy: bool) -> Result<ConnectionPermit, Refusal> {
        let (mut table, network) = (self.table(), network(peer));
        let own = table.by_network.get(&network).map_or(0, Vec::len);
        if !is_proxy && own >= self.per_address && !table.make_room(network) {
            return Err(Refusal::AddressConnections);
        }
        if table.total >= self.total && !table.largest().is_some_and(|largest| table.make_room(largest)) {
            return Err(Refusal::Connections);
        }
        let connection = ClientConnection::new(peer, self.arrivals.clone());
        table.total += 1;
        table.by_network.entry(network).or_default().push(connection.clone());
        Ok(ConnectionPermit { limits: self.clone(), connection })
    }
}

/// Returns the key under which an address is counted: an IPv4 address, or an IPv6 network of 64 bits, since every
/// client has a whole network.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, connections_per_address: usize) -> Arc<ConnectionLimits> {
        ConnectionLimits::new(&RelayLimits { connections, connections_per_address, ..RelayLimits::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn an_address_at_its_limit_loses_its_oldest_idle_connection() {
        let limits = limits(10, 2);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let busy = limits.admit(one, false).map_err(drop).expect("room");
        let pending = busy.connection.begin_request();
        let idle = limits.admit(one, false).map_err(drop).expect("room");
        let third = limits.admit(one, false).map_err(drop).expect("room of the idle one");
        idle.connection.kill.notified().await;
        drop(idle);
        third.connection.set_listening();
        assert_eq!(limits.admit(one, false).err(), Some(Refusal::AddressConnections));
        assert!(limits.admit(one, true).is_ok(), "a proxy has the connections of many");
        assert!(limits.admit(other, false).is_ok());
        drop(pending);
        assert!(limits.admit(one, false).is_ok());
    }

    #[test]
    fn at_the_total_limit_the_largest_address_loses_a_connection() {
        let limits = limits(4, 4);
        let crowd: Vec<_> =
            (0..3).map(|_| limits.admit(address("2001:db8::1"), false).map_err(drop).expect("room")).collect();
        let _honest = limits.admit(address("192.0.2.1"), false).map_err(drop).expect("room");
        let _another = limits.admit(address("192.0.2.2"), false).map_err(drop).expect("room of the crowd");
        assert_eq!(limits.table().by_network.values().map(Vec::len).max(), Some(2));
        drop(crowd);
        assert_eq!(limits.table().total, 2);
    }

    #[test]
    fn ipv6_counts_by_networks() {
        assert_eq!(network(address("2001:db8:0:1::1")), network(address("2001:db8:0:1:ffff::2")));
        assert_ne!(network(address("2001:db8:0:1::1")), network(address("2001:db8:0:2::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
