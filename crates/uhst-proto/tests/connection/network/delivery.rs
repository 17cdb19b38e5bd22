//! Delivers packets and events between the two sides.

use super::*;

impl Network {
    pub(super) fn notify(&mut self, side: usize, input: Input) {
        self.sides[side].inbox.push_back(input);
        if self.sides[side].asleep_until <= self.now {
            self.process_inbox(side);
        }
    }

    pub(super) fn process_inbox(&mut self, side: usize) {
        let now = self.now;
        while let Some(input) = self.sides[side].inbox.pop_front() {
            match input {
                Input::Packet(lane, route, packet) => self.deliver(side, lane, route, packet),
                Input::Up(path) => self.sides[side].connection.path_up(path, now),
                Input::Down(path) => self.sides[side].connection.path_down(path, now),
            }
        }
    }

    pub(super) fn deliver(&mut self, to: usize, lane: Lane, route: u32, packet: Bytes) {
        let now = self.now;
        let is_known = to == HOST && route == self.sides[HOST].route;
        if to == HOST
            && lane == Lane::Relay
            && !is_known
            && matches!(HandshakeKind::peek(&packet), HandshakeKind::Resume(_))
        {
            match self.sides[HOST].connection.resume(packet.clone(), now) {
                Ok(()) => self.sides[HOST].route = route,
                Err(ResumeError::Challenge(reply)) => self.post(HOST, Lane::Relay, route, reply),
                Err(ResumeError::NotOpen) => {
                    let tombstone = self.sides[HOST].connection.tombstone();
                    if let Some(gone) = tombstone.and_then(|tombstone| tombstone.answer(&packet)) {
                        self.post(HOST, Lane::Relay, route, gone);
                    }
                }
                Err(_) => {}
            }
        } else if to == CLIENT || lane != Lane::Relay || is_known {
            self.sides[to].connection.receive(lane, packet, now);
        }
    }

    /// Transmits the packets of both sides, and delivers their events.
    pub(super) fn pump(&mut self) {
        for from in [CLIENT, HOST] {
            if self.sides[from].asleep_until > self.now {
                continue;
            }
            self.events(from);
            for lane in Lane::ALL {
                let limit = if lane == Lane::Relay { 64 << 10 } else { 16 << 10 };
                for packets in 0.. {
                    assert!(packets < 1000, "endless packets: {:?}", self.sides[from].connection.stats());
                    let Some(packet) = self.sides[from].connection.poll_transmit(lane, limit, self.now) else { break };
                    assert!(packet.len() <= limit);
                    let route = if from == CLIENT { self.route } else { self.sides[HOST].route };
                    self.post(from, lane, route, packet);
                }
            }
            self.events(from);
        }
    }

    fn post(&mut self, from: usize, lane: Lane, route: u32, packet: Bytes) {
        if self.direct_only && lane == Lane::Relay {
            assert!(!carries_a_message(&self.sides[1 - from].connection, lane, &packet), "a message on the relay");
        }
        let now = self.now;
        if now < self.silent_until {
            return;
        }
        let passed = self.passed.entry((from, lane)).or_insert(now);
        // Packet loss must not look like silence.
        let must_pass = now >= *passed + Duration::from_millis(500);
        if !must_pass && self.chance(self.conditions.loss) {
            if self.conditions.reported {
                self.sides[from].connection.lost_in_flight(lane);
            }
            return;
        }
        self.passed.insert((from, lane), now);
        // Both at once would exceed what is in flight at most.
        if lane == Lane::Relay && !self.conditions.reported && self.chance(self.conditions.unanswered) {
            self.sides[from].connection.lost_in_flight(lane);
        }
        for _ in 0..1 + u8::from(self.chance(self.conditions.double)) {
            let jitter = self.random(u64::from(self.conditions.jitter) + 1);
            let at = now + Duration::from_millis(u64::from(self.conditions.delay) + jitter);
            self.posted += 1;
            self.order.push(Reverse((at, self.posted)));
            let parcel = Parcel { to: 1 - from, lane, route, direct: self.direct, packet: packet.clone() };
            self.parcels.insert(self.posted, parcel);
        }
    }

    fn events(&mut self, of: usize) {
        let now = self.now;
        while let Some(event) = self.sides[of].connection.poll_event() {
            let side = &mut self.sides[of];
            assert!(side.closed.is_empty(), "{event:?} after the end");
            match event {
                ConnectionEvent::Message(Received { channel, tag, payload }) => {
                    side.unread += payload.len() + MESSAGE_OVERHEAD;
                    side.take(channel, (tag, payload.into_bytes()));
                }
                ConnectionEvent::Signal(signal) => assert_eq!(Some(signal), side.signals.pop_front()),
                ConnectionEvent::JoinRequest { .. } => {
                    assert!(!side.asked);
                    side.asked = true;
                }
                ConnectionEvent::Connected { .. } => {
                    assert!(!side.connected);
                    side.connected = true;
                }
                ConnectionEvent::Cut { .. } => side.cut = true,
                ConnectionEvent::Closed(reason) => {
                    assert!(self.may_close, "side {of} ended without a cause at {now:?}: {reason}");
                    side.closed.push(reason);
                }
                // A path that still works comes back by itself.
                ConnectionEvent::PathSilent(Path::Direct) if self.direct_dead => self.direct_down(),
                ConnectionEvent::PathSilent(Path::Relay) if of == CLIENT && self.relay_back.is_none() => self.reroute(),
                ConnectionEvent::Interrupted(_) => {
                    assert!(!side.interrupted, "interrupted twice, side {of} at {now:?}");
                    side.interrupted = true;
                    side.interruptions += 1;
                }
                ConnectionEvent::Resumed => {
                    assert!(side.interrupted, "resumed without an interruption, side {of} at {now:?}");
                    side.interrupted = false;
                }
                _ => {}
            }
        }
        let side = &mut self.sides[of];
        if side.unread > 0 && now >= side.lazy_until {
            side.connection.consumed(side.unread);
            side.unread = 0;
        }
        let bound = 2 * self.config.receive_buffer;
        assert!(side.connection.stats().unconsumed <= bound, "{:?}", side.connection.stats());
    }
}
