//! Handles the inputs from the session and the commands from the game.

use bytes::Bytes;

use super::{BATCH, Elsewhere, NativePeer, Role};
use crate::{
    connection::{Lane, Path, ResumeError},
    net::{
        conditions::NetworkConditions,
        contract::{PeerCommand, queue_cost},
        offer::Offer,
        page_end,
        peer_link::{LOCKED, PeerInput, PeerOutput, Route},
    },
    protocol::{Body, EndReason},
};

impl NativePeer {
    /// Handles an input. Returns the first message of a host that thereby shows itself to be an original.
    pub(in crate::net) fn input(&mut self, input: PeerInput) -> Option<Body> {
        let now = self.now();
        match input {
            PeerInput::Body(Body::Native { packet, .. }, route) => {
                if !std::mem::replace(&mut self.got_reply, true) {
                    self.take_offer();
                }
                if route.is_some() {
                    self.route = route;
                }
                self.receive(Lane::Relay, packet);
            }
            PeerInput::Body(body, _) => {
                if self.may_be_original() {
                    return Some(body);
                }
                if self.is_unanswered_client() && matches!(self.role, Role::Client { pinned: true, .. }) {
                    self.connection.abort(EndReason::WrongHostKey);
                    return None;
                }
                // A client without a reply may take us for an original, and repeats its messages once it has one. Later,
                // an original has taken the host's id, and the real host may still return.
                if !self.connection.is_establishing() {
                    self.report_foreign();
                }
            }
            PeerInput::Elsewhere { packet, route, client } => self.receive_elsewhere(packet, route, client),
            // The simulated network is cut.
            PeerInput::Resume { .. } if self.inbound.is_cut() => {}
            PeerInput::Resume { packet, route, client } => self.resume(packet, route, client),
            PeerInput::RelayUp(route) => self.set_relay_up(route),
            PeerInput::RelayDown => self.set_relay_down(),
            PeerInput::AddressesChanged(change) => self.direct.addresses_changed(change, &mut self.connection, now),
            PeerInput::PeerClosed => self.peer_closed(),
            PeerInput::Decide(Ok(())) => self.admit(),
            PeerInput::Decide(Err(words)) => {
                self.asked = false;
                self.refuse(EndReason::Refused(words));
            }
            PeerInput::Locked => {
                if self.connection.has_join_request() && !self.is_back() {
                    self.refuse(EndReason::Refused(LOCKED.to_owned()));
                }
            }
            PeerInput::PasswordChanged => {
                self.refuse(EndReason::Refused("the password has just been changed: join again".to_owned()));
            }
            PeerInput::GiveWay => {
                if self.connection.is_interrupted() && !self.joins_again() {
                    self.connection.close_now(EndReason::Replaced);
                }
            }
            PeerInput::GiveUp => self.connection.give_up(),
            PeerInput::JoinsAgain => self.refuse(EndReason::Rejoined),
            PeerInput::Rejoined => self.connection.close_now(EndReason::Rejoined),
            PeerInput::Conditions(conditions) => self.set_conditions(conditions),
            PeerInput::Disconnect(reason) => {
                // What the game sent before it left may still wait in the other queue.
                while let Ok(command) = self.commands.try_recv() {
                    self.command(command);
                }
                if page_end::is_closing() {
                    self.close_with_page(reason);
                } else {
                    self.connection.close(reason, now);
                }
            }
        }
        None
    }

    fn set_relay_up(&mut self, route: Option<Route>) {
        self.relay_up = true;
        if route.is_some() {
            self.route = route;
        }
        self.retry.succeeded();
        if matches!(self.role, Role::Client { .. }) {
            // Its answers to a resumption would wait behind what is worth nothing now.
            self.inbound.cut(Path::Relay);
        }
        self.connection.path_up(Path::Relay, self.now());
    }

