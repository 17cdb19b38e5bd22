//! What the session and the game tell a peer's task.

use super::{NativePeer, Role};
use crate::{
    connection::{Lane, Path, ResumeError},
    net::{
        conditions::NetworkConditions,
        contract::{PeerCommand, queue_cost},
        peer_link::{PeerInput, PeerOutput},
        plain::Offer,
    },
    protocol::{Body, EndReason},
};

impl NativePeer {
    /// `Some`: the host has shown itself to be an original, by this word.
    pub(in crate::net) fn input(&mut self, input: PeerInput) -> Option<Body> {
        let now = self.now();
        match input {
            PeerInput::Body(Body::Native { packet, .. }, route) => {
                if !std::mem::replace(&mut self.heard, true) {
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
                // A client that has not heard us yet may take us for an original: what it says is said again once it has.
                // Later, an original has taken the host's id meanwhile: the true host may yet come back.
                if !self.connection.is_establishing() {
                    self.report_foreign();
                }
            }
            PeerInput::HelloAgain { hello, route, client } => {
                if self.connection.is_establishing() {
                    (self.route, self.retry_at) = (Some(route), None);
                    self.cx.tell(PeerOutput::Rebound(client));
                    self.receive(Lane::Relay, hello);
                }
            }
            // It would come in over the cut.
            PeerInput::Resume { .. } if self.inbound.is_cut() => {}
            PeerInput::Resume { packet, route, client } => match self.connection.resume(packet.clone(), now) {
                Ok(()) => {
                    self.route = Some(route);
                    self.retry_at = None;
                    self.cx.tell(PeerOutput::Rebound(client));
                }
                Err(ResumeError::Challenge(challenge)) => self.cx.post(route, challenge),
                // The task is about to end.
                Err(ResumeError::NotOpen) => {
                    if let Some(gone) = self.connection.tombstone().and_then(|stone| stone.answer(&packet)) {
                        self.cx.post(route, gone);
                    }
                }
                // A late copy.
                Err(ResumeError::Replayed) => {}
                Err(error) => self.report_stranger(&error),
            },
            PeerInput::RelayUp(route) => {
                self.relay_up = true;
                if route.is_some() {
                    self.route = route;
                }
                self.retry_at = None;
                self.backoff.reset();
                self.connection.path_up(Path::Relay, now);
            }
            PeerInput::AddressesChanged(change) => self.direct.addresses_changed(change, &mut self.connection, now),
            PeerInput::RelayDown => {
                self.relay_up = false;
                (self.post, self.retry_at) = (None, None);
                self.outbound.cut(Path::Relay);
                self.connection.lost_in_flight(Lane::Relay);
                self.connection.path_down(Path::Relay, now);
            }
            // A native peer says goodbye itself; without one it may yet resume. A client asks at once whether its host is
            // there again, or another has its id.
            PeerInput::PeerClosed => {
                if let Role::Client { .. } = self.role
                    && self.relay_up
                    && self.connection.is_open()
                {
                    self.connection.path_up(Path::Relay, now);
                }
            }
            PeerInput::Decide(Ok(())) => self.admit(),
            PeerInput::GiveWay if self.connection.is_interrupted() => self.connection.close_now(EndReason::Replaced),
            PeerInput::GiveWay => {}
            PeerInput::Decide(Err(words)) => self.connection.refuse(EndReason::Refused(words), now),
            PeerInput::Conditions(conditions) => self.set_conditions(conditions),
            PeerInput::Disconnect(reason) => {
                // What the game sent before it left is in another queue, and may not have been looked at.
                while let Ok(command) = self.commands.try_recv() {
                    self.command(command);
                }
                self.connection.close(reason, now);
            }
        }
        None
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

    fn report_stranger(&mut self, error: &ResumeError) {
        if !std::mem::replace(&mut self.reported_stranger, true) {
            self.cx.diagnostic(format!("somebody else tried to take this peer's place: {error}"));
        }
    }

    /// A command by a handle that the game has of the original which this peer was taken for.
    pub(super) fn former_command(&mut self, command: Option<PeerCommand>) {
        match command {
            Some(PeerCommand::Send { channel, tag, payload }) => {
                if let Err(error) = self.connection.send_tagged(channel, tag, payload) {
                    self.cx.diagnostic(format!("a message was not sent: {error}"));
                }
            }
            Some(command) => self.command(command),
            None => self.former = None,
        }
    }

    pub(super) fn command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Send { channel, tag, payload } => {
                let cost = queue_cost(&payload);
                match self.connection.send_tagged(channel, tag, payload) {
                    Ok(()) => self.held += cost,
                    Err(error) => {
                        self.handle.shared().sent(cost);
                        self.cx.diagnostic(format!("a message was not sent: {error}"));
                    }
                }
            }
            PeerCommand::Report(text) => self.cx.diagnostic(text),
            PeerCommand::Conditions(conditions) => self.set_conditions(conditions),
            // One that is out of reach learns it when it comes back, and does not keep its place until then.
            PeerCommand::Disconnect(reason)
                if matches!(self.role, Role::Host { .. })
                    && (self.connection.is_interrupted() || self.connection.stats().path.is_none()) =>
            {
                self.connection.close_now(reason);
            }
            PeerCommand::Disconnect(reason) => self.connection.close(reason, self.now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::posts::POST_LIMIT, *};
    use crate::{
        connection::{Connection, ConnectionConfig, ConnectionEvent, Credentials, Timestamp},
        net::{
            contract::{Event, EventKind},
            peer_link::PeerContext,
        },
        protocol::{Channel, GameId, PathPolicy, Payload},
    };

    /// Brings packets to and fro until there are none.
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

    #[test]
    fn what_was_sent_before_leaving_goes_first_though_nobody_has_looked_at_it() {
        let credentials = Credentials { host_id: "demo".to_owned(), password: None, game: GameId::default() };
        let config = ConnectionConfig::default();
        let client = Connection::connect(config.clone(), &credentials, Bytes::new(), [1; 32], Timestamp::ZERO);
        let host = Connection::accept(config.clone(), &credentials, Bytes::new(), [2; 32], Timestamp::ZERO);
        let (client, mut host) = (client.expect("no metadata"), host.expect("no metadata"));
        let (cx, told) = PeerContext::of_a_test(config, PathPolicy::RelayOnly, Default::default());
        let mut peer = NativePeer::new(cx, Role::Client { certain: true, offer: None }, None, client);
        let now = peer.now();
        exchange(&mut peer.connection, &mut host, now);
        host.admit(now);
        exchange(&mut peer.connection, &mut host, now);
        peer.pump();
        let handle = told.try_iter().find_map(|Event { kind, .. }| match kind {
            EventKind::Connected { handle, .. } => Some(handle),
            _ => None,
        });
        let handle = handle.expect("connected");
        for number in 0..10 {
            handle.send(Channel::Reliable, Payload::Binary(vec![number].into())).expect("room");
        }
        assert!(peer.input(PeerInput::Disconnect(EndReason::EndedLocally)).is_none());
        exchange(&mut peer.connection, &mut host, now);
        let mut received = Vec::new();
        while let Some(event) = host.poll_event() {
            match event {
                ConnectionEvent::Message { payload, .. } => received.extend_from_slice(payload.as_bytes()),
                ConnectionEvent::Closed(reason) => assert_eq!(reason, EndReason::Left),
                _ => {}
            }
        }
        assert_eq!(received, (0..10).collect::<Vec<u8>>());
        assert!(host.is_closed());
    }
}
