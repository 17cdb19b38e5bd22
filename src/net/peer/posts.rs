//! Posts the peer's packets to the relay, one POST at a time, and handles the answers.

use std::time::Duration;

use n0_future::{
    boxed::BoxFuture,
    time::{sleep, timeout},
};

use super::{NativePeer, Role, next_packet};
use crate::{
    connection::{Lane, Path, Timestamp},
    net::{
        backoff::Backoff,
        page_end,
        peer_link::{PeerInput, PeerOutput, Route},
        relay_client::RelayClient,
        relay_error::RelayError,
    },
    protocol::{Body, NATIVE_VERSION, introduction},
};

/// The bytes of frames in one POST: with base64 and the envelope they stay under the 102,400 bytes that relays take.
pub(super) const POST_LIMIT: usize = 64 * 1024;
/// A POST that is unanswered for this long makes the relay suspect, and not the peer.
const POST_SUSPECT: Duration = Duration::from_secs(2);
/// A POST up to this size is late because it or its answer is lost, and not because the network is slow.
const SMALL: usize = 8 * 1024;

/// How many times a host may be missing at its relay before its client gives up.
const MAX_MISSING: u32 = 5;

/// One POST in flight.
pub(super) struct Post {
    pub answer: BoxFuture<Result<(), RelayError>>,
    since: Timestamp,
    suspect: bool,
    /// Whether to repeat the POST instead of waiting: it belongs to the handshake, and is small.
    handshake: bool,
}

impl Post {
    /// When the POST becomes suspect, if it is not yet.
    pub fn suspect_at(&self) -> Option<Timestamp> {
        (!self.suspect).then_some(self.since + POST_SUSPECT)
    }

    /// Extends the wait by the time of a suspension.
    pub fn extend_by(&mut self, time: Duration) {
        self.since += time;
    }
}

/// Posts the last packet of a client to a host whose relay is lost, within this time. The embedded relay of a suspended
/// host returns with the host, which then does not wait for this client.
pub(super) async fn post_after_loss(relay: RelayClient, route: Route, body: String, within: Duration) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(2));
    let posted = async {
        let mut missing = 0;
        while let Err(error) = relay.clone().send(route.send_to.clone(), route.token.clone(), body.clone()).await {
            // A resumed host listens again a moment after its relay is back.
            missing += u32::from(error == RelayError::Rejected);
            if error == RelayError::BadToken || missing > MAX_MISSING {
                return;
            }
            sleep(backoff.after(&error)).await;
        }
    };
    let _ = timeout(within, posted).await;
}

impl NativePeer {
    /// Takes the relay's path down if a POST is unanswered for too long. While the other side waits for an answer, there
    /// may be no other path and little time, so such a POST makes way for it.
    pub(super) fn suspect_post(&mut self, now: Timestamp) {
        let Some(post) = self.post.as_mut().filter(|post| post.suspect_at().is_some_and(|at| now >= at)) else {
            return;
        };
        post.suspect = true;
        if !self.make_way(now) {
            self.connection.path_down(Path::Relay, now);
        }
    }

    /// Gives up a suspect POST if its packet, or an answer, is part of a handshake or a resumption. Returns whether it is
    /// given up.
    fn make_way(&mut self, now: Timestamp) -> bool {
        let may_wait = |post: &Post| !post.handshake && !self.connection.has_answer();
        if self.post.as_ref().is_none_or(|post| !post.suspect || may_wait(post)) {
            return false;
        }
        self.post = None;
        self.undelivered(&RelayError::NoConnection("no answer in time".to_owned()), now);
        true
    }

    /// Gives up the POST in flight, since its route is of the past. The path that it took down is up on the new one.
    pub(super) fn drop_post(&mut self) {
        if self.post.take().is_some_and(|post| post.suspect) && self.relay_up {
            self.connection.path_up(Path::Relay, self.now());
        }
    }

    pub(super) fn start_post(&mut self) {
        let now = self.now();
        if self.make_way(now) && self.relay_up {
            self.connection.path_up(Path::Relay, now);
        }
        let introduced = self.introduced.is_some() && self.may_be_original();
        if self.post.is_some() || !self.relay_up || introduced || self.retry.is_pausing() {
            return;
        }
        let Some(route) = &self.route else { return };
        if let Some(packet) = next_packet(&mut self.connection, &mut self.outbound, Lane::Relay, POST_LIMIT, now) {
            let body = match &self.role {
                Role::Client { offer: Some(offer), .. } => introduction(NATIVE_VERSION, &packet, offer.sdp()),
                _ => Body::Native { version: NATIVE_VERSION, packet }.to_json(),
            };
            let handshake = body.len() <= SMALL && (!self.connected || self.connection.is_establishing());
            let answer = self.cx.relay.clone().send(route.send_to.clone(), route.token.clone(), body);
            self.post = Some(Post { answer: Box::pin(answer), since: now, suspect: false, handshake });
        }
    }