    /// Handles the relay's report that the peer's event stream has closed. The peer may be back by now: a native peer that
    /// said no goodbye may resume, and the relay reports the loss of a stream, not its return. A client therefore sends at
    /// once: to a host that has not answered yet its introduction again, and otherwise a resumption. Its relay then tells
    /// whether a host listens, and the host whether it is the same one.
    fn peer_closed(&mut self) {
        if !self.relay_up {
            return;
        }
        if self.is_unanswered_client() {
            self.introduced = None;
            self.retry.end_pause();
        } else if !matches!(self.role, Role::Client { .. }) || !self.connection.is_open() {
            return;
        }
        self.connection.path_up(Path::Relay, self.now());
    }

    fn set_relay_down(&mut self) {
        self.relay_up = false;
        (self.post, self.missing_since) = (None, None);
        self.retry.end_pause();
        self.outbound.cut(Path::Relay);
        self.connection.lost_in_flight(Lane::Relay);
        self.connection.path_down(Path::Relay, self.now());
    }

    /// Continues the connection with the client of this id. A POST to the former one is worth nothing, and its answer
    /// would count for this one.
    fn rebind(&mut self, route: Route, client: String) {
        self.route = Some(route);
        self.drop_post();
        self.retry.end_pause();
        self.cx.notify(PeerOutput::Rebound(client));
    }

    /// Receives a packet of a joiner that seems to have lost its stream and to be another client of the relay now. Anybody can
    /// repeat its handshake packets, so the answers go both ways until the joiner sends something new.
    fn receive_elsewhere(&mut self, packet: Bytes, route: Route, client: String) {
        if packet.first() == Some(&0) {
            if !self.connection.is_establishing() {
                return;
            }
            self.elsewhere = Some(Elsewhere { route, answered: None });
        } else if !self.connection.is_new(&packet) {
            return;
        } else if self.elsewhere.take().is_some() {
            self.rebind(route, client);
            self.connection.path_up(Path::Relay, self.now());
        }
        self.receive(Lane::Relay, packet);
    }

    /// Posts the next answer of the handshake to where the joiner may be, too.
    pub(super) fn answer_elsewhere(&mut self) {
        let Some(elsewhere) = self.elsewhere.as_mut().filter(|_| self.connection.is_establishing()) else { return };
        let answer = self.connection.answer();
        if answer.is_some() && answer != elsewhere.answered {
            elsewhere.answered.clone_from(&answer);
            answer.into_iter().for_each(|answer| self.cx.post(elsewhere.route.clone(), answer));
        }
    }

    fn resume(&mut self, packet: Bytes, route: Route, client: String) {
        match self.connection.resume(packet.clone(), self.now()) {
            Ok(()) => self.rebind(route, client),
            Err(ResumeError::Challenge(challenge)) => self.cx.post(route, challenge),
            // The task is about to end.
            Err(ResumeError::NotOpen) => {
                if let Some(gone) = self.connection.tombstone().and_then(|tombstone| tombstone.answer(&packet)) {
                    self.cx.post(route, gone);
                }
            }
            // A late copy.
            Err(ResumeError::Replayed) => {}
            Err(error) => self.report_takeover(&error),
        }
    }

    pub(super) fn take_offer(&mut self) -> Option<Offer> {
        match &mut self.role {
            Role::Client { offer, .. } => offer.take(),
            Role::Host { .. } => None,
        }
    }

    fn set_conditions(&mut self, conditions: NetworkConditions) {
        self.outbound.set(conditions);
        self.inbound.set(conditions);
    }

    fn report_foreign(&mut self) {
        if !std::mem::replace(&mut self.reported_foreign, true) {
            self.cx.diagnostic("a message of the original protocol came in this peer's name; it is ignored".to_owned());
        }
    }

    fn report_takeover(&mut self, error: &ResumeError) {
        if !std::mem::replace(&mut self.reported_takeover, true) {
            self.cx.diagnostic(format!("another client tried to take over this peer's connection: {error}"));
        }
    }

