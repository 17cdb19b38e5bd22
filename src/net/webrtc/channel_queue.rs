//! The queue in front of one data channel. It is bounded in bytes, and its sender never waits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::{Full, SEND_BUFFER};
use crate::protocol::Payload;

/// The cost of a message beside its bytes, so that empty messages are bounded, too.
pub(super) const MESSAGE_OVERHEAD: usize = 32;

/// The sender of the queue.
#[derive(Debug)]
pub(super) struct QueueSender {
    messages: mpsc::UnboundedSender<Payload>,
    shared: Arc<Shared>,
}

/// The receiver of the queue, for the data channel.
#[derive(Debug)]
pub(super) struct QueueReceiver {
    messages: mpsc::UnboundedReceiver<Payload>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    /// Whether a message found no room, and its sender waits for some.
    awaited: AtomicBool,
}

/// Creates a queue.
pub(super) fn channel_queue() -> (QueueSender, QueueReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
    (QueueSender { messages: sender, shared: shared.clone() }, QueueReceiver { messages: receiver, shared })
}

impl QueueSender {
    /// Queues one message. An empty queue also takes a message above the limit.
    ///
    /// # Errors
    ///
    /// [`Full`] returns the message. [`QueueReceiver::sent`] then reports when there is room.
    pub fn try_send(&self, payload: Payload) -> Result<(), Full> {
        let cost = payload.len() + MESSAGE_OVERHEAD;
        let is_full = || {
            let queued = self.shared.queued.load(Ordering::SeqCst);
            queued != 0 && queued + cost > SEND_BUFFER
        };
        if is_full() {
            self.shared.awaited.store(true, Ordering::SeqCst);
            // The queue may have drained before the flag was set.
            if is_full() {
                return Err(Full(payload));
            }
        }
        self.shared.queued.fetch_add(cost, Ordering::SeqCst);
        // The last event of the link reports a channel that is gone.
        let _ = self.messages.send(payload);
        Ok(())
    }
}

impl QueueReceiver {
    /// Waits for the next message; `None` when there will be no more.
    pub async fn recv(&mut self) -> Option<Payload> {
        self.messages.recv().await
    }

    /// Removes a message of this length. Returns whether a sender waits for room, which there is now.
    pub fn sent(&self, len: usize) -> bool {
        let cost = len + MESSAGE_OVERHEAD;
        let queued = self.shared.queued.fetch_sub(cost, Ordering::SeqCst) - cost;
        queued <= SEND_BUFFER / 2 && self.shared.awaited.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn binary(len: usize) -> Payload {
        Payload::Binary(Bytes::from(vec![0; len]))
    }

    #[tokio::test]
    async fn a_full_queue_refuses_messages_and_reports_room() {
        let (sender, mut receiver) = channel_queue();
        let len = SEND_BUFFER / 4 - MESSAGE_OVERHEAD;
        for _ in 0..4 {
            sender.try_send(binary(len)).expect("room");
        }
        let Err(Full(back)) = sender.try_send(binary(0)) else { panic!("no room was left") };
        assert_eq!(back, binary(0));
        assert!(receiver.recv().await.is_some());
        assert!(!receiver.sent(len), "three quarters are still queued");
        assert!(receiver.recv().await.is_some());
        assert!(receiver.sent(len), "half of the queue is enough");
        assert!(receiver.recv().await.is_some());
        assert!(!receiver.sent(len), "reported once");
    }

    #[tokio::test]
    async fn a_message_over_the_limit_needs_an_empty_queue() {
        let (sender, mut receiver) = channel_queue();
        sender.try_send(binary(SEND_BUFFER * 2)).expect("the queue is empty");
        sender.try_send(binary(1)).expect_err("the queue is full now");
        assert!(receiver.recv().await.is_some());
        assert!(receiver.sent(SEND_BUFFER * 2));
        sender.try_send(binary(1)).expect("room again");
    }

    #[tokio::test]
    async fn queued_messages_outlive_the_sender() {
        let (sender, mut receiver) = channel_queue();
        sender.try_send(binary(3)).expect("room");
        drop(sender);
        assert_eq!(receiver.recv().await, Some(binary(3)));
        assert_eq!(receiver.recv().await, None);
    }
}
