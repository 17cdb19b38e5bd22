//! The direct path on the `webrtc` crate: one peer connection, driven by one task of its own beside the library's.
//!
//! Each has sockets of its own, one for each address of this machine: the library binds them itself, and has no way to
//! share one between peer connections.

mod addresses;
mod build;
mod link;
mod outbox;
mod pump;
mod resolve;
mod runtime;
mod socket;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

pub(crate) use self::addresses::{AddressChange, AddressWatch};
use self::{
    link::{FLUSH, Link},
    pump::last_word,
};
use super::{
    DirectConfig, DirectDialect, DirectEvent, DirectRole, Full,
    lane::{LaneSender, lane},
};
use crate::protocol::{Payload, Signal};

/// How many signals may wait to be looked at; a peer that sends more at once loses some.
const MAX_SIGNALS: usize = 128;

/// A direct path to one peer. Dropping it closes it, after what was sent before.
#[derive(Debug)]
pub(crate) struct DirectLink {
    signals: mpsc::Sender<Signal>,
    reliable: LaneSender,
    /// None in the plain dialect, which has one channel.
    unreliable: Option<LaneSender>,
    task: JoinHandle<()>,
    _dropped: oneshot::Sender<()>,
}

impl DirectLink {
    /// Begins to look for a path, on the current tokio runtime. All that follows is told to `events`.
    ///
    /// A reader of `events` that falls behind slows the peer down.
    pub fn start(
        role: DirectRole,
        dialect: DirectDialect,
        config: DirectConfig,
        events: mpsc::Sender<DirectEvent>,
    ) -> Self {
        let (signals, signals_in) = mpsc::channel(MAX_SIGNALS);
        let (reliable, reliable_out) = lane();
        let (unreliable, unreliable_out) = match dialect {
            DirectDialect::Native => Some(lane()).unzip(),
            DirectDialect::Plain => (None, None),
        };
        let (dropped, mut gone) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (internal, internal_in) = mpsc::unbounded_channel();
            // Never given up half-way: the library would leave its own task behind. Boxed, for it is large and soon over.
            let connection = Box::pin(build::connect(&config, role, dialect, internal)).await;
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tokio::select! {
                        () = last_word(&events, DirectEvent::Failed(error)) => {}
                        _ = gone => {}
                    }
                    return;
                }
            };
            let link = Link::new(&*connection, role, dialect, &events);
            // Boxed, so that nothing of it is left, least of all a lock of the library, when it is cut short.
            let mut running = Box::pin(link.run(&config, signals_in, internal_in, reliable_out, unreliable_out));
            let end = tokio::select! {
                end = &mut running => end,
                _ = &mut gone => {
                    let _ = timeout(FLUSH, running).await;
                    None
                }
            };
            // Tells the peer, and ends the library's task.
            if let Err(error) = connection.close().await {
                tracing::debug!("closing a direct path: {error}");
            }
            if let Some(end) = end {
                // Whoever let go of the link has stopped listening.
                tokio::select! {
                    () = last_word(&events, end) => {}
                    _ = gone => {}
                }
            }
        });
        DirectLink { signals, reliable, unreliable, task, _dropped: dropped }
    }

    /// Takes a signal of the peer: in any order, any number of times, in any state.
    pub fn signal(&self, signal: Signal) {
        if self.signals.try_send(signal).is_err() {
            tracing::debug!("a signal came too late or with too many others, and is ignored");
        }
    }

    /// Sends one message, or queues it until the path is open.
    ///
    /// The unreliable channel promises at most once, in any order. The plain dialect has the reliable one only.
    pub fn try_send(&self, reliable: bool, payload: Payload) -> Result<(), Full> {
        match &self.unreliable {
            Some(unreliable) if !reliable => unreliable.try_send(payload),
            _ => self.reliable.try_send(payload),
        }
    }

    /// Sends what was sent before, tells the peer, and returns when nothing of the path is left.
    pub async fn close(self) {
        let DirectLink { task, signals, reliable, unreliable, _dropped } = self;
        drop((signals, reliable, unreliable, _dropped));
        // A panic in there has been reported by its own thread.
        let _ = task.await;
    }
}

#[cfg(test)]
mod tests;