    /// Handles a command, and others that wait.
    pub(super) fn command_batch(&mut self, first: PeerCommand) {
        self.command(first);
        for _ in 1..BATCH {
            let Ok(command) = self.commands.try_recv() else { break };
            self.command(command);
        }
    }

    pub(super) fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { channel, tag, payload } => {
                let cost = queue_cost(&payload);
                match self.connection.send_tagged(channel, tag, payload) {
                    Ok(()) => self.queued += cost,
                    Err(error) => {
                        self.handle.shared().sent(cost);
                        self.cx.diagnostic(format!("a message was not sent: {error}"));
                    }
                }
            }
            PeerCommand::Report(text) => self.cx.diagnostic(text),
            PeerCommand::Conditions(conditions) => self.set_conditions(conditions),
            // An unreachable peer learns the reason when it comes back, and does not keep its slot until then.
            PeerCommand::Disconnect(reason)
                if matches!(self.role, Role::Host { .. })
                    && (self.connection.is_interrupted() || self.connection.stats().path.is_none()) =>
            {
                self.is_dismissed();
                self.connection.close_now(reason);
            }
            PeerCommand::Disconnect(reason) => {
                self.is_dismissed();
                self.connection.close(reason, self.now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use n0_future::time::Instant;

    use super::{
        super::{credentials_of_a_test, posts::POST_LIMIT},
        *,
    };
    use crate::{
        connection::{Connection, ConnectionConfig, ConnectionEvent, Received, Security, Timestamp},
        net::{
            contract::{Event, EventKind, PeerHandle, PeerLimits, SendError},
            peer_link::PeerContext,
        },
        protocol::{Channel, NATIVE_VERSION, PathPolicy, Payload},
    };

    /// Exchanges packets until both sides have none.
    fn exchange(one: &mut Connection, two: &mut Connection, now: Timestamp) {
        let mut quiet = false;
        while !std::mem::replace(&mut quiet, true) {
            while let Some(packet) = one.poll_transmit(Lane::Relay, POST_LIMIT, now) {
                two.receive(Lane::Relay, packet, now);
                quiet = false;
            }
            while let Some(packet) = two.poll_transmit(Lane::Relay, POST_LIMIT, now) {
                one.receive(Lane::Relay, packet, now);
                quiet = false;
            }
        }
    }

    /// A client's task and the connection of its host, and the events for the app.
    fn pair() -> (Box<NativePeer>, Connection, crossbeam_channel::Receiver<Event>) {
        let credentials = credentials_of_a_test();
        let config = ConnectionConfig::default();
        let client = Connection::connect(config.clone(), &credentials, Bytes::new(), [1; 32], Timestamp::ZERO);
        let host = Connection::accept(config.clone(), &credentials, Bytes::new(), [2; 32], Timestamp::ZERO);
        let (client, host) = (client.expect("no metadata"), host.expect("no metadata"));
        let (cx, events) = PeerContext::of_a_test(config, PathPolicy::RelayOnly, Default::default());
        (
            NativePeer::new(
                cx,
                Role::Client { certain: true, pinned: false, offer: None },
                None,
                client,
                Instant::now(),
            ),
            host,
            events,
        )
    }

    /// Connects them, and returns the handle that the app gets.
    fn connect(
        peer: &mut NativePeer,
        host: &mut Connection,
        events: &crossbeam_channel::Receiver<Event>,
    ) -> PeerHandle {
        let now = peer.now();
        exchange(&mut peer.connection, host, now);
        host.admit(now);
        exchange(&mut peer.connection, host, now);
        peer.deliver_events();
        let handle = events.try_iter().find_map(|Event { kind, .. }| match kind {
            EventKind::Connected { handle, .. } => Some(handle),
            _ => None,
        });
        handle.expect("connected")
    }

    #[test]
    fn a_host_that_turns_out_to_be_native_keeps_its_handle() {
        let (mut peer, mut host, events) = pair();
        let limits = PeerLimits { text_only: true, native: false, ..super::super::native_limits(&peer.cx.config) };
        let (handle, mut commands) = PeerHandle::new(limits);
        let early = ["early 0", "early 1"];
        early.iter().for_each(|text| handle.send(Channel::Reliable, (*text).into()).expect("room"));
        let texts = std::iter::from_fn(|| commands.try_recv().ok()).map(|command| match command {
            PeerCommand::Send { payload: Payload::Text(text), .. } => text,
            command => panic!("{command:?}"),
        });
        let texts = texts.collect();
        handle.send(Channel::Reliable, "late".into()).expect("room");
        assert_eq!(handle.send(Channel::Reliable, vec![1].into()), Err(SendError::TextOnly));

        peer.adopt((texts, true), (handle.clone(), commands));
        let connected = connect(&mut peer, &mut host, &events);
        assert!(Arc::ptr_eq(connected.shared(), handle.shared()));
        assert_eq!(connected.shared().security(), Security::Plain, "the relay has read two texts");
        handle.send(Channel::Reliable, vec![1].into()).expect("a native peer takes binary");
        let first = peer.commands.try_recv().expect("a command");
        peer.command_batch(first);
        let now = peer.now();
        exchange(&mut peer.connection, &mut host, now);
        let received: Vec<Payload> = std::iter::from_fn(|| host.poll_event())
            .filter_map(|event| match event {
                ConnectionEvent::Message(Received { payload, .. }) => Some(payload),
                _ => None,
            })
            .collect();
        assert_eq!(received, ["early 0".into(), "early 1".into(), "late".into(), Payload::from(vec![1])]);
        // The acknowledgement is delayed.
        let later = now + Duration::from_secs(1);
        host.handle_timeout(later);
        exchange(&mut peer.connection, &mut host, later);
        peer.deliver_events();
        assert_eq!(handle.shared().queued(), 0);
    }

    /// A slow network holds back what the relay has delivered, and the relay breaks.
    #[test]
    fn a_client_that_resumes_does_not_wait_for_what_came_before() {
        let (mut peer, mut host, events) = pair();
        connect(&mut peer, &mut host, &events);
        peer.set_conditions(NetworkConditions { bandwidth: Some(1), ..NetworkConditions::PERFECT });
        host.send(Channel::Reliable, "held back".into()).expect("room");
        let packet = host.poll_transmit(Lane::Relay, POST_LIMIT, peer.now()).expect("a message");
        peer.input(PeerInput::Body(Body::Native { version: NATIVE_VERSION, packet }, None));
        peer.set_conditions(NetworkConditions::PERFECT);
        peer.input(PeerInput::RelayDown);
        assert!(!peer.inbound.is_clear(), "a goodbye may be among it");
        peer.input(PeerInput::RelayUp(None));
        assert!(peer.inbound.is_clear());
    }

    #[test]
    fn messages_in_the_queue_are_sent_before_a_goodbye() {
        let (mut peer, mut host, events) = pair();
        let handle = connect(&mut peer, &mut host, &events);
        for number in 0..10 {
            handle.send(Channel::Reliable, Payload::Binary(vec![number].into())).expect("room");
        }
        assert!(peer.input(PeerInput::Disconnect(EndReason::EndedLocally)).is_none());
        let now = peer.now();
        exchange(&mut peer.connection, &mut host, now);
        let mut received = Vec::new();
        while let Some(event) = host.poll_event() {
            match event {
                ConnectionEvent::Message(Received { payload, .. }) => received.extend_from_slice(payload.as_bytes()),
                ConnectionEvent::Closed(reason) => assert_eq!(reason, EndReason::Left),
                _ => {}
            }
        }
        assert_eq!(received, (0..10).collect::<Vec<u8>>());
        assert!(host.is_closed());
    }
}
