//! Accepts or refuses unknown peers.

use bytes::Bytes;
use n0_future::{task, time::Instant};

use super::{Host, dispatch::Sender, handshake_limits::Verdict};
use crate::{
    connection::{Connection, Credentials},
    net::{
        contract::{Admission, EventKind, PeerKey, SessionOptions},
        peer::{NativeOutcome, NativePeer, Role, connection_seed},
        peer_link::{PeerContext, PeerEnd, PeerInput, PeerOutput, Route, post_packet},
        plain::{self, DirectPeer, RelayPeer},
        report::BadInput,
    },
    protocol::{
        Body, EndReason, NATIVE_VERSION,
        frame::{self, HandshakeKind},
    },
};

/// The decision on a joiner's hello.
enum Decision {
    Accept,
    Refuse(EndReason),
    /// The joiner gets no answer, and repeats its hello by itself.
    Ignore,
}

impl Host {
    /// Handles a packet of a client that is no peer.
    pub(super) async fn packet_of_unknown(&mut self, from: Sender, packet: Bytes, route: Route) {
        let kind = HandshakeKind::peek(&packet);
        if !from.is_deaf()
            && let Some(key) = self.peers.of_joiner(&from.client, kind, &packet)
        {
            // A late copy from a former client id, where no answer is read.
            if self.former.has_client(&from.client) {
                return;
            }
            let input = PeerInput::Elsewhere { packet, route, client: from.client };
            return self.peers.send(key, input).await;
        }
        match kind {
            HandshakeKind::Hello if from.is_deaf() => {}
            HandshakeKind::Hello => match self.decide(&from.origin) {
                Decision::Accept => self.accept_native(from, packet, route).await,
                Decision::Refuse(reason) => self.answer(route, frame::refusal(&reason)),
                Decision::Ignore => {}
            },
            HandshakeKind::Resume(_) => self.resumption(from, packet, route).await,
            HandshakeKind::Proof(_) | HandshakeKind::Other if self.former.has_client(&from.client) => {
                // The confirmation of the peer's goodbye was lost.
                if let Some(gone) = self.former.answer_client(&from.client, &packet) {
                    self.answer(route, gone);
                }
            }
            HandshakeKind::Proof(_) | HandshakeKind::Other => {
                self.reporter.report_once(BadInput::Packet, || "a packet came from an unknown peer".to_owned());
            }
        }
    }

    fn decide(&mut self, origin: &str) -> Decision {
        let has_password = self.options.session.password.is_some();
        if !self.accepting {
            return Decision::Refuse(EndReason::NoSuchHost);
        }
        // In a full or locked session, this may still be one of its players, who comes back: the handshake tells.
        match self.limits.begin(origin, has_password, Instant::now()) {
            Verdict::Begin => Decision::Accept,
            Verdict::Later => Decision::Ignore,
            Verdict::Wait(wait) => {
                let words = format!("too many wrong passwords: try again in {} s", wait.as_secs() + 1);
                Decision::Refuse(EndReason::Refused(words))
            }
        }
    }

    async fn accept_native(&mut self, from: Sender, packet: Bytes, route: Route) {
        self.peers.limit_pending();
        let SessionOptions { password, game, connection, metadata, .. } = &self.options.session;
        let credentials = Credentials {
            host_id: self.relay.id().to_owned(),
            password: password.clone(),
            game: game.clone(),
            key: self.key.clone(),
            host_key: None,
        };
        let (slots, players) = (self.slots.clone(), self.players.clone());
        let role = Role::Host { admission: self.options.admission, slots, players };
        let (config, metadata) = (connection.clone(), metadata.clone());
        let Ok(seed) = connection_seed() else { return };
        // The start has checked the size of the metadata.
        let now = self.origin.elapsed();
        let Ok(connection) = Connection::accept(config, &credentials, metadata, seed, now) else { return };
        let (key, mut receiver) = self.peers.add(from, Some(packet.clone()));
        let cx = self.context(key);
        let connection = connection.with_paths(cx.paths);
        let peer = NativePeer::new(cx.clone(), role, Some(route.clone()), connection, self.origin);
        let hello = PeerInput::Body(Body::Native { version: NATIVE_VERSION, packet }, Some(route));
        self.peers.send(key, hello).await;
        task::spawn(async move {
            if let NativeOutcome::Ended(end) = peer.run(&mut receiver).await {
                cx.notify(PeerOutput::Ended(end));
            }
        });
    }

    /// Handles a packet that resumes a connection, from any client.
    pub(super) async fn resumption(&mut self, from: Sender, packet: Bytes, route: Route) {
        let HandshakeKind::Resume(id) = HandshakeKind::peek(&packet) else { return };
        // A peer that has just proven itself may not have sent the id of its connection yet.
        if let Some(key) = self.peers.of_connection(&id).or_else(|| self.peers.of_client(&from.client)) {
            return self.peers.send(key, PeerInput::Resume { packet, route, client: from.client }).await;
        }
        let mut answer = self.former.answer(&packet);
        // Anybody can send a packet for an unknown connection, so answers count as handshakes.
        if answer.is_none()
            && !from.is_deaf()
            && self.limits.begin(&from.origin, false, Instant::now()) == Verdict::Begin
        {
            answer = frame::unknown(&packet);
        }
        if let Some(answer) = answer {
            self.answer(route, answer);
        }
    }

