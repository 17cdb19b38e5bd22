//! The end of a native peer: the last packets, and the report.

use std::{pin::pin, time::Duration};

use futures_util::future::{OptionFuture, join};
use n0_future::{
    task,
    time::{sleep, timeout},
};

use super::{
    NativePeer, Role, next_packet,
    posts::{POST_LIMIT, post_after_loss},
};
use crate::{
    connection::Lane,
    net::{contract::EventKind, page_end, peer_link::PeerEnd},
    protocol::{Body, EndReason, NATIVE_VERSION},
};

/// How long the last packets may take.
const LAST_PACKETS: Duration = Duration::from_millis(500);
/// How long the last packets wait for the POST in flight, which may be too large for a slow network. They are small.
const IN_FLIGHT: Duration = Duration::from_millis(150);
/// The pause before a last packet is posted again that the relay refused.
const RETRY: Duration = Duration::from_millis(100);

impl NativePeer {
    /// Closes the connection with the page that runs this task: no answer arrives any more, and nothing that needs another
    /// turn is sent. What is unacknowledged is sent again with the goodbye, in requests that outlive the page.
    pub(super) fn close_with_page(&mut self, reason: EndReason) {
        let now = self.now();
        self.post = None;
        // Last packets do not wait for simulated delays.
        self.outbound.release();
        self.connection.close_unanswered(reason, page_end::room(), now);
        self.transmit_direct();
        let Some(route) = self.route.clone() else { return };
        let farewell = self.connection.farewell();
        let mut last = Vec::new();
        if farewell.is_none() || self.connection.stats().queued > 0 {
            let NativePeer { connection, outbound, .. } = &mut *self;
            last.extend(std::iter::from_fn(|| next_packet(connection, outbound, Lane::Relay, POST_LIMIT, now)));
        }
        last.extend(farewell);
        self.cx.post_all(route, last);
    }

    /// Reports the end to the game, and sends the last packets (a refusal, the answer to a goodbye).
    pub(super) async fn finish(mut self: Box<Self>, reason: EndReason) -> PeerEnd {
        if self.connected || self.adopted.is_some() {
            self.cx.emit(EventKind::Disconnected { peer: self.cx.key, reason: reason.clone() });
        }
        if !self.connected {
            self.abandon_join(&reason);
        }
        self.count_interrupted(false);
        self.is_gone();
        self.handle.shared().free_slot_when_read(self.slot.take());
        let _ = timeout(LAST_PACKETS, self.send_last_packets()).await;
        PeerEnd { reason, tombstone: self.connection.tombstone() }
    }

    async fn send_last_packets(&mut self) {
        // They do not wait for simulated delays.
        self.outbound.release();
        self.transmit_direct();
        self.direct.close().await;
        let mut in_flight = pin!(OptionFuture::from(self.post.take().map(|post| post.answer)));
        let is_late = timeout(IN_FLIGHT, &mut in_flight).await.is_err();
        let packets = self.post_last_packets();
        if is_late {
            join(in_flight, packets).await;
        } else {
            packets.await;
        }
    }

    async fn post_last_packets(&mut self) {
        let is_client = matches!(self.role, Role::Client { .. });
        let Some(route) = self.route.clone().filter(|_| self.relay_up || is_client) else { return };
        loop {
            let now = self.now();
            let packet = next_packet(&mut self.connection, &mut self.outbound, Lane::Relay, POST_LIMIT, now);
            let Some(packet) = packet else { return };
            let body = Body::Native { version: NATIVE_VERSION, packet }.to_json();
            let relay = &self.cx.relay;
            if !self.relay_up {
                // In the background, since the relay may stay lost.
                task::spawn(post_after_loss(relay.clone(), route, body, self.cx.config.drain_timeout));
                return;
            }
            let post = || relay.clone().send(route.send_to.clone(), route.token.clone(), body.clone());
            while post().await.is_err() {
                sleep(RETRY).await;
            }
        }
    }
}
