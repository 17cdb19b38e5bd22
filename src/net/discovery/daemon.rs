//! The mDNS daemon, which runs on its own thread, and limits on its memory, which it lacks itself.

use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon};
use n0_future::time::timeout;

use super::Discovery;

/// The limit on cached records of other hosts, a dozen for each session that a browser lists. The daemon caches a record for
/// as long as its sender requests, so a flood would fill the memory.
const MAX_RECORDS: i64 = 4096;
/// The limit on timers for cached records, of 16 bytes each.
const MAX_TIMERS: i64 = 1 << 18;
/// The timeout for an answer of the daemon.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A running daemon. Dropping it sends the goodbyes of its services, and ends it.
pub(super) struct Daemon(pub ServiceDaemon);

impl Daemon {
    /// Starts a daemon on these networks.
    ///
    /// # Errors
    ///
    /// The error of the library, for example without a network interface.
    pub fn start(scope: Discovery) -> mdns_sd::Result<Self> {
        let daemon = Daemon(ServiceDaemon::new()?);
        match scope {
            Discovery::LocalNetwork => {}
            Discovery::ThisMachine => {
                daemon.0.disable_interface(IfKind::All)?;
                daemon.0.enable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
            }
        }
        Ok(daemon)
    }

    /// Whether the daemon caches more than an honest network has, or does not answer.
    pub async fn is_flooded(&self) -> bool {
        let Ok(metrics) = self.0.get_metrics() else { return true };
        let Ok(Ok(metrics)) = timeout(TIMEOUT, metrics.recv_async()).await else { return true };
        let cached = ["ptr", "srv", "txt", "addr", "nsec", "subtype"];
        let records: i64 = cached.iter().filter_map(|kind| metrics.get(&format!("cached-{kind}"))).sum();
        records > MAX_RECORDS || metrics.get("timer").is_some_and(|timers| *timers > MAX_TIMERS)
    }

    /// Sends the goodbyes, and waits until they are sent.
    pub async fn end(self) {
        if let Ok(ended) = self.0.shutdown() {
            let _ = timeout(TIMEOUT, ended.recv_async()).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A second shutdown has no effect.
        let _ = self.0.shutdown();
    }
}
