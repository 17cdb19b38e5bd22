//! The mDNS daemon, which runs on a thread of its own, and the bounds it does not have.

use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon};
use n0_future::time::timeout;

use super::Discovery;

/// How many records a daemon may hold of others, a dozen for each session that a browser lists. It keeps what it
/// hears for as long as the sender likes, so whoever floods it would fill the memory.
const MAX_RECORDS: i64 = 4096;
/// How many times it may have noted to look at a record again, of 16 bytes each.
const MAX_TIMERS: i64 = 1 << 18;
/// How long a daemon has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running daemon. Dropping it says goodbye for what is registered, and ends it.
pub(super) struct Daemon(pub ServiceDaemon);

impl Daemon {
    /// Starts one that talks to these networks and no others.
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

    /// Whether it holds more than any honest network would have it hold, or does not answer.
    pub async fn is_flooded(&self) -> bool {
        let Ok(metrics) = self.0.get_metrics() else { return true };
        let Ok(Ok(metrics)) = timeout(PATIENCE, metrics.recv_async()).await else { return true };
        let cached = ["ptr", "srv", "txt", "addr", "nsec", "subtype"];
        let records: i64 = cached.iter().filter_map(|kind| metrics.get(&format!("cached-{kind}"))).sum();
        records > MAX_RECORDS || metrics.get("timer").is_some_and(|timers| *timers > MAX_TIMERS)
    }

    /// Says goodbye, and waits until that is said.
    pub async fn end(self) {
        if let Ok(ended) = self.0.shutdown() {
            let _ = timeout(PATIENCE, ended.recv_async()).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Again, perhaps, which does nothing.
        let _ = self.0.shutdown();
    }
}