    /// Accepts an original by its first message: a text means the relay transport, a signal WebRTC.
    pub(super) async fn accept_original(&mut self, from: Sender, first: Body, route: Route) {
        let slot = self.slots.take();
        let refusal = if from.is_deaf() {
            Some("it has no event stream, and cannot be answered")
        } else if self.slots.is_locked() {
            Some("nobody new may join")
        } else if self.options.session.password.is_some() {
            Some("it cannot prove a password")
        } else if slot.is_none() && self.slots.are_full() {
            Some("the session is full")
        } else {
            None
        };
        if let Some(words) = refusal {
            let text = || format!("a peer of the original protocol was ignored: {words}");
            return self.reporter.report_once(BadInput::Original, text);
        }
        let slots = self.slots.clone();
        let ask = self.options.admission == Admission::Ask;
        let is_direct = matches!(first, Body::Signal(_));
        let (key, mut receiver) = self.peers.add(from, None);
        let cx = self.context(key);
        self.peers.send(key, PeerInput::Body(first, Some(route.clone()))).await;
        task::spawn(async move {
            let admitted = if ask { plain::ask(&cx, &mut receiver).await } else { Ok(Vec::new()) };
            let slot = match slot {
                None if admitted.is_ok() => slots.wait(|| cx.notify(PeerOutput::WantsSlot)).await,
                slot => slot,
            };
            let admitted = admitted.and_then(|first| Ok((first, slot.ok_or(EndReason::Full)?)));
            let end = match admitted {
                Ok((first, slot)) if is_direct => {
                    DirectPeer::answer(cx.clone(), slot, ask).run(first, &mut receiver).await
                }
                Ok((first, slot)) => RelayPeer::client(cx.clone(), route, slot).run(first, &mut receiver).await,
                Err(reason) => {
                    // Only the game refuses an original by words.
                    if ask && !matches!(reason, EndReason::Refused(_)) {
                        cx.emit(EventKind::JoinAbandoned { peer: cx.key, reason: reason.clone() });
                    }
                    PeerEnd::from(reason)
                }
            };
            cx.notify(PeerOutput::Ended(end));
        });
    }

    /// Posts a packet to a client that is no peer.
    fn answer(&self, route: Route, packet: Bytes) {
        post_packet(self.relay.client(), route, packet);
    }

    fn context(&self, key: PeerKey) -> PeerContext {
        let (events, outputs, relay) = (self.events.clone(), self.outputs.clone(), self.relay.client().clone());
        PeerContext::new((self.session, key), events, outputs, relay, &self.options.session)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        connection::{ConnectionConfig, Lane, Path, Timestamp},
        net::{
            contract::{HostOptions, SessionKey},
            host::{
                handshake_limits::HandshakeLimits,
                peer_table::{MAX_PENDING, tests::origins},
            },
            host_start,
        },
        protocol::GameId,
    };

    async fn host() -> Host {
        let options = HostOptions::of_a_test("x", Default::default());
        let Ok(listening) = host_start::start(&options, &mut None).await else { panic!("a relay in memory") };
        let (events, _) = crossbeam_channel::unbounded();
        Host::new(SessionKey(1), (options, crate::connection::StaticKey::from_bytes([1; 32])), events, listening)
    }

    fn hello(number: u16) -> Bytes {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        let credentials = Credentials {
            host_id: "x".to_owned(),
            password: None,
            game: GameId::default(),
            key: crate::connection::StaticKey::from_bytes([1; 32]),
            host_key: None,
        };
        let mut client =
            Connection::connect(ConnectionConfig::default(), &credentials, Bytes::new(), seed, Timestamp::ZERO)
                .unwrap();
        client.path_up(Path::Relay, Timestamp::ZERO);
        client.poll_transmit(Lane::Relay, 64 << 10, Timestamp::ZERO).unwrap()
    }

    /// Receives a hello with fresh limits, so that the handshakes of the test are not limited otherwise.
    async fn receive_hello(host: &mut Host, origin: &str, number: u16) {
        host.limits = HandshakeLimits::new(Instant::now());
        let from = Sender { client: format!("{origin} {number}"), origin: origin.into(), listens: None };
        let route = Route { send_to: Arc::new("memory:/".parse().unwrap()), token: "x".into() };
        host.packet_of_unknown(from, hello(number), route).await;
    }

    #[tokio::test]
    async fn pending_handshakes_are_limited() {
        let mut host = host().await;
        for number in 0..3 * MAX_PENDING as u16 {
            receive_hello(&mut host, &number.to_string(), number).await;
            assert_eq!(origins(&host.peers).len(), (usize::from(number) + 1).min(MAX_PENDING));
        }
        // The latest are kept, and a repeated hello adds none.
        let latest: Vec<String> = (2 * MAX_PENDING..3 * MAX_PENDING).map(|number| number.to_string()).collect();
        assert_eq!(origins(&host.peers), latest);
        receive_hello(&mut host, &latest[0], 2 * MAX_PENDING as u16).await;
        assert_eq!(origins(&host.peers), latest);
    }

    #[tokio::test]
    async fn a_flood_displaces_only_its_own_handshakes() {
        let mut host = host().await;
        receive_hello(&mut host, "honest", 0).await;
        for number in 1..3 * MAX_PENDING as u16 {
            receive_hello(&mut host, "flood", number).await;
        }
        let mut expected = vec!["flood"; MAX_PENDING];
        expected[0] = "honest";
        assert_eq!(origins(&host.peers), expected);
    }
}
