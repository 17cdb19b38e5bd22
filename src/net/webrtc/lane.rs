//! The queue in front of one data channel: bounded in bytes, and never waiting at the sender's end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::{Full, SEND_BUFFER};
use crate::protocol::Payload;

/// What a message costs beside its bytes, so that empty ones are bounded too.
const MESSAGE_OVERHEAD: usize = 32;

/// The end that is sent from.
#[derive(Debug)]
pub(super) struct LaneSender {
    messages: mpsc::UnboundedSender<Payload>,
    shared: Arc<Shared>,
}

/// The end that the channel takes from.
#[derive(Debug)]
pub(super) struct LaneReceiver {
    messages: mpsc::UnboundedReceiver<Payload>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    /// Whether someone was turned away and waits to hear of room.
    awaited: AtomicBool,
}

pub(super) fn lane() -> (LaneSender, LaneReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
    (LaneSender { messages: sender, shared: shared.clone() }, LaneReceiver { messages: receiver, shared })
}

impl LaneSender {
    /// Queues one message. A message that is larger than the limit is let into an empty queue.
    pub fn try_send(&self, payload: Payload) -> Result<(), Full> {
        let cost = payload.len() + MESSAGE_OVERHEAD;
        let is_full = || {
            let queued = self.shared.queued.load(Ordering::SeqCst);
            queued != 0 && queued + cost > SEND_BUFFER
        };
        if is_full() {
            self.shared.awaited.store(true, Ordering::SeqCst);
            // Looked at again: the queue may have drained before anyone knew that it is awaited.
            if is_full() {
                return Err(Full(payload));
            }
        }
        self.shared.queued.fetch_add(cost, Ordering::SeqCst);
        // A channel that is gone is told by its last event.
        let _ = self.messages.send(payload);
        Ok(())
    }
}

impl LaneReceiver {
    /// The next message, or `None` when there will be no more.
    pub async fn recv(&mut self) -> Option<Payload> {
        self.messages.recv().await
    }

    /// Says that a message of this length has left, and learns whether there is someone to be told of the room.
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
    async fn a_full_lane_turns_away_and_tells_of_room() {
        let (sender, mut receiver) = lane();
        let len = SEND_BUFFER / 4 - MESSAGE_OVERHEAD;
        for _ in 0..4 {
            sender.try_send(binary(len)).expect("room");
        }
        let Err(Full(back)) = sender.try_send(binary(0)) else { panic!("no room was left") };
        assert_eq!(back, binary(0));
        assert!(receiver.recv().await.is_some());
        assert!(!receiver.sent(len), "three quarters are still queued");
        assert!(receiver.recv().await.is_some());
        assert!(receiver.sent(len), "half is room enough");
        assert!(receiver.recv().await.is_some());
        assert!(!receiver.sent(len), "told once");
    }

    #[tokio::test]
    async fn a_message_over_the_limit_goes_alone() {
        let (sender, mut receiver) = lane();
        sender.try_send(binary(SEND_BUFFER * 2)).expect("the queue is empty");
        sender.try_send(binary(1)).expect_err("and now it is full");
        assert!(receiver.recv().await.is_some());
        assert!(receiver.sent(SEND_BUFFER * 2));
        sender.try_send(binary(1)).expect("room again");
    }

    #[tokio::test]
    async fn what_was_queued_outlives_its_sender() {
        let (sender, mut receiver) = lane();
        sender.try_send(binary(3)).expect("room");
        drop(sender);
        assert_eq!(receiver.recv().await, Some(binary(3)));
        assert_eq!(receiver.recv().await, None);
    }
}
