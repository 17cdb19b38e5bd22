//! Metrics for `/metrics`. Each relay has a recorder of its own; none is installed for the whole process.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The statuses that the relay sends.
const STATUSES: [u16; 15] = [200, 204, 307, 400, 401, 403, 404, 408, 413, 415, 421, 429, 431, 500, 503];

/// The limit or rule that refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Connections,
    AddressConnections,
    Hosts,
    AddressHosts,
    Clients,
    Streams,
    AddressStreams,
    Bytes,
    Waiting,
    Requests,
    WrongJoins,
    Name,
    Origin,
    Key,
}

impl Refusal {
    const ALL: [(Refusal, &'static str); 14] = [
        (Refusal::Connections, "connections"),
        (Refusal::AddressConnections, "connections_per_address"),
        (Refusal::Hosts, "hosts"),
        (Refusal::AddressHosts, "hosts_per_address"),
        (Refusal::Clients, "clients_per_host"),
        (Refusal::Streams, "listeners"),
        (Refusal::AddressStreams, "listeners_per_address"),
        (Refusal::Bytes, "memory_bytes"),
        (Refusal::Waiting, "waiting_messages"),
        (Refusal::Requests, "requests_per_second"),
        (Refusal::WrongJoins, "wrong_joins"),
        (Refusal::Name, "name"),
        (Refusal::Origin, "origin"),
        (Refusal::Key, "host_key"),
    ];
}

/// Handles to all metrics.
pub(super) struct Metrics {
    /// Host ids with at least one open stream.
    pub(super) sessions: Gauge,
    /// Open streams.
    pub(super) listeners: Gauge,
    /// Open connections.
    pub(super) connections: Gauge,
    /// Messages put into a queue. A broadcast counts once for each listener.
    pub(super) messages: Counter,
    /// The bytes of these messages, as written to the streams.
    pub(super) message_bytes: Counter,
    /// Listeners dropped because they did not read.
    pub(super) dropped: Counter,
    /// Connections closed because their peer did not read.
    pub(super) stalled: Counter,
    /// The bytes of messages in memory.
    pub(super) kept: Gauge,
    /// The refusals, in the order of [`Refusal::ALL`].
    refused: [Counter; Refusal::ALL.len()],
    answers: [Counter; STATUSES.len()],
    handle: PrometheusHandle,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            describe_gauge!("uhst_relay_sessions", "Host ids with at least one open stream");
            describe_gauge!("uhst_relay_listeners", "Open event streams");
            describe_gauge!("uhst_relay_connections", "Open connections");
            describe_counter!("uhst_relay_messages_total", "Messages put into the queue of a listener");
            describe_counter!("uhst_relay_message_bytes_total", Unit::Bytes, "Bytes of these messages");
            describe_counter!("uhst_relay_dropped_listeners_total", "Listeners dropped because they did not read");
            describe_counter!(
                "uhst_relay_stalled_connections_total",
                "Connections closed because their peer did not read"
            );
            describe_gauge!("uhst_relay_kept_bytes", Unit::Bytes, "Bytes of messages that are being read or wait");
            describe_counter!("uhst_relay_refused_total", "Refusals by limit or rule");
            describe_counter!("uhst_relay_answers_total", "Responses by HTTP status");
            Metrics {
                sessions: gauge!("uhst_relay_sessions"),
                listeners: gauge!("uhst_relay_listeners"),
                connections: gauge!("uhst_relay_connections"),
                messages: counter!("uhst_relay_messages_total"),
                message_bytes: counter!("uhst_relay_message_bytes_total"),
                dropped: counter!("uhst_relay_dropped_listeners_total"),
                stalled: counter!("uhst_relay_stalled_connections_total"),
                kept: gauge!("uhst_relay_kept_bytes"),
                refused: Refusal::ALL.map(|(_, name)| counter!("uhst_relay_refused_total", "limit" => name)),
                answers: STATUSES.map(|status| counter!("uhst_relay_answers_total", "status" => status.to_string())),
                handle,
            }
        })
    }

    /// Counts one response.
    pub(super) fn answered(&self, status: u16) {
        if let Some(n) = STATUSES.iter().position(|known| *known == status) {
            self.answers[n].increment(1);
        }
    }

    /// Counts one refusal.
    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some(n) = Refusal::ALL.iter().position(|(known, _)| *known == refusal) {
            self.refused[n].increment(1);
        }
    }

    /// Counts one message of this many bytes to this many listeners.
    pub(super) fn delivered(&self, bytes: usize, listeners: usize) {
        self.messages.increment(listeners as u64);
        self.message_bytes.increment((bytes * listeners) as u64);
    }

    /// Returns the metrics in the Prometheus text format.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_relay_counts_for_itself() {
        let (metrics, other) = (Metrics::new(), Metrics::new());
        metrics.answered(200);
        metrics.delivered(10, 3);
        let text = metrics.render();
        for line in [
            "uhst_relay_answers_total{status=\"200\"} 1",
            "uhst_relay_messages_total 3",
            "uhst_relay_message_bytes_total 30",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(other.render().contains("uhst_relay_messages_total 0"));
    }
}