    pub(super) fn posted(&mut self, result: Result<(), RelayError>) {
        let now = self.now();
        let suspect = self.post.take().is_some_and(|post| post.suspect);
        if result.is_err() && page_end::is_closing() {
            // The browser cut it. It is sent again with the goodbye.
            return;
        }
        if let Err(error) = &result
            && error.is_gone()
        {
            let error = error.clone();
            // Nothing else goes over the relay until the session has found it again.
            self.input(PeerInput::RelayDown);
            return self.cx.notify(PeerOutput::RelayGone(error));
        }
        if suspect && self.relay_up {
            self.connection.path_up(Path::Relay, now);
        }
        match result {
            Ok(()) => {
                self.retry.succeeded();
                self.missing_since = None;
                self.introduced.get_or_insert(now);
            }
            Err(error) => self.undelivered(&error, now),
        }
    }

    fn undelivered(&mut self, error: &RelayError, now: Timestamp) {
        tracing::debug!(peer = self.cx.key.0, "a message was not delivered: {error}");
        self.connection.lost_in_flight(Lane::Relay);
        self.retry.failed(error);
        if *error != RelayError::Rejected {
            self.missing_since = None;
        }
        match error {
            // The other side does not listen: the relay is fine.
            RelayError::Rejected => {
                self.missing_since.get_or_insert(now);
            }
            RelayError::BadToken => {
                self.route = None;
                self.cx.notify(PeerOutput::BadToken);
            }
            _ => self.connection.undelivered(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use bytes::Bytes;
    use n0_future::time::Instant;

    use super::{super::credentials_of_a_test, *};
    use crate::{
        connection::{Connection, ConnectionConfig, ResumeError},
        net::{contract::Admission, peer_link::PeerContext, slots::Slots},
        protocol::{Channel, EndReason, PathPolicy},
    };

    /// The task of a host's peer, whose relay answers no POST, and its client.
    fn pair() -> (Box<NativePeer>, Connection) {
        let credentials = credentials_of_a_test();
        let config = ConnectionConfig::default();
        let client = Connection::connect(config.clone(), &credentials, Bytes::new(), [1; 32], Timestamp::ZERO);
        let host = Connection::accept(config.clone(), &credentials, Bytes::new(), [2; 32], Timestamp::ZERO);
        let (cx, _) = PeerContext::of_a_test(config, PathPolicy::RelayOnly, Default::default());
        let role =
            Role::Host { admission: Admission::Open, slots: Slots::new(1, false, false), players: Arc::default() };
        let route = Some(route("first"));
        let (mut client, host) = (client.expect("no metadata"), host.expect("no metadata"));
        client.path_up(Path::Relay, Timestamp::ZERO);
        (NativePeer::new(cx, role, route, host, Instant::now()), client)
    }

    fn route(token: &str) -> Route {
        Route { send_to: Arc::new("memory:/".parse().expect("a URL")), token: token.into() }
    }

    fn sent(connection: &mut Connection, now: Timestamp) -> Vec<Bytes> {
        std::iter::from_fn(|| connection.poll_transmit(Lane::Relay, POST_LIMIT, now)).collect()
    }

    fn to_host(peer: &mut NativePeer, packets: Vec<Bytes>) {
        packets.into_iter().for_each(|packet| peer.receive(Lane::Relay, packet));
        peer.deliver_events();
    }

    /// What the client sends now comes from another client of the relay.
    fn to_host_from_elsewhere(peer: &mut NativePeer, client: &mut Connection) {
        for packet in sent(client, peer.now()) {
            let input = PeerInput::Elsewhere { packet, route: route("second"), client: "another".to_owned() };
            assert!(peer.input(input).is_none());
        }
        peer.deliver_events();
        peer.answer_elsewhere();
    }

    /// The last answer to there.
    fn answered(peer: &NativePeer) -> Bytes {
        let elsewhere = peer.elsewhere.as_ref().expect("the joiner may be there");
        elsewhere.answered.clone().expect("an answer")
    }

    /// Replaces the POST in flight by one that is never answered.
    fn hang(peer: &mut NativePeer) {
        peer.start_post();
        let post = peer.post.as_mut().expect("there is something to send");
        post.answer = Box::pin(pending());
    }

    /// Lets both prove themselves. The host's welcome, and a large message after it, are lost in a POST that hangs.
    fn admitted() -> (Box<NativePeer>, Connection) {
        let (mut peer, mut client) = pair();
        let now = peer.now();
        to_host(&mut peer, sent(&mut client, now));
        sent(&mut peer.connection, now).into_iter().for_each(|packet| client.receive(Lane::Relay, packet, now));
        to_host(&mut peer, sent(&mut client, now));
        assert!(!sent(&mut peer.connection, now).is_empty(), "the welcome");
        peer.connection.send(Channel::Reliable, vec![0; 40_000].into()).expect("room");
        hang(&mut peer);
        (peer, client)
    }

    #[test]
    fn a_repeated_welcome_does_not_wait_for_a_large_post() {
        for before_it_is_suspect in [true, false] {
            let (mut peer, mut client) = admitted();
            let due = peer.now() + POST_SUSPECT;
            if !before_it_is_suspect {
                peer.suspect_post(due);
            }
            client.handle_timeout(due);
            to_host(&mut peer, sent(&mut client, due));
            if before_it_is_suspect {
                peer.suspect_post(due);
            } else {
                peer.start_post();
            }
            assert!(peer.post.is_none(), "it makes way");
            peer.retry.end_pause();
            peer.start_post();
            assert!(!peer.connection.has_answer(), "the welcome is in flight");
            peer.connection.lost_in_flight(Lane::Relay);
            for packet in sent(&mut peer.connection, due) {
                client.receive(Lane::Relay, packet, due);
            }
            assert!(client.is_open(), "{before_it_is_suspect}");
        }
    }

    /// On a slow network, a large POST takes its time, and nobody waits for an answer.
    #[test]
    fn a_large_post_is_not_given_up_without_need() {
        let (mut peer, _) = admitted();
        peer.suspect_post(peer.now() + POST_SUSPECT);
        peer.start_post();
        assert!(peer.post.as_ref().is_some_and(|post| post.suspect));
    }

    /// The client has lost its stream before it had the welcome, and begins again with the same hello. Until it has said
    /// something new, it may as well be somebody else.
    #[tokio::test]
    async fn a_joiner_is_answered_on_a_new_route_and_moves_there_with_its_first_new_packet() {
        for suspect in [false, true] {
            let (mut peer, mut client) = admitted();
            let now = peer.now();
            if suspect {
                peer.suspect_post(now + POST_SUSPECT);
            }
            client.path_down(Path::Relay, now);
            client.path_up(Path::Relay, now);
            for _ in 0..2 {
                to_host_from_elsewhere(&mut peer, &mut client);
                assert_eq!(
                    peer.route.as_ref().map(|route| &*route.token),
                    Some("first"),
                    "it is not known to be there"
                );
                client.receive(Lane::Relay, answered(&peer), now);
            }
            assert!(client.is_open());
            to_host_from_elsewhere(&mut peer, &mut client);
            assert_eq!(peer.route.as_ref().map(|route| &*route.token), Some("second"));
            assert!(peer.elsewhere.is_none() && !peer.connection.is_establishing());
            peer.start_post();
            assert!(peer.post.is_some(), "the path is up: {suspect}");
        }
    }

    /// The player gives up while the host looks for it: with its first new packet, or before it is admitted. The latter needs
    /// no answer.
    #[tokio::test]
    async fn a_goodbye_from_a_new_route_ends_a_joiner() {
        for has_welcome in [true, false] {
            let (mut peer, mut client) = admitted();
            let now = peer.now();
            client.path_down(Path::Relay, now);
            client.path_up(Path::Relay, now);
            // The hello is answered again, and then the proof.
            for _ in 0..if has_welcome { 2 } else { 1 } {
                to_host_from_elsewhere(&mut peer, &mut client);
                client.receive(Lane::Relay, answered(&peer), now);
            }
            assert_eq!(client.is_open(), has_welcome);
            client.close(EndReason::Left, now);
            to_host_from_elsewhere(&mut peer, &mut client);
            assert_eq!(peer.ended, Some(EndReason::Left), "{has_welcome}");
            if has_welcome {
                let token = peer.route.as_ref().map(|route| &*route.token);
                assert_eq!(token, Some("second"), "where the answer to the goodbye is read");
            }
        }
    }

    #[test]
    fn a_post_to_a_former_route_does_not_delay_the_answer_on_the_new_one() {
        let (mut peer, mut client) = admitted();
        let now = peer.now();
        client.handle_timeout(now + POST_SUSPECT);
        to_host(&mut peer, sent(&mut client, now + POST_SUSPECT));
        peer.post = None;
        for packet in sent(&mut peer.connection, now) {
            client.receive(Lane::Relay, packet, now);
        }
        to_host(&mut peer, sent(&mut client, now));
        assert!(client.is_open() && !peer.connection.is_establishing());
        peer.connection.send(Channel::Reliable, vec![0; 40_000].into()).expect("room");
        hang(&mut peer);

        client.path_down(Path::Relay, now);
        client.path_up(Path::Relay, now);
        let Err(ResumeError::Challenge(challenge)) = peer.connection.resume(sent(&mut client, now).remove(0), now)
        else {
            panic!("no challenge")
        };
        client.receive(Lane::Relay, challenge, now);
        let resume = PeerInput::Resume {
            packet: sent(&mut client, now).remove(0),
            route: route("second"),
            client: "the same as another".to_owned(),
        };
        assert!(peer.input(resume).is_none());
        peer.start_post();
        assert!(!peer.connection.has_answer(), "it is in flight");
    }
}
