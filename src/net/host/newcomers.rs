//! Those whom a host does not know yet: who is let in, and what becomes of the others.

use bytes::Bytes;
use n0_future::{task, time::Instant};
use tokio::sync::mpsc;

use super::{Entry, Host};
use crate::{
    connection::{Connection, Credentials, Time},
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
        frame::{self, Contact},
    },
};

/// Joiners that may be on their way in. Of more, the oldest gives way: it has had its time, unlike a new one.
const PENDING: usize = 64;
/// Handshakes begun at once, and each second: one costs a host some hundred microseconds of elliptic curves. A joiner
/// that is too many asks again a moment later.
pub(super) const HELLOS: f64 = 64.0;

impl Host {
    pub(super) async fn native_stranger(&mut self, client: String, packet: Bytes, route: Route, open: bool) {
        let began_with = |entry: &Entry| entry.hello.as_ref() == Some(&packet);
        if let Some((&key, _)) = self.peers.iter().find(|(_, entry)| began_with(entry)) {
            return self.tell(key, PeerInput::HelloAgain { hello: packet, route, client }).await;
        }
        match Contact::peek(&packet) {
            Contact::Hello if !open || !self.may_begin() => {}
            Contact::Hello if self.places.available_permits() == 0 && self.options.session.password.is_none() => {
                self.context(PeerKey(u64::MAX)).post(route, frame::refusal(&EndReason::Full));
            }
            Contact::Hello => {
                self.make_room();
                let SessionOptions { password, game, connection, metadata, .. } = &self.options.session;
                let credentials =
                    Credentials { host_id: self.id.clone(), password: password.clone(), game: game.clone() };
                let role = Role::Host { admission: self.options.admission, places: self.places.clone() };
                let (config, metadata) = (connection.clone(), metadata.clone());
                let Ok(seed) = seed() else { return };
                // Its metadata was checked at the start.
                let Ok(connection) = Connection::accept(config, &credentials, metadata, seed, Time::ZERO) else {
                    return;
                };
                let (cx, inputs, mut receiver) = self.admit(client, Some(packet.clone()));
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
            Contact::Resume(id) => match self.by_connection.get(&id) {
                Some(&key) => self.tell(key, PeerInput::Resume { packet, route, client }).await,
                None => {
                    if let Some(answer) = self.tombstones.iter().find_map(|stone| stone.answer(&packet)) {
                        self.context(PeerKey(u64::MAX)).post(route, answer);
                    }
                }
            },
            Contact::Other => self.reports.once(Nonsense::Packet, || "a packet came from nobody we know".to_owned()),
        }
    }

    /// An original whose first word this is: a text means the relay transport, a signal WebRTC.
    pub(super) async fn plain_stranger(&mut self, client: String, first: Body, route: Route) {
        if self.options.session.password.is_some() {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: it cannot prove a password".to_owned()
            });
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return self.reports.once(Nonsense::Plain, || {
                "a peer of the original protocol was ignored: the session is full".to_owned()
            });
        };
        let ask = self.options.admission == Admission::Ask;
        let direct = matches!(first, Body::Signal(_));
        let (cx, inputs, mut receiver) = self.admit(client, None);
        let _ = inputs.send(PeerInput::Body(first, Some(route.clone()))).await;
        task::spawn(async move {
            let asked = if ask { plain::ask(&cx, &mut receiver).await } else { Ok(Vec::new()) };
            let outcome = match asked {
                Ok(first) if direct => DirectPeer::answer(cx.clone(), place).run(first, &mut receiver).await,
                Ok(first) => RelayPeer::client(cx.clone(), route, place).run(first, &mut receiver).await,
                Err(reason) => Outcome::Ended(reason, None),
            };
            if let Outcome::Ended(reason, tombstone) = outcome {
                cx.tell(PeerOutput::Ended { reason, tombstone });
            }
        });
    }

    /// Whether one more handshake may begin now.
    fn may_begin(&mut self) -> bool {
        let (left, since) = self.hellos;
        let now = Instant::now();
        let left = HELLOS.min(left + (now - since).as_secs_f64() * HELLOS);
        let may = left >= 1.0;
        self.hellos = (if may { left - 1.0 } else { left }, now);
        may
    }

    /// Without its inputs, the task of the oldest joiner ends.
    fn make_room(&mut self) {
        let mut pending = self.peers.iter().filter(|(_, entry)| !entry.placed).map(|(key, _)| *key);
        if let Some(oldest) = pending.next()
            && pending.count() + 1 >= PENDING
        {
            self.forget(oldest);
        }
    }

    fn admit(
        &mut self,
        client: String,
        hello: Option<Bytes>,
    ) -> (PeerContext, mpsc::Sender<PeerInput>, mpsc::Receiver<PeerInput>) {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let (inputs, receiver) = mpsc::channel(INPUTS);
        self.by_client.insert(client.clone(), key);
        let native = hello.is_some();
        let entry =
            Entry { inputs: inputs.clone(), client, hello, connection: None, placed: !native, native, closed: false };
        self.peers.insert(key, entry);
        (self.context(key), inputs, receiver)
    }
}
