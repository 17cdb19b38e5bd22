//! Those whom a host does not know yet: who is let in, and what becomes of the others.

use std::{cmp::Reverse, collections::HashMap};

use bytes::Bytes;
use n0_future::{task, time::Instant};
use tokio::sync::mpsc;

use super::{Entry, Host, LOCKED, Sender, shares::Verdict};
use crate::{
    connection::{Connection, Credentials, Timestamp},
    net::{
        client::{INPUTS, seed},
        contract::{Admission, PeerKey, SessionOptions},
        peer::{NativePeer, Role},
        peer_link::{Outcome, PeerContext, PeerInput, PeerOutput, Route},
        plain::{self, DirectPeer, RelayPeer},
        report::Nonsense,
    },
    protocol::{
        Body, EndReason, NATIVE_VERSION,
        frame::{self, HandshakeKind},
    },
};

/// Joiners that may be on their way in.
const PENDING: usize = 64;

impl Host {
    pub(super) async fn native_stranger(&mut self, from: Sender, packet: Bytes, route: Route, open: bool) {
        let client = from.client.clone();
        let began_with = |entry: &Entry| entry.hello.as_ref() == Some(&packet);
        if let Some((&key, _)) = self.peers.iter().find(|(_, entry)| began_with(entry)) {
            // Under an id that its client has no more, it is a late copy: answers would go nowhere.
            if self.left.contains(&client) {
                return;
            }
            return self.tell(key, PeerInput::HelloAgain { hello: packet, route, client }).await;
        }
        match HandshakeKind::peek(&packet) {
            // What does not listen cannot take an answer.
            HandshakeKind::Hello if from.listens == Some(false) => {}
            HandshakeKind::Hello if !open => {
                self.context(PeerKey(u64::MAX)).post(route, frame::refusal(&EndReason::NoSuchHost));
            }
            HandshakeKind::Hello if self.options.locked => {
                let reason = EndReason::Refused(LOCKED.to_owned());
                self.context(PeerKey(u64::MAX)).post(route, frame::refusal(&reason));
            }
            HandshakeKind::Hello if self.places.are_full() && self.options.session.password.is_none() => {
                self.context(PeerKey(u64::MAX)).post(route, frame::refusal(&EndReason::Full));
            }
            HandshakeKind::Hello => {
                let guess = self.options.session.password.is_some();
                match self.shares.begin(&from.origin, guess, Instant::now()) {
                    Verdict::Begin => {}
                    Verdict::Later => return,
                    Verdict::Wait(wait) => {
                        let words = format!("too many wrong passwords: try again in {} s", wait.as_secs() + 1);
                        return self.context(PeerKey(u64::MAX)).post(route, frame::refusal(&EndReason::Refused(words)));
                    }
                }
                self.make_room();
                let SessionOptions { password, game, connection, metadata, .. } = &self.options.session;
                let credentials = Credentials {
                    host_id: self.id.clone(),
                    password: password.clone().map(|password| password.0),
                    game: game.clone(),
                };
                let role = Role::Host { admission: self.options.admission, places: self.places.clone() };
                let (config, metadata) = (connection.clone(), metadata.clone());
                let Ok(seed) = seed() else { return };
                // Its metadata was checked at the start.
                let Ok(connection) = Connection::accept(config, &credentials, metadata, seed, Timestamp::ZERO) else {
                    return;
                };
                let (cx, inputs, mut receiver) = self.admit(client, from.origin, Some(packet.clone()));
                let connection = connection.with_paths(cx.paths);
                let peer = NativePeer::new(cx.clone(), role, Some(route.clone()), connection);
                let hello = PeerInput::Body(Body::Native { version: NATIVE_VERSION, packet }, Some(route));
                let _ = inputs.send(hello).await;
                task::spawn(async move {
                    if let Outcome::Ended(reason, tombstone) = peer.run(&mut receiver).await {
                        cx.tell(PeerOutput::Ended { reason, tombstone });
                    }
                });
            }
            HandshakeKind::Resume(_) => self.resumption(from, packet, route).await,
            HandshakeKind::Other if self.left.contains(&client) => {
                // Our confirmation of its goodbye was lost.
                if let Some(confirmation) = frame::close_ack_for(&packet) {
                    self.context(PeerKey(u64::MAX)).post(route, confirmation);
                }
            }
            HandshakeKind::Other => {
                self.reports.once(Nonsense::Packet, || "a packet came from nobody we know".to_owned())
            }
        }
    }

