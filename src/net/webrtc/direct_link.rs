//! The handle of a direct path: one peer connection, and one task beside those of its stack.

use n0_future::{
    task::{self, JoinHandle},
    time::timeout,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    DirectConfig, DirectDialect, DirectEvent, DirectRole, Full,
    channel_queue::{QueueSender, channel_queue},
    link::{FLUSH, Link},
    pump::send_event,
    stack,
};
use crate::protocol::{Payload, Signal};

/// The capacity of the signal queue. A peer that sends more at once loses some.
const MAX_SIGNALS: usize = 128;
/// The capacity of the event queue. A reader that falls behind slows the peer down.
const MAX_EVENTS: usize = 256;

/// A direct path to one peer. Dropping it closes the path after what was sent before.
#[derive(Debug)]
pub(crate) struct DirectLink {
    signals: mpsc::Sender<Signal>,
    reliable: QueueSender,
    /// Absent in the plain dialect, which has one channel.
    unreliable: Option<QueueSender>,
    task: JoinHandle<()>,
    _dropped: oneshot::Sender<()>,
}

impl DirectLink {
    /// Starts a path on the current runtime, and returns its events.
    pub fn start(
        role: DirectRole,
        dialect: DirectDialect,
        config: DirectConfig,
    ) -> (Self, mpsc::Receiver<DirectEvent>) {
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let (signals, signals_in) = mpsc::channel(MAX_SIGNALS);
        let (reliable, reliable_out) = channel_queue();
        let (unreliable, unreliable_out) = match dialect {
            DirectDialect::Native => Some(channel_queue()).unzip(),
            DirectDialect::Plain => (None, None),
        };
        let (dropped, mut gone) = oneshot::channel();
        let task = task::spawn(async move {
            let (internal, internal_in) = mpsc::unbounded_channel();
            // Not cancelled half-way, since the library would leak its own task. Boxed, since it is large and short-lived.
            let connection = Box::pin(stack::connect(&config, role, dialect, internal)).await;
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tokio::select! {
                        () = send_event(&events, DirectEvent::Failed(error)) => {}
                        _ = gone => {}
                    }
                    return;
                }
            };
            let link = Link::new(&connection, role, dialect, &events);
            // Boxed, so that a timeout drops all of it, also a lock of the library.
            let mut running = Box::pin(link.run(&config, signals_in, internal_in, reliable_out, unreliable_out));
            let end = tokio::select! {
                end = &mut running => end,
                _ = &mut gone => {
                    let _ = timeout(FLUSH, running).await;
                    None
                }
            };
            // This informs the peer, and ends the task of the library.
            connection.close().await;
            if let Some(end) = end {
                // A dropped link has no reader.
                tokio::select! {
                    () = send_event(&events, end) => {}
                    _ = gone => {}
                }
            }
        });
        (DirectLink { signals, reliable, unreliable, task, _dropped: dropped }, receiver)
    }

    /// Handles a signal of the peer. Signals may come in any order, in any state, and repeatedly.
    pub fn signal(&self, signal: Signal) {
        if self.signals.try_send(signal).is_err() {
            tracing::debug!("a signal came too late or with too many others, and is ignored");
        }
    }

    /// Sends one message, or queues it until the path is open. The unreliable channel delivers at most once, in any order.
    /// The plain dialect has only the reliable one.
    ///
    /// # Errors
    ///
    /// [`Full`] returns the message if the queue has no room. [`DirectEvent::Writable`] follows once it has.
    pub fn try_send(&self, reliable: bool, payload: Payload) -> Result<(), Full> {
        match &self.unreliable {
            Some(unreliable) if !reliable => unreliable.try_send(payload),
            _ => self.reliable.try_send(payload),
        }
    }

    /// Closes the path after what was sent before, and waits until it is gone.
    pub async fn close(self) {
        let DirectLink { task, signals, reliable, unreliable, _dropped } = self;
        drop((signals, reliable, unreliable, _dropped));
        // The task itself reports a panic.
        let _ = task.await;
    }
}