    /// A packet that resumes a connection, from whatever client.
    pub(super) async fn resumption(&mut self, from: Sender, packet: Bytes, route: Route) {
        let HandshakeKind::Resume(id) = HandshakeKind::peek(&packet) else { return };
        // A peer that has just proven itself may not have told its connection's name yet.
        if let Some(&key) = self.by_connection.get(&id).or_else(|| self.by_client.get(&from.client)) {
            return self.tell(key, PeerInput::Resume { packet, route, client: from.client }).await;
        }
        let mut answer = self.tombstones.iter().find_map(|stone| stone.answer(&packet));
        // Anybody can ask as one whom we do not know.
        if answer.is_none()
            && from.listens != Some(false)
            && self.shares.begin(&from.origin, false, Instant::now()) == Verdict::Begin
        {
            answer = frame::unknown(&packet);
        }
        if let Some(answer) = answer {
            self.context(PeerKey(u64::MAX)).post(route, answer);
        }
    }

    /// An original whose first word this is: a text means the relay transport, a signal WebRTC.
    pub(super) async fn plain_stranger(&mut self, from: Sender, first: Body, route: Route) {
        if from.listens == Some(false) {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: it has no event stream, and cannot be answered".to_owned()
            });
        }
        if self.options.locked {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: nobody new may join".to_owned()
            });
        }
        if self.options.session.password.is_some() {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: it cannot prove a password".to_owned()
            });
        }
        let place = self.places.take();
        if place.is_none() && self.places.are_full() {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: the session is full".to_owned()
            });
        }
        let places = self.places.clone();
        let ask = self.options.admission == Admission::Ask;
        let direct = matches!(first, Body::Signal(_));
        let (cx, inputs, mut receiver) = self.admit(from.client, from.origin, None);
        let _ = inputs.send(PeerInput::Body(first, Some(route.clone()))).await;
        task::spawn(async move {
            let asked = if ask { plain::ask(&cx, &mut receiver).await } else { Ok(Vec::new()) };
            let place = match place {
                None if asked.is_ok() => places.wait(|| cx.tell(PeerOutput::WantsPlace)).await,
                place => place,
            };
            let asked = asked.and_then(|first| Ok((first, place.ok_or(EndReason::Full)?)));
            let outcome = match asked {
                Ok((first, place)) if direct => DirectPeer::answer(cx.clone(), place).run(first, &mut receiver).await,
                Ok((first, place)) => RelayPeer::client(cx.clone(), route, place).run(first, &mut receiver).await,
                Err(reason) => Outcome::Ended(reason, None),
            };
            if let Outcome::Ended(reason, tombstone) = outcome {
                cx.tell(PeerOutput::Ended { reason, tombstone });
            }
        });
    }

    /// Asks the peer that is interrupted for longest to give way to a joiner.
    pub(super) fn replace_interrupted(&mut self) {
        let interrupted = self.peers.values_mut().filter(|entry| entry.interrupted.is_some());
        if let Some(entry) = interrupted.min_by_key(|entry| entry.interrupted) {
            // Who is asked once is not asked again, whatever becomes of it.
            entry.interrupted = None;
            let _ = entry.inputs.try_send(PeerInput::GiveWay);
        }
    }

    /// Of too many joiners, the oldest of the origin that has most of them gives way. Its task ends with its inputs.
    fn make_room(&mut self) {
        let pending = || self.peers.iter().filter(|(_, entry)| !entry.placed);
        if pending().count() < PENDING {
            return;
        }
        let mut of_origin: HashMap<&str, (usize, PeerKey)> = HashMap::new();
        for (key, entry) in pending() {
            of_origin.entry(&entry.origin).or_insert((0, *key)).0 += 1;
        }
        if let Some((_, oldest)) = of_origin.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest))) {
            self.forget(oldest);
        }
    }

    fn admit(
        &mut self,
        client: String,
        origin: Box<str>,
        hello: Option<Bytes>,
    ) -> (PeerContext, mpsc::Sender<PeerInput>, mpsc::Receiver<PeerInput>) {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let (inputs, receiver) = mpsc::channel(INPUTS);
        self.by_client.insert(client.clone(), key);
        let native = hello.is_some();
        let entry = Entry {
            inputs: inputs.clone(),
            client,
            origin,
            hello,
            connection: None,
            placed: !native,
            native,
            interrupted: None,
            closed: false,
        };
        self.peers.insert(key, entry);
        (self.context(key), inputs, receiver)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        connection::{ConnectionConfig, Lane, Path},
        net::{
            Relay,
            contract::{HostOptions, SessionKey},
            listening,
        },
        protocol::GameId,
    };

    async fn host() -> Host {
        let session = SessionOptions {
            relay: Relay::Memory(Default::default()),
            password: None,
            game: GameId::default(),
            metadata: Bytes::new(),
            connection: ConnectionConfig::default(),
            paths: Default::default(),
            direct: Default::default(),
            conditions: Default::default(),
        };
        let options = HostOptions {
            id: Some("x".to_owned()),
            max_peers: 4,
            locked: false,
            admission: Admission::Open,
            replace_interrupted: false,
            session,
        };
        let Ok(listening) = listening::start(&options, &mut None).await else { panic!("a relay in memory") };
        let (events, _) = crossbeam_channel::unbounded();
        let (_, commands) = mpsc::unbounded_channel();
        Host::new(SessionKey(1), options, events, commands, listening)
    }

    fn hello(number: u16) -> Bytes {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        let credentials = Credentials { host_id: "x".to_owned(), password: None, game: GameId::default() };
        let mut client =
            Connection::connect(ConnectionConfig::default(), &credentials, Bytes::new(), seed, Timestamp::ZERO)
                .unwrap();
        client.path_up(Path::Relay, Timestamp::ZERO);
        client.poll_transmit(Lane::Relay, 64 << 10, Timestamp::ZERO).unwrap()
    }

    /// Hears this hello, long after the one before: the shares of handshakes are not what bounds it.
    async fn hears(host: &mut Host, origin: &str, number: u16) {
        host.shares = super::super::Shares::new(Instant::now());
        let from = Sender { client: format!("{origin} {number}"), origin: origin.into(), listens: None };
        let route = Route { send_to: Arc::new("memory:/".parse().unwrap()), token: "x".into() };
        host.native_stranger(from, hello(number), route, true).await;
    }

    fn origins(host: &Host) -> Vec<&str> {
        host.peers.values().map(|entry| &*entry.origin).collect()
    }

    #[tokio::test]
    async fn hellos_of_many_are_remembered_up_to_a_limit() {
        let mut host = host().await;
        for number in 0..3 * PENDING as u16 {
            hears(&mut host, &number.to_string(), number).await;
            let expected = (usize::from(number) + 1).min(PENDING);
            assert_eq!((host.peers.len(), host.by_client.len()), (expected, expected));
        }
        // The latest are there, and what they say again is nothing new.
        let latest: Vec<String> = (2 * PENDING..3 * PENDING).map(|number| number.to_string()).collect();
        assert_eq!(origins(&host), latest);
        hears(&mut host, &latest[0], 2 * PENDING as u16).await;
        assert_eq!(origins(&host), latest);
    }

    #[tokio::test]
    async fn who_floods_pushes_out_its_own_hellos() {
        let mut host = host().await;
        hears(&mut host, "honest", 0).await;
        for number in 1..3 * PENDING as u16 {
            hears(&mut host, "flood", number).await;
        }
        let mut expected = vec!["flood"; PENDING];
        expected[0] = "honest";
        assert_eq!(origins(&host), expected);
    }
}
